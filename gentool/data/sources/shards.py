"""Streaming shards: ``shards:PATH-or-URL``, read and written by litdata (extra ``shards``).

Shards are in a folder or at an ``s3://``, ``gs://`` or ``azure://`` URL. Their index says how
every leaf of an item is stored. It is first checked here against a list of allowed kinds, because
litdata would unpickle leaves if the index says so, and an index may come from an attacker. Images
are read by number, so their order is the same for any number of workers and ranks.
"""

import hashlib
import io
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.core.messages import Progress
from gentool.core.picture_files import encode
from gentool.data.encoded import BadImage
from gentool.data.paths import cache_folder
from gentool.data.preprocessing import Preprocessing, open_image
from gentool.data.sources.base import Decoded, Source, hash_of_some, image_hash, source_hash
from gentool.data.sources.shard_files import REMOTE, fetch, stamp_of_place

CHUNK_BYTES = 2**26
_ENCODED = {"bytes", "jpeg", *(f"image:{s}" for s in ("jpg", "jpeg", "png", "webp", "bmp", "gif"))}
_LEAVES = {*_ENCODED, "pil", "str", "text", "int", "float", "bool"}
_CHUNK_NAME = re.compile(r"\w[\w.-]{0,200}", re.ASCII)
_LABELS = "labels.npy"
_BATCH = 256  # images prepared between two calls of `progress`, which may raise to stop


class _Layout(NamedTuple):
    """What the index says about the shards.

    Attributes:
        images: Number of images.
        image: Position of the image among the leaves of an item.
        mark: Position of the source hash among the leaves, or None.
        classes: Class names.
        labels: Whether there is a file of labels.
        digest: Hash of the index.
        chunks: Names of the files with the images.
    """

    images: int
    image: int
    mark: int | None
    classes: tuple[str, ...]
    labels: bool
    digest: str
    chunks: tuple[str, ...]


class ShardSource(Source):
    """The images of shards.

    Args:
        place: A folder or a URL.

    Raises:
        DataError: there are no shards, or their items are not of an allowed kind.
        UsageError: litdata is not installed.
    """

    access = "threads"

    def __init__(self, place: str) -> None:
        import_litdata()
        self.place = place
        self.name = place.rstrip("/").rpartition("/")[2] or "shards"
        with tempfile.TemporaryDirectory() as scratch:
            index = fetch(place, "index.json", Path(scratch))
            self._layout = _check_index(index, place)
            self.labels = None
            if self._layout.labels:
                self.labels = _check_labels(fetch(place, _LABELS, Path(scratch)), self._layout)
            self.stamp = stamp_of_place(place, self._layout.chunks, Path(scratch))
            mark = hashlib.sha256(f"{self._layout.digest} {self.stamp}".encode()).hexdigest()[:32]
            self._dataset = _open(place, mark, Path(scratch))
        self.classes = self._layout.classes
        self.fingerprint = f"shards-{self._layout.digest}"
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._layout.images

    def describe(self, index: int) -> str:
        """Return the name of image ``index`` for messages."""
        return f"shards:{self.name} image {index}"

    def open(self, index: int) -> Decoded:
        """Return image ``index``, not prepared, with the source hash if the shards contain it."""
        image, mark = self._item(index)
        if isinstance(image, bytes):
            return Decoded(open_image(image), source_hash(image) if mark is None else mark)
        return Decoded(image, image_hash(image))

    def spot_check(self) -> str:
        """Return the contents of some images, or what the server says about its files."""
        if self.place.startswith(REMOTE):
            return self.stamp or ""
        return hash_of_some(self._bytes, len(self))

    def _bytes(self, index: int) -> bytes:
        image, _ = self._item(index)
        return image if isinstance(image, bytes) else image.tobytes()

    def _item(self, index: int) -> tuple[bytes | Image.Image, int | None]:
        if not 0 <= index < len(self):
            raise IndexError(f"there is no image {index}; the source has {len(self)}")
        with self._lock:  # only one thread at a time may read from litdata
            item = self._dataset[index]
        leaves = list(item.values()) if isinstance(item, dict) else item
        leaves = leaves if isinstance(leaves, list | tuple) else [leaves]
        image = leaves[self._layout.image]
        mark = None if self._layout.mark is None else int(leaves[self._layout.mark], 16)
        if not isinstance(image, Image.Image):
            image = bytes(image)
        return image, mark


