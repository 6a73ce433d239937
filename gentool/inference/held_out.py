"""Which images a model was trained on, and which it was not.

A split goes by the bytes of the files, which any conversion changes. So a run with ``--holdout``
keeps in its model file hashes of what it kept out, of the prepared pixels, and one number over
all that it was trained on. Only what these prove counts as held out later.
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
from gentool.data import Dataset

MOST_KEPT = 2**14  # hashes in a model file: 175 kB of text
_AT_ONCE = 256  # images hashed between two looks at the stop flag
_HASH = np.dtype("<u8")

Rows = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Poll = Callable[[], None]


def _go_on() -> None:
    """Nobody asks to stop."""


@dataclass(frozen=True)
class KeptOut:
    """What a model file says of the images that its training kept out.

    Attributes:
        images: How many, of different pixels.
        hashes: Of their prepared pixels, sorted; the smallest ones if they are more than
            ``MOST_KEPT``, which is a choice by chance.
        training: ``digest`` of the hashes of the images that it was trained on.
    """

    images: int
    hashes: Hashes
    training: str

    @property
    def complete(self) -> bool:
        """Whether all of them are listed."""
        return self.images == len(self.hashes)

    def to_json(self) -> Header:
        """For the header of a model file."""
        return {"images": self.images, "hashes": to_text(self.hashes), "training": self.training}


class Sides(NamedTuple):
    """What is known of the images of a data set.

    Attributes:
        trained: Numbers of those that the model was trained on; none where ``why`` says so.
        held_out: Numbers of those that it certainly was not.
        why: Why not all is known, in words; None if it is.
        alike: How many were kept out but look exactly like an image of the training.
    """

    trained: Rows
    held_out: Rows
    why: str | None = None
    alike: int = 0


def pixel_hashes(images: Pixels, poll: Poll = _go_on) -> Hashes:
    """64 bits of the SHA-256 of the pixels of each image, uint64 (N,); ``poll`` may raise."""
    found = np.empty(len(images), dtype=_HASH)
    for start in range(0, len(images), _AT_ONCE):
        poll()
        block = np.ascontiguousarray(images[start : start + _AT_ONCE])
        for row, image in enumerate(block, start=start):
            found[row] = int.from_bytes(hashlib.sha256(image.data).digest()[:8], "little")
    return found


def digest(hashes: Hashes) -> str:
    """One number over a set of hashes, whatever their order and however often each occurs."""
    different = np.unique(hashes)
    return f"{len(different)}-{int(different.sum(dtype=np.uint64)):016x}"


def keep_out(dataset: Dataset, holdout: float, poll: Poll = _go_on) -> KeptOut:
    """What a run on these images says of those that it keeps out."""
    hashes = pixel_hashes(dataset.images, poll)
    trained, kept_out = (hashes[rows] for rows in dataset.split(holdout))
    return _kept(trained, kept_out)


def _kept(trained: Hashes, kept_out: Hashes) -> KeptOut:
    """Of hashes of both sides; an image that is on both was trained on."""
    unseen = np.setdiff1d(kept_out, trained)  # sorted
    return KeptOut(len(unseen), unseen[:MOST_KEPT], digest(trained))


def to_text(hashes: Hashes) -> str:
    """Hashes for a header."""
    return base64.b64encode(hashes.astype(_HASH).tobytes()).decode()


def _from_text(words: object) -> Hashes:
    """Sorted, different hashes from a header; ValueError if they are anything else."""
    if not isinstance(words, str) or len(words) > 4 * (8 * MOST_KEPT // 3 + 1):
        raise ValueError("hashes")
    hashes = np.frombuffer(base64.b64decode(words, validate=True), dtype=_HASH)
    if len(hashes) > 1 and not (hashes[:-1] < hashes[1:]).all():
        raise ValueError("hashes that are not sorted")
    return hashes


def read_kept(header: Header) -> KeptOut | None:
    """What the header of a model file says; None for runs without a hold-out, and older files.

    Raises:
        ValueError: it says something impossible.
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
        raise ValueError("kept_out: another number of hashes")
    return KeptOut(images, hashes, training)


