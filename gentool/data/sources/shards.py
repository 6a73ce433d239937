"""Streaming shards: ``shards:PATH-or-URL``, read and written by litdata (extra ``shards``).

A folder or an ``s3://``, ``gs://`` or ``azure://`` place. The index says how every leaf of an
item is stored; it is read here, against a list of what may be, before litdata opens anything:
litdata would otherwise unpickle what a foreign index tells it to. Images are taken by number,
so their order is the same for any number of workers and ranks.
"""

import hashlib
import io
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.core.images import encode
from gentool.data.paths import cache_folder
from gentool.data.preprocessing import BadImage, Policy, convert, decode, open_image
from gentool.data.sources.base import Loaded, Source, image_hash, source_hash

REMOTE = ("s3://", "gs://", "azure://")
CHUNK_BYTES = 2**26
_ENCODED = {"bytes", "jpeg", *(f"image:{s}" for s in ("jpg", "jpeg", "png", "webp", "bmp", "gif"))}
_LEAVES = {*_ENCODED, "pil", "str", "text", "int", "float", "bool"}
_MAX_INDEX = 2**28
_CHUNK_NAME = re.compile(r"\w[\w.-]{0,200}", re.ASCII)
_LABELS = "labels.npy"
_BATCH = 256  # images prepared between two looks at the stop flag

Progress = Callable[[int, int], None]


class _Layout(NamedTuple):
    """What the index tells: how many images, which leaf is the image, classes, its hash."""

    images: int
    image: int
    mark: int | None
    classes: tuple[str, ...]
    labels: bool
    digest: str


class ShardSource(Source):
    """Shards, opened.

    Args:
        place: A folder or a URL.

    Raises:
        DataError: no shards there, or items of a kind that is not read.
        UsageError: a URL of another kind, or litdata is not installed.
    """

    access = "threads"

    def __init__(self, place: str) -> None:
        import_litdata()
        self.place = place
        self.name = place.rstrip("/").rpartition("/")[2] or "shards"
        with tempfile.TemporaryDirectory() as scratch:
            index = _fetch(place, "index.json", Path(scratch))
            self._layout = _check_index(index, place)
            self.labels = None
            if self._layout.labels:
                self.labels = _check_labels(_fetch(place, _LABELS, Path(scratch)), self._layout)
            self._dataset = _open(place, self._layout.digest, Path(scratch))
        self.classes = self._layout.classes
        self.fingerprint = f"shards-{self._layout.digest}"
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._layout.images

    def describe(self, index: int) -> str:
        """What to call image ``index`` in a message."""
        return f"shards:{self.name} image {index}"

    def load(self, index: int, policy: Policy) -> Loaded:
        """Image ``index``, prepared; of gentool's own shards with the hash of its first file."""
        image, mark = self._item(index)
        if isinstance(image, bytes):
            return Loaded(decode(image, policy), source_hash(image) if mark is None else mark)
        return Loaded(convert(image, policy), image_hash(image))

    def open(self, index: int) -> Image.Image:
        """Image ``index`` as it is."""
        image, _ = self._item(index)
        return open_image(image) if isinstance(image, bytes) else image

    def _item(self, index: int) -> tuple[bytes | Image.Image, int | None]:
        if not 0 <= index < len(self):
            raise IndexError(f"no image {index} among {len(self)}")
        with self._lock:  # litdata reads for one thread at a time
            item = self._dataset[index]
        leaves = list(item.values()) if isinstance(item, dict) else item
        leaves = leaves if isinstance(leaves, list | tuple) else [leaves]
        image = leaves[self._layout.image]
        mark = None if self._layout.mark is None else int(leaves[self._layout.mark], 16)
        if not isinstance(image, Image.Image):
            image = bytes(image)
        return image, mark


def import_litdata() -> Any:
    """litdata, or a UsageError that names the extra."""
    try:
        import litdata
    except ImportError as error:
        raise UsageError(
            f"shards need litdata ({error.name} is missing): pip install 'gentool[shards]'"
        ) from error
    return litdata


def open_shards(words: str, download: bool) -> ShardSource:
    """The shards at a path or URL."""
    if words.startswith(("http://", "https://")):
        raise UsageError(
            f"litdata reads no shards over http. Give a folder, or {', '.join(REMOTE)} in place "
            f"of {words:.100}"
        )
    return ShardSource(words)