def import_litdata() -> Any:
    """Import and return litdata.

    Raises:
        UsageError: it is not installed; the message names the extra.
    """
    try:
        import litdata
    except ImportError as error:
        raise UsageError(
            f"shards: needs the library litdata ({error.name} is missing): "
            "pip install 'gentool[shards]'"
        ) from error
    return litdata


def open_shards(words: str, download: bool) -> ShardSource:
    """Open the shards at a path or URL; ``download`` is ignored.

    Raises:
        UsageError: the URL begins with http:// or https://, which litdata does not read.
    """
    if words.startswith(("http://", "https://")):
        raise UsageError(
            f"litdata cannot read shards over http. Give a folder, or {', '.join(REMOTE)} instead "
            f"of {words:.100}"
        )
    return ShardSource(words)


def _check_index(data: bytes, place: str) -> _Layout:
    """Return the layout from the bytes of an index; nothing else is opened yet.

    Raises:
        DataError: the index is damaged, or it contains a kind that is not allowed.
    """
    try:
        whole = json.loads(data)
        config, chunks = whole["config"], whole["chunks"]
        formats, own = config["data_format"], whole.get("gentool") or {}
        count = sum(int(chunk["chunk_size"]) for chunk in chunks)
        names = [chunk["filename"] for chunk in chunks]
        classes = tuple(map(str, own.get("classes", ())))
        fields = _fields(config["data_spec"], len(formats))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"the index of shards:{place:.200} is damaged or has an unknown format"
        ) from error
    odd = next((f for f in formats if f not in _LEAVES), None)
    if odd is not None:
        raise DataError(
            f"shards:{place:.200} contains leaves of type '{odd!s:.40}', which are refused: a "
            f"pickle could run code. Allowed: {', '.join(sorted(_LEAVES))}"
        )
    if config.get("item_loader") not in (None, "PyTreeLoader") or config.get("encryption"):
        raise DataError(
            f"shards:{place:.200} is encrypted or is of a type that gentool does not read"
        )
    if not all(isinstance(name, str) and _CHUNK_NAME.fullmatch(name) for name in names):
        raise DataError(f"the index of shards:{place:.200} names files outside its folder")
    images = [k for k, kind in enumerate(formats) if kind in _ENCODED or kind == "pil"]
    named = [k for k in images if fields[k] == "image"]
    if not count or not (len(images) == 1 or named):
        raise DataError(f"shards:{place:.200} contains no images, or several per item")
    mark = fields.index("hash") if own and "hash" in fields else None
    digest = hashlib.sha256(data).hexdigest()[:32]
    image, labels = (named or images)[0], bool(own.get("labels"))
    return _Layout(count, image, mark, classes, labels, digest, tuple(names))


def _fields(spec: str, count: int) -> list[str]:
    """Return the names of an item's leaves, "" for leaves without names.

    Raises:
        ValueError: an item is not a single leaf or one flat dict, list or tuple.
    """
    _, tree = json.loads(spec)
    kind, children = tree["type"], tree["children_spec"]
    if kind is None and not children and count == 1:
        return [""]
    if kind not in ("builtins.dict", "builtins.list", "builtins.tuple") or len(children) != count:
        raise ValueError("its items are nested")
    if any(child["type"] is not None or child["children_spec"] for child in children):
        raise ValueError("its items are nested")
    if kind != "builtins.dict":
        return [""] * count
    names = json.loads(tree["context"])
    if len(names) != count:
        raise ValueError("its names do not match its fields")
    return [str(name) for name in names]


def _check_labels(data: bytes, layout: _Layout) -> NDArray[np.int32]:
    try:
        labels = np.load(io.BytesIO(data), allow_pickle=False)
        if labels.dtype != np.int32 or labels.shape != (layout.images,):
            raise ValueError("their number or type is wrong")
        if labels.min() < 0 or labels.max() >= len(layout.classes):
            raise ValueError("a label has no class")
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"the labels of these shards are damaged: {error}") from error
    checked: NDArray[np.int32] = labels
    return checked


