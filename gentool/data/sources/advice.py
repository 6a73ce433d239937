"""What to do when ``--data`` names something that is no source of images.

Says what is there, and the next step.
"""

import difflib
import glob
import itertools
import json
import os
from collections.abc import Iterable
from pathlib import Path

from gentool.core.atomic_files import open_regular
from gentool.core.errors import DataError
from gentool.core.escapes import shell_line
from gentool.data.intake import Passed
from gentool.data.kinds import HEAD_BYTES, UNREAD_SUFFIXES, image_format, name_kind
from gentool.data.sources.array_header import HEADER_BYTES, is_single, parse_header

_GENERAL = "Give a folder of images, or a .zip, .tar, .npy or .npz of images"
_UNPACK = {
    ".rar": "unrar x", ".7z": "7z x", ".zst": "zstd -d", ".lz4": "lz4 -d", ".cab": "7z x",
    ".iso": "7z x", ".dmg": "7z x", ".lzh": "7z x", ".arj": "7z x",
}  # fmt: skip
_ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".tbz", ".txz", ".cbz"})
_PACKED = frozenset({".gz", ".xz", ".bz2"})
_ARRAYS = frozenset({".npy", ".npz"})
_TABLES = frozenset({".parquet", ".arrow", ".feather"})
_FILMS = frozenset({
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".3gp",
})  # fmt: skip
_STORES = frozenset({
    ".h5", ".hdf5", ".mat", ".pkl", ".pt", ".pth", ".lmdb", ".mdb", ".db", ".sqlite", ".rec",
    ".bin", ".joblib", ".pickle", ".beton", ".tfrec", ".tfrecord", ".tfrecords",
})  # fmt: skip
_KINDS = {
    "a RAR archive": ".rar", "a 7z archive": ".7z", "a Zstandard file": ".zst",
    "a Parquet table": ".parquet", "an Arrow table": ".arrow", "a Python pickle": ".pkl",
    "an HDF5 file": ".h5", "an SQLite database": ".db",
}  # fmt: skip
_WILD = frozenset("*?[")
_SEARCHED = 1000  # names that are compared with a wrong one, and matches of a pattern


def advice_on(suffix: str, path: str) -> str:
    """Return the next step for a file with this suffix that holds no image; empty if unknown."""
    if "idx3-ubyte" in path:
        return "These are files of MNIST's form: give --data torchvision:MNIST, or FashionMNIST"
    if suffix in _ARCHIVES | _ARRAYS or (suffix in _PACKED and ".tar." in path):
        return f"Give --data {path}"
    if suffix in _UNPACK:
        return f"gentool does not unpack it: {_UNPACK[suffix]} {path}, and give the folder"
    if suffix in _TABLES:
        return f"Give --data hub:{os.path.dirname(path) or '.'} (extra hub)"  # noqa: PTH120
    if suffix in _FILMS:
        return f"Take single images from it: ffmpeg -i {path} frames/%06d.png, and give frames/"
    if suffix in UNREAD_SUFFIXES or suffix == ".pdf":
        return "Convert such files to PNG or JPEG"
    if suffix in _STORES:
        return "Write its images as files, or as an array (N, H, W, C) with numpy.save"
    return ""


def advice_inside(rows: Iterable[Passed], folder: str, *, packed: bool) -> str:
    """Return the next step for a folder or archive without images, by what it holds instead.

    Args:
        rows: What was passed over.
        folder: The folder or archive.
        packed: Whether it is an archive.
    """
    for row in rows:
        if (
            row.reason == ".npy"
            and not packed
            and row.count > 1
            and _is_one_image(folder, row.first)
        ):
            code = (
                'from pathlib import Path; import numpy; numpy.save("images.npy", '
                "numpy.stack([numpy.load(f) for f in "
                f'sorted(Path({json.dumps(folder)}).rglob("*.npy"))]))'
            )
            return (
                "If each .npy is one image, join them to one array: "
                f"{shell_line(['python', '-c', code])}, and give images.npy"
            )
        inside = row.first if packed else os.path.join(folder, row.first)  # noqa: PTH118
        if advice := advice_on(row.reason, inside):
            return f"Unpack {folder} first. {advice}" if packed else advice
    return _GENERAL


def _is_one_image(folder: str, name: str) -> bool:
    """Return whether an array file in a folder has the shape of a single image."""
    try:
        with open_regular(Path(folder, name)) as file:
            return is_single(parse_header(file.read(HEADER_BYTES)).shape)
    except (OSError, ValueError, EOFError, SyntaxError):
        return False