def without_blobs(header: Header) -> Header:
    """A header for people: the hashes are left out, their number stays."""
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
    """What a model file says of the images that weights of ``loaded`` were fitted to.

    Those that they were fitted to before are added, where they are known.
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
    """Hashes of the images that weights were fitted to afterwards; None if they are not known.

    Raises:
        ValueError: the header says something impossible.
    """
    fitted = header["training"].get("fitted")
    if fitted is None:
        return np.empty(0, dtype=_HASH)
    if not isinstance(fitted, dict) or "hashes" not in fitted:
        return None
    hashes = _from_text(fitted["hashes"])
    return hashes if len(hashes) < MOST_KEPT else None


def tell_sides(loaded: LoadedModel, dataset: Dataset, poll: Poll = _go_on) -> Sides:
    """Which images of a data set the model was trained on, and which it was not.

    Args:
        loaded: The model.
        dataset: Images, prepared as for its training (``LoadedModel.training_policy``).
        poll: Called now and then; may raise to stop.

    Raises:
        ModelFileError: what its file says of the images that were kept out is damaged.
    """
    try:
        kept, fitted = read_kept(loaded.header), _fitted(loaded.header)
    except (ValueError, binascii.Error) as error:
        raise ModelFileError(f"{loaded.path}: its header is damaged ({error!s:.80})") from error
    none = np.empty(0, dtype=np.int64)
    if fitted is None or (len(fitted) and loaded.training_policy.margin):
        return Sides(none, none, "its weights were fitted to images that its file does not list")
    if kept is None:
        sides = _by_fingerprint(loaded, dataset)
        hashes = pixel_hashes(dataset.images if len(fitted) else dataset.images[:0], poll)
    else:
        hashes = pixel_hashes(dataset.images, poll)
        sides = _by_hashes(kept, hashes, dataset.split(loaded.holdout))
    if not len(fitted):
        return sides
    seen = np.isin(hashes[sides.held_out], fitted)
    return sides._replace(held_out=sides.held_out[~seen], alike=sides.alike + int(seen.sum()))


def _by_hashes(kept: KeptOut, hashes: Hashes, split: tuple[Rows, Rows]) -> Sides:
    """By what a model file keeps.

    Either the rule of the split gives exactly the images of the training, as in the same files or a
    pack of them; or all but the listed ones are these, as in files of another format; or only the
    listed ones are known.
    """
    trained, kept_out = split
    if digest(hashes[trained]) == kept.training:
        unseen = ~np.isin(hashes[kept_out], hashes[trained])
        return Sides(trained, kept_out[unseen], None, int((~unseen).sum()))
    listed = np.isin(hashes, kept.hashes)
    held_out = np.flatnonzero(listed)
    rest = np.flatnonzero(~listed)
    if kept.complete and digest(hashes[rest]) == kept.training:
        return Sides(rest, held_out)
    kept_out_of_it = f"of the {kept.images:,} images that it kept out"
    if not len(held_out):
        return Sides(
            rest[:0],
            held_out,
            f"they are not those of its training, and hold none {kept_out_of_it}",
        )
    why = f"they hold {len(held_out):,} {kept_out_of_it}, and nothing is known of the others"
    return Sides(rest[:0], held_out, why)


def _by_fingerprint(loaded: LoadedModel, dataset: Dataset) -> Sides:
    """For runs without a hold-out, and files of before, which keep no hashes."""
    data = loaded.header["training"].get("data")
    words = data if isinstance(data, dict) else {}
    trained, kept_out = dataset.split(loaded.holdout)
    none = trained[:0]
    if words.get("fingerprint") != dataset.fingerprint:
        return Sides(none, none, "they are not the set of images that it was trained on")
    if words.get("images") != len(trained):
        return Sides(none, none, "their files are not those of the training, and an older gentool "
                     "made the model file, which does not list what was kept out")  # fmt: skip
    return Sides(trained, kept_out)
