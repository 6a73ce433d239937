"""Find out which images a model was trained on, and which were held out.

The split into training images and held-out images depends on the bytes of the files, and any
conversion changes these bytes. A run with ``--holdout`` therefore stores in its model file hashes
of the prepared pixels of the images that it kept out, and one digest of the hashes of all training
images. Later, an image counts as held out only if these hashes prove it.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gentool.checkpoint import Header, LoadedModel
from gentool.core.errors import ModelFileError
from gentool.core.images import Pixels
from gentool.data import Dataset, ImageArray, Split, Subset
from gentool.data.preprocessing import HIDDEN_COLOURS

MOST_KEPT = 2**14  # most hashes in a model file: 175 kB of text
_AT_ONCE = 256  # images that are hashed between two calls of ``poll``
_HASH = np.dtype("<u8")

Hashes = NDArray[np.uint64]
Poll = Callable[[], None]


def _go_on() -> None:
    """Do nothing: the default ``poll``, which never stops the work."""


@dataclass(frozen=True)
class KeptOut:
    """Record in a model file of the images that were kept out of training.

    Attributes:
        images: How many images were kept out; images with equal pixels count once.
        hashes: Hashes of their prepared pixels, sorted, uint64. If there are more than
            ``MOST_KEPT``, only the smallest are stored, which is a random choice of images.
        training: ``digest`` of the hashes of the training images.
    """

    images: int
    hashes: Hashes
    training: str

    @property
    def complete(self) -> bool:
        """Whether ``hashes`` lists every image that was kept out."""
        return self.images == len(self.hashes)

    def to_json(self) -> Header:
        """Return the record as JSON for the header of a model file."""
        return {"images": self.images, "hashes": to_text(self.hashes), "training": self.training}


class Sides(NamedTuple):
    """Division of a data set into training images and held-out images of a model.

    Attributes:
        trained: The images that the model was trained on; empty if ``why`` is given.
        held_out: The images that the model was certainly not trained on.
        why: Why some images could not be assigned, as text; None if all were.
        alike: How many images were kept out but have the same pixels as one that the weights were
            trained on or fitted to.
    """

    trained: Subset
    held_out: Subset
    why: str | None = None
    alike: int = 0


def pixel_hashes(images: ImageArray, poll: Poll = _go_on) -> Hashes:
    """Return 64 bits of the SHA-256 of the pixels of each image, uint64 (N,).

    Args:
        images: uint8 (N, H, W, C).
        poll: Called once per 256 images; may raise to stop.
    """
    found = np.empty(len(images), dtype=_HASH)
    for start in range(0, len(images), _AT_ONCE):
        poll()
        block = np.ascontiguousarray(images[start : start + _AT_ONCE])
        for row, image in enumerate(block, start=start):
            found[row] = int.from_bytes(hashlib.sha256(image.data).digest()[:8], "little")
    return found


def digest(hashes: Hashes) -> str:
    """Return one text that identifies a set of hashes: their count and their sum modulo 2^64.

    The order of the hashes and repeated hashes make no difference.
    """
    different = np.unique(hashes)
    return f"{len(different)}-{int(different.sum(dtype=np.uint64)):016x}"


def keep_out(split: Split, poll: Poll = _go_on) -> KeptOut:
    """Return the record of the images that are held out; a hash on both sides is trained on."""
    trained, kept_out = (pixel_hashes(side.images, poll) for side in split)
    unseen = np.setdiff1d(kept_out, trained)  # sorted
    return KeptOut(len(unseen), unseen[:MOST_KEPT], digest(trained))


def to_text(hashes: Hashes) -> str:
    """Return hashes as base64 text for a header."""
    return base64.b64encode(hashes.astype(_HASH).tobytes()).decode()


def _from_text(words: object) -> Hashes:
    """Return the hashes in a header's base64 text; ValueError unless sorted and distinct."""
    if not isinstance(words, str) or len(words) > 4 * (8 * MOST_KEPT // 3 + 1):
        raise ValueError("hashes")
    hashes = np.frombuffer(base64.b64decode(words, validate=True), dtype=_HASH)
    if len(hashes) > 1 and not (hashes[:-1] < hashes[1:]).all():
        raise ValueError("the hashes are not sorted")
    return hashes


def read_kept(header: Header) -> KeptOut | None:
    """Read the record of kept-out images from the header of a model file.

    Returns:
        The record; None for runs without a hold-out and for older files.

    Raises:
        ValueError: the record is damaged.
    """
    data = header["training"].get("data")
    found = data.get("kept_out") if isinstance(data, dict) else None
    if found is None:
        return None
    if not isinstance(found, dict) or found.keys() != {"images", "hashes", "training"}:
        raise ValueError("kept_out")
    images, training, hashes = found["images"], found["training"], _from_text(found["hashes"])
    if type(images) is not int or not isinstance(training, str) or len(training) > 40:
        raise ValueError("kept_out")
    if len(hashes) != min(images, MOST_KEPT):
        raise ValueError("kept_out has a wrong number of hashes")
    return KeptOut(images, hashes, training)


def without_blobs(header: Header) -> Header:
    """Return a header for display: without the hashes, but with their number."""
    training: dict[str, Any] = dict(header["training"])
    for place in ("data", "fitted"):
        part = training.get(place)
        if isinstance(part, dict):
            training[place] = {k: v for k, v in part.items() if k != "hashes"}
    data = training.get("data")
    if isinstance(data, dict) and isinstance(data.get("kept_out"), dict):
        kept = {k: v for k, v in data["kept_out"].items() if k != "hashes"}
        training["data"] = {**data, "kept_out": kept}
    return {**header, "training": training}


def fitted_record(loaded: LoadedModel, pixels: Sequence[Pixels]) -> Header:
    """Return the record for a model file of the images that its weights were fitted to.

    Hashes of images that ``loaded`` was fitted to before are included. If these are not known, the
    record holds no hashes at all.

    Args:
        loaded: The model before the fit.
        pixels: uint8 (H, W, C) each, all of one shape.
    """
    record: Header = {"images": len(pixels), "of": loaded.sha256}
    try:
        before = _fitted(loaded.header)
    except (ValueError, binascii.Error):
        before = None
    if before is None:
        return record
    hashes = np.union1d(before, pixel_hashes(np.stack(list(pixels))))
    return {**record, "hashes": to_text(hashes[:MOST_KEPT])}


def _fitted(header: Header) -> Hashes | None:
    """Return hashes of the images that weights were fitted to after training.

    Returns:
        Empty if there was no such fit; None if the images are not known.

    Raises:
        ValueError: the header is damaged.
    """
    fitted = header["training"].get("fitted")
    if fitted is None:
        return np.empty(0, dtype=_HASH)
    if not isinstance(fitted, dict) or "hashes" not in fitted:
        return None
    hashes = _from_text(fitted["hashes"])
    return hashes if len(hashes) < MOST_KEPT else None


def tell_sides(loaded: LoadedModel, dataset: Dataset, poll: Poll = _go_on) -> Sides:
    """Find which images of a data set the model was trained on, and which it was not.

    Args:
        loaded: The model.
        dataset: Images, prepared as for its training (``LoadedModel.training_preprocessing``).
        poll: Called repeatedly; may raise to stop.

    Raises:
        ModelFileError: the record of kept-out or fitted images in its file is damaged.
    """
    try:
        kept, fitted = read_kept(loaded.header), _fitted(loaded.header)
    except (ValueError, binascii.Error) as error:
        raise ModelFileError(f"the header of {loaded.path} is damaged ({error!s:.80})") from error
    if fitted is None or (len(fitted) and loaded.training_preprocessing.margin):
        return _unknown(dataset, "its weights were fitted to images that its file does not list")
    if kept is None:
        sides = _by_fingerprint(loaded, dataset)
        hashes = pixel_hashes(dataset.images if len(fitted) else dataset.images[:0], poll)
    else:
        hashes = pixel_hashes(dataset.images, poll)
        sides = _by_hashes(kept, hashes, dataset.split(loaded.holdout))
    if not len(fitted):
        return sides
    rows = sides.held_out.rows
    seen = np.isin(hashes[rows], fitted)
    held_out = Subset(dataset, rows[~seen])
    return sides._replace(held_out=held_out, alike=sides.alike + int(seen.sum()))


def _unknown(dataset: Dataset, why: str) -> Sides:
    """Return sides without images, for the reason ``why``."""
    none = Subset(dataset, np.empty(0, dtype=np.int64))
    return Sides(none, none, why)


def _about_alpha(dataset: Dataset) -> str:
    """Return why the images of an older model may seem to be others; empty without alpha."""
    return f" ({HIDDEN_COLOURS})" if dataset.shape.mode == "rgba" else ""


def _by_hashes(kept: KeptOut, hashes: Hashes, split: Split) -> Sides:
    """Divide a data set by the record of kept-out images in a model file.

    There are three cases. The split rule gives exactly the training images: the files are the
    same, or a pack of them. Or the images that are not listed as kept out are exactly the training
    images: the files have another format. Otherwise only the listed images are known.
    """
    dataset = split.train.dataset
    trained, kept_out = (side.rows for side in split)
    if digest(hashes[trained]) == kept.training:
        unseen = ~np.isin(hashes[kept_out], hashes[trained])
        rows = kept_out[unseen]
        return Sides(split.train, Subset(dataset, rows), None, int((~unseen).sum()))
    listed = np.isin(hashes, kept.hashes)
    held_out, rest = (Subset(dataset, np.flatnonzero(side)) for side in (listed, ~listed))
    if kept.complete and digest(hashes[rest.rows]) == kept.training:
        return Sides(rest, held_out)
    kept_out_of_it = f"of the {kept.images:,} images that it kept out"
    if not len(held_out):
        return _unknown(
            dataset,
            f"they are not the training images, and they contain none {kept_out_of_it}"
            f"{_about_alpha(dataset)}",
        )
    why = f"they contain {len(held_out):,} {kept_out_of_it}; the others are unknown"
    return _unknown(dataset, why)._replace(held_out=held_out)


def _by_fingerprint(loaded: LoadedModel, dataset: Dataset) -> Sides:
    """Divide a data set by its fingerprint, for model files that hold no hashes.

    These are the files of runs without a hold-out, and files of older versions.
    """
    data = loaded.header["training"].get("data")
    words = data if isinstance(data, dict) else {}
    dataset = dataset.as_before(words.get("fingerprint"))
    split = dataset.split(loaded.holdout)
    if words.get("fingerprint") != dataset.fingerprint:
        return _unknown(
            dataset,
            f"they are not the set of images that it was trained on{_about_alpha(dataset)}",
        )
    if words.get("images") != len(split.train):
        return _unknown(
            dataset,
            "their files are not those of the training, and an older gentool made the model file, "
            "which does not list what was kept out",
        )
    return Sides(split.train, split.held_out)