def unusable_file(spec: str, path: Path, builtins: str) -> DataError:
    """Return the error for a file that is no source of images.

    Args:
        spec: What was given.
        path: The file.
        builtins: The names of built-in sets, for the message.
    """
    try:
        with open_regular(path) as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        return DataError(f"cannot read {spec:.200}: {error.strerror}")
    kind = name_kind(head)
    what = f"{spec:.200} is a file, but not a zip or tar" + (f", it is {kind}" if kind else "")
    if image_format(head):
        folder = os.path.dirname(spec) or "."  # noqa: PTH120
        return DataError(f"{what}. Give the folder with all images, such as --data {folder:.200}")
    suffix = _KINDS.get(kind or "", path.suffix.lower())
    if kind and kind.startswith("a film"):
        suffix = ".mp4"
    advice = "" if suffix in _ARCHIVES | _ARRAYS else advice_on(suffix, spec)
    if kind and kind.startswith("a Git LFS"):
        advice = "Then give it again"
    if kind and kind.startswith(("an HTML", "a file of zeros", "an empty")):
        advice = "Download or copy it again"
    if kind == "a text" and suffix in (".csv", ".tsv", ".txt", ".json"):
        advice = f"A file of labels is given as --labels {spec:.200}, with the images as --data"
    return DataError(f"{what}. {advice or f'Give a folder, an archive or {builtins}'}")


def nothing_there(spec: str, known: Iterable[str], builtins: str) -> DataError:
    """Return the error for a spec that names nothing.

    Args:
        spec: What was given.
        known: Prefixes and names that may have been meant.
        builtins: The names of built-in sets, for the message.
    """
    return DataError(
        f"there is nothing at {spec:.200}. "
        + (
            _as_url(spec)
            or _as_pattern(spec)
            or _as_several(spec)
            or _as_misspelt(spec, known)
            or f"{_GENERAL}, or {builtins}"
        )
    )


def _as_url(spec: str) -> str:
    if spec.startswith(("http://", "https://", "ftp://")):
        return "gentool downloads no archives: download it (curl -LO URL) and give the file"
    if spec.startswith("file://"):
        return f"Give the path: --data {spec.removeprefix('file://')}"
    if spec.startswith(("s3://", "gs://", "azure://")):
        return f"Shards in the cloud are given as --data shards:{spec}"
    return ""


def _as_pattern(spec: str) -> str:
    """Return the next step for a pattern such as ``photos/*.jpg``; empty for anything else."""
    if not _WILD & set(spec):
        return ""
    pattern = os.path.expanduser(spec)  # noqa: PTH111 - patterns are words
    found = list(itertools.islice(glob.iglob(pattern, recursive=True), _SEARCHED))  # noqa: PTH207
    fixed = itertools.takewhile(lambda part: not _WILD & set(part), spec.split("/"))
    folder = "/".join(fixed) or ("/" if spec.startswith("/") else ".")
    if not found:
        return (
            f"It is a pattern that matches no file. Give the folder itself, such as --data {folder}"
        )
    count = f"{len(found):,}" if len(found) < _SEARCHED else "many"
    if all(Path(path).is_dir() for path in found):
        return f"It is a pattern of {count} folders. Give --data for each, or --data {folder}"
    return (
        f"It is a pattern that matches {count} files. Give their folder: --data {folder} (all "
        "images in it and its subfolders are taken)"
    )


def _as_several(spec: str) -> str:
    """Return the next step for several paths in one word; empty for anything else."""
    for separator in (",", ";", ":", " ", "\n"):
        parts = [part.strip() for part in spec.split(separator)]
        if len(parts) > 1 and all(part and _is_there(part) for part in parts):
            return f"It is {len(parts)} paths. Give each: --data {' --data '.join(parts)}"
    return ""


def _as_misspelt(spec: str, known: Iterable[str]) -> str:
    """Return a path or name that is similar to a wrong one; empty if there is none."""
    names = list(known)
    for name in names:
        if name.partition(":")[2] and name.partition(":")[2].lower() == spec.lower():
            return f"Did you mean --data {name}?"
    if spec.strip() != spec and _is_there(spec.strip()):
        return f"Did you mean --data {spec.strip()}, without spaces?"
    path = Path(spec).expanduser()
    there = next((p for p in path.parents if _is_there(str(p))), None)
    if there is None or not there.is_dir():
        return ""
    missing = path.relative_to(there).parts[0]
    try:
        with os.scandir(there) as entries:
            beside = [entry.name for entry in itertools.islice(entries, _SEARCHED)]
    except OSError:
        return ""
    near = difflib.get_close_matches(missing, beside, n=1, cutoff=0.75)
    same = [name for name in beside if name.lower() == missing.lower()]
    if found := same or near:
        rest = path.relative_to(there).parts[1:]
        return f"Did you mean --data {there.joinpath(found[0], *rest)}?"
    near = difflib.get_close_matches(spec, names, n=1, cutoff=0.75)
    return f"Did you mean --data {near[0]}?" if near else ""


def _is_there(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False