def _fetch(place: str, name: str, scratch: Path) -> bytes:
    """A file of the shards; DataError if it cannot be read or is too large."""
    try:
        if place.startswith(REMOTE):
            from litdata.streaming.downloader import get_downloader

            local = scratch / name
            remote = f"{place.rstrip('/')}/{name}"
            get_downloader(place, str(scratch), []).download_file(remote, str(local))
        else:
            local = Path(place).expanduser() / name
        if name == "index.json" and local.stat().st_size > _MAX_INDEX:
            raise DataError(f"the index of shards:{place:.200} is too large to be one")
        return local.read_bytes()
    except DataError:
        raise
    except Exception as error:  # every store has its own errors
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(
            f"no shards at {place:.200}: {name} cannot be read ({reason:.200}). "
            "gentool data shards writes them"
        ) from error


def _check_index(data: bytes, place: str) -> _Layout:
    """The layout that an index tells, if all in it is on the list; nothing is opened yet."""
    try:
        whole = json.loads(data)
        config, chunks = whole["config"], whole["chunks"]
        formats, own = config["data_format"], whole.get("gentool") or {}
        count = sum(int(chunk["chunk_size"]) for chunk in chunks)
        names = [chunk["filename"] for chunk in chunks]
        classes = tuple(map(str, own.get("classes", ())))
        fields = _fields(config["data_spec"], len(formats))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"the index of shards:{place:.200} is damaged or unknown") from error
    odd = next((f for f in formats if f not in _LEAVES), None)
    if odd is not None:
        raise DataError(
            f"shards:{place:.200} holds leaves stored as '{odd!s:.40}', which is refused: a pickle "
            f"could run code. Read are {', '.join(sorted(_LEAVES))}"
        )
    if config.get("item_loader") not in (None, "PyTreeLoader") or config.get("encryption"):
        raise DataError(f"shards:{place:.200} is encrypted or of a kind that holds no images")
    if not all(isinstance(name, str) and _CHUNK_NAME.fullmatch(name) for name in names):
        raise DataError(f"the index of shards:{place:.200} names files outside its folder")
    images = [k for k, kind in enumerate(formats) if kind in _ENCODED or kind == "pil"]
    named = [k for k in images if fields[k] == "image"]
    if not count or not (len(images) == 1 or named):
        raise DataError(f"shards:{place:.200} holds no images, or several in an item")
    mark = fields.index("hash") if own and "hash" in fields else None
    digest = hashlib.sha256(data).hexdigest()[:32]
    return _Layout(count, (named or images)[0], mark, classes, bool(own.get("labels")), digest)


def _fields(spec: str, count: int) -> list[str]:
    """Names of an item's leaves, "" without; ValueError for anything but one flat container."""
    _, tree = json.loads(spec)
    kind, children = tree["type"], tree["children_spec"]
    if kind is None and not children and count == 1:
        return [""]
    if kind not in ("builtins.dict", "builtins.list", "builtins.tuple") or len(children) != count:
        raise ValueError("nested items")
    if any(child["type"] is not None or child["children_spec"] for child in children):
        raise ValueError("nested items")
    if kind != "builtins.dict":
        return [""] * count
    names = json.loads(tree["context"])
    if len(names) != count:
        raise ValueError("names that do not match")
    return [str(name) for name in names]


def _check_labels(data: bytes, layout: _Layout) -> NDArray[np.int32]:
    try:
        labels = np.load(io.BytesIO(data), allow_pickle=False)
        if labels.dtype != np.int32 or labels.shape != (layout.images,):
            raise ValueError("another shape")
        if labels.min() < 0 or labels.max() >= len(layout.classes):
            raise ValueError("a label without a class")
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"the labels of these shards are damaged: {error}") from error
    checked: NDArray[np.int32] = labels
    return checked