def _open(place: str, mark: str, scratch: Path) -> Any:
    """Open the data set with litdata, after its index was checked.

    Args:
        place: A folder or a URL.
        mark: Changes with the files; chunks from a URL are kept in a folder with this name.
        scratch: A folder with the index.
    """
    from litdata.streaming.serializers import BytesSerializer

    # Images stay encoded, since preprocessing decodes them; and nothing is ever unpickled.
    serializers = {name: BytesSerializer() for name in ("jpeg", "image", "pickle", "graph")}
    litdata = import_litdata()
    try:
        if not place.startswith(REMOTE):
            return litdata.StreamingDataset(str(Path(place).expanduser()), serializers=serializers)
        local = cache_folder() / f"shards-{mark}"
        local.mkdir(parents=True, exist_ok=True)
        found = litdata.StreamingDataset(
            place, cache_dir=str(local), serializers=serializers, index_path=str(scratch)
        )
        _ = found[0:0]  # a slice makes litdata fetch whole chunks instead of single images
        return found
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"litdata cannot open the shards at {place:.200}: {reason:.200}") from error


def write_shards(
    source: Source,
    preprocessing: Preprocessing,
    out: Path,
    progress: Progress | None = None,
    recipe: Mapping[str, object] | None = None,
    *,
    replace: bool = False,
) -> list[tuple[str, str]]:
    """Write the prepared images of ``source`` as shards.

    Each item is a PNG and the hash of its source file. A hold-out split depends on this hash, so
    the shards give the same split as ``source``. Labels are in a separate file.

    Args:
        source: Where the images come from.
        preprocessing: How the images are prepared.
        out: A folder that does not exist yet, or that ``replace`` allows to be replaced. It is
            complete or does not appear at all.
        progress: Called with (done, total) now and then; may raise to stop.
        recipe: How the shards were made; stored in their index.
        replace: Whether an existing folder may be replaced, with all its contents.

    Returns:
        (name, reason) of the images that could not be read.

    Raises:
        DataError: no image could be read, or the folder cannot be written.
        UsageError: the folder exists and may not be replaced, or litdata is not installed.
    """
    import_litdata()
    from litdata.streaming.writer import BinaryWriter

    if out.exists() and not replace:
        raise UsageError(f"{out} already exists. Choose another folder")
    bad: list[tuple[str, str]] = []
    kept: list[int] = []
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=out.parent) as scratch:
            folder = Path(scratch) / "shards"
            writer = BinaryWriter(str(folder), chunk_bytes=CHUNK_BYTES)
            for index, found in enumerate(_prepared(source, preprocessing, progress)):
                if isinstance(found, str):
                    bad.append((source.describe(index), found))
                    continue
                image, mark = found
                writer.add_item(len(kept), {"image": image, "hash": f"{mark:016x}"})
                kept.append(index)
            if not kept:
                raise DataError(
                    f"none of the {len(source)} images can be read; the first: {bad[0][1]}"
                )
            writer.done()
            writer.merge(1)
            _add_labels(folder, source, kept, recipe)
            _put_in_place(folder, out, Path(scratch) / "old")
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from error
    return bad


def _put_in_place(folder: Path, out: Path, old: Path) -> None:
    """Move a finished folder to ``out``.

    An older folder at ``out`` is moved to ``old``, and is moved back if this fails.
    """
    if out.exists():
        out.rename(old)
    try:
        shutil.move(folder, out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise


def _prepared(
    source: Source, preprocessing: Preprocessing, progress: Progress | None
) -> Iterator[tuple[bytes, int] | str]:
    """Yield every image in order, as a PNG with its source hash, or the reason why it is bad."""

    def one(index: int) -> tuple[bytes, int] | str:
        try:
            loaded = source.load(index, preprocessing)
        except Exception as error:
            words = (
                str(error) if isinstance(error, BadImage) else f"{type(error).__name__}: {error}"
            )
            return words.partition("\n")[0]
        return encode(loaded.pixels, ".png"), loaded.content_hash

    tell = progress or (lambda done, total: None)
    with ThreadPoolExecutor(1 if source.access == "sequential" else None) as pool:
        for start in range(0, len(source), _BATCH):
            tell(start, len(source))
            yield from pool.map(one, range(start, min(start + _BATCH, len(source))))
    tell(len(source), len(source))


def _add_labels(
    folder: Path, source: Source, kept: list[int], recipe: Mapping[str, object] | None
) -> None:
    """Write classes and recipe into the index, and labels into a file in the same folder."""
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