def _open(place: str, digest: str, scratch: Path) -> Any:
    """Litdata's data set over an index that was checked."""
    from litdata.streaming.serializers import BytesSerializer

    # What is encoded stays so, for intake to decode; and nothing is ever unpickled.
    serializers = {name: BytesSerializer() for name in ("jpeg", "image", "pickle", "graph")}
    litdata = import_litdata()
    try:
        if not place.startswith(REMOTE):
            return litdata.StreamingDataset(str(Path(place).expanduser()), serializers=serializers)
        local = cache_folder() / f"shards-{digest}"
        local.mkdir(parents=True, exist_ok=True)
        found = litdata.StreamingDataset(
            place, cache_dir=str(local), serializers=serializers, index_path=str(scratch)
        )
        _ = found[0:0]  # a slice makes litdata fetch whole chunks, not image by image
        return found
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"litdata cannot open the shards at {place:.200}: {reason:.200}") from error


def write_shards(
    source: Source,
    policy: Policy,
    out: Path,
    progress: Progress | None = None,
    recipe: Mapping[str, object] | None = None,
    *,
    replace: bool = False,
) -> list[tuple[str, str]]:
    """Write the prepared images of ``source`` as shards.

    Each item is a PNG and the hash of the file that it was made from, by which a holdout split
    goes, so that it is the same split. Labels stand in a file beside.

    Args:
        source: The images.
        policy: What they become.
        out: A folder that is not there yet, or shards that may be replaced; the new folder
            appears whole or not at all.
        progress: Called with (done, total) now and then; may raise to stop.
        recipe: How the shards come about, kept in their index.
        replace: Whether a folder that is there may be replaced, with all that is in it.

    Returns:
        (name, reason) of the images that could not be read.

    Raises:
        DataError: none could be read, or the folder cannot be written.
        UsageError: the folder is there and may not be replaced, or litdata is not installed.
    """
    import_litdata()
    from litdata.streaming.writer import BinaryWriter

    if out.exists() and not replace:
        raise UsageError(f"{out} is there already. Give another folder")
    bad: list[tuple[str, str]] = []
    kept: list[int] = []
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=out.parent) as scratch:
            folder = Path(scratch) / "shards"
            writer = BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES)
            for index, found in enumerate(_prepared(source, policy, progress)):
                if isinstance(found, str):
                    bad.append((source.describe(index), found))
                    continue
                image, mark = found
                writer.add_item(len(kept), {"image": image, "hash": f"{mark:016x}"})
                kept.append(index)
            if not kept:
                raise DataError(f"none of the {len(source)} images can be read; {bad[0][1]}")
            writer.done()
            writer.merge(1)
            _add_labels(folder, source, kept, recipe)
            _put_in_place(folder, out, Path(scratch) / "old")
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from error
    return bad


def _put_in_place(folder: Path, out: Path, old: Path) -> None:
    """Move a finished folder to its place; what stood there goes to ``old``, or stays."""
    if out.exists():
        out.rename(old)
    try:
        shutil.move(folder, out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise


def _prepared(
    source: Source, policy: Policy, progress: Progress | None
) -> Iterator[tuple[bytes, int] | str]:
    """Every image as a PNG with its hash, or the reason why not, in order."""

    def one(index: int) -> tuple[bytes, int] | str:
        try:
            pixels, mark = source.load(index, policy)
        except Exception as error:
            words = (
                str(error) if isinstance(error, BadImage) else f"{type(error).__name__}: {error}"
            )
            return words.partition("\n")[0]
        return encode(pixels, ".png"), mark

    tell = progress or (lambda done, total: None)
    with ThreadPoolExecutor(1 if source.access == "sequential" else None) as pool:
        for start in range(0, len(source), _BATCH):
            tell(start, len(source))
            yield from pool.map(one, range(start, min(start + _BATCH, len(source))))
    tell(len(source), len(source))


def _add_labels(
    folder: Path, source: Source, kept: list[int], recipe: Mapping[str, object] | None
) -> None:
    """Write classes and recipe into the index, and labels beside it."""
    index = folder / "index.json"
    whole = json.loads(index.read_bytes())
    whole["gentool"] = {
        "classes": source.classes,
        "labels": source.labels is not None,
        "recipe": dict(recipe or {}),
    }
    if source.labels is not None:
        np.save(folder / _LABELS, source.labels[kept].astype(np.int32), allow_pickle=False)
    index.write_text(json.dumps(whole, sort_keys=True), encoding="utf-8")
