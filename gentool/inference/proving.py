"""Prove a picture: draw its recipe again with the model, and compare the pixels.

What is drawn is written as the command wrote it, in the same format, and read again. So a JPEG, a
GIF or a video is compared with what its own encoder makes of the new images. The format is that of
the content, whatever the name of the file.
"""

import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageSequence

from gentool.core.errors import DeviceError, GentoolError, OutputClosed, Stopped
from gentool.core.free_memory import require_memory
from gentool.core.images import ImageShape, Pixels
from gentool.core.picture_files import (
    FILM_SUFFIXES,
    encode,
    open_picture,
    read_recipe,
    suffix_of,
)
from gentool.core.video_files import VIDEO_SUFFIXES, require_video
from gentool.inference.redrawing import Arrangement, NotRedrawn, Redrawer, Redrawn
from gentool.outputs.destination import parse_destination
from gentool.outputs.films import Film
from gentool.outputs.ownership import Guard
from gentool.outputs.plan import NamedImage, Plan, Planned
from gentool.outputs.writers import SheetSink

IDENTICAL, NEAR, NOT = "identical", "near", "not"
_NEAR, _NEAR_LOSSY = 4, 16  # largest differences, of 255; a lossy format enlarges them
_SAME_TO_THE_EYE = 30  # dB; above it a picture was probably compressed once more
_SPREAD = 0.3  # share of pixels that differ after a compression of the whole picture
_MOST_FRAMES = 20_000
_BYTES_PER_PIXEL = 24  # two pictures, and what is computed to compare them
_SAME_TIME = 0.5  # ms
_CAUSE = (
    "probably another number of threads, processor, device or version of torch; 'gentool info "
    "MODEL' shows with which the model was trained"
)

Frames = NDArray[np.uint8]  # (frames, H, W, 4)


class Shown(NamedTuple):
    """What a picture or film shows.

    Attributes:
        frames: The pixels of each frame.
        times: Milliseconds of each frame; None where the file holds no time.
    """

    frames: Frames
    times: list[float | None]


@dataclass(frozen=True)
class Verdict:
    """What was found about one picture.

    Attributes:
        picture: The file.
        result: ``IDENTICAL``, ``NEAR`` or ``NOT``.
        largest: Largest difference of a pixel, of 255; None if nothing could be compared.
        reason: Why it is not identical; empty if it is.
    """

    picture: Path
    result: str
    largest: int | None = None
    reason: str = ""


def prove(picture: Path, redrawer: Redrawer) -> Verdict:
    """Compare a picture with what the model makes of its recipe.

    Raises:
        Stopped: the user asked for a stop.
        DeviceError: the device is out of memory.
        OutputClosed: nobody reads the output.
    """
    recipe = read_recipe(picture) if picture.is_file() else None
    if recipe is None:
        missing = "" if picture.is_file() else "there is no such file"
        return Verdict(picture, NOT, reason=missing or "it holds no recipe of gentool")
    if (other := _other_model(recipe, redrawer)) is not None:
        return Verdict(picture, NOT, reason=other)
    try:
        suffix, there = _open(picture)
        found = [
            _compare(there, drawn, exact=suffix == ".png")
            for drawn in _candidates(suffix, recipe, redrawer.redraw(recipe))
        ]
    except NotRedrawn as error:
        return Verdict(picture, NOT, reason=str(error))
    except (Stopped, DeviceError, OutputClosed):
        raise
    except GentoolError as error:
        return Verdict(picture, NOT, reason=f"its recipe cannot be drawn: {error}")
    order = (IDENTICAL, NEAR, NOT)
    result, largest, reason = min(found, key=lambda f: (order.index(f[0]), f[1] is None, f[1]))
    return Verdict(picture, result, largest, reason)


def _other_model(recipe: Mapping[str, Any], redrawer: Redrawer) -> str | None:
    """Return why the model is not that of the recipe; None if it is."""
    wanted, own = recipe.get("model_sha256"), redrawer.loaded.sha256
    if wanted == own:
        return None
    if wanted is None:
        return f"its recipe names no model file (gentool {recipe.get('made_by')!s:.40} made it)"
    return (
        f"another model made it: its recipe names {wanted!s:.12}, and {redrawer.loaded.path} is "
        f"{own:.12}"
    )


def _candidates(suffix: str, recipe: Mapping[str, Any], drawn: Redrawn) -> Iterator[Shown]:
    """Yield what the picture may be: the image, one of several, a sheet, or a film."""
    images = np.stack(list(drawn.images))
    if "milliseconds" in recipe:
        yield _film(suffix, images, recipe)
        return
    if suffix in VIDEO_SUFFIXES or suffix == ".gif":
        raise NotRedrawn("it is a film, and its recipe is not that of one")
    if len(images) == 1 or drawn.any_of:
        yield from (_read(encode(pixels, suffix, recipe)) for pixels in images)
    if len(images) > 1:
        yield from (_sheet(suffix, images, arranged) for arranged in drawn.arrangements)


def _plan(images: Pixels) -> Plan:
    count, height, width, channels = images.shape
    results = [Planned(str(k), {}) for k in range(count)]
    return Plan(lambda: results, count, ImageShape(height, width, channels))


def _sheet(suffix: str, images: Pixels, arranged: Arrangement) -> Shown:
    """Return a sheet as it is read from its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sheet{suffix}"
        sink = SheetSink(path, _plan(images), Guard(), arranged.columns, arranged.labels)
        for k, pixels in enumerate(images):
            sink.add(NamedImage(str(k), pixels, {}))
        sink.close()
        return _open(path)[1]


def _film(suffix: str, images: Pixels, recipe: Mapping[str, Any]) -> Shown:
    """Return the frames of a film as they are read from its file."""
    time, enlarge = recipe["milliseconds"], recipe.get("enlarge", 1)
    if not isinstance(time, int | float) or not time > 0 or enlarge not in range(1, 65):
        raise NotRedrawn("its recipe is damaged (milliseconds)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"film{suffix}"
        place = parse_destination(str(path), None, Guard(), FILM_SUFFIXES)
        sink = place.open(_plan(images), io.BytesIO(), film=Film(float(time), int(enlarge)))
        for k, pixels in enumerate(images):
            sink.add(NamedImage(str(k), pixels, {}))
        sink.close()
        return _open(path)[1]


def _open(path: Path) -> tuple[str, Shown]:
    """Return the suffix of the format of a picture or film, and what it shows.

    Raises:
        NotRedrawn: it cannot be decoded.
        UsageError: there is too little memory.
    """
    try:
        data = path.read_bytes()
        suffix = suffix_of(data)
        if suffix is None:
            raise NotRedrawn("it is no picture or film of a format that gentool writes")
        return suffix, _video(path, suffix) if suffix in VIDEO_SUFFIXES else _read(data)
    except GentoolError:
        raise
    except Exception as error:  # decoders raise many types of errors on damaged files
        raise NotRedrawn(f"it cannot be decoded: {error!s:.100}") from error


def _read(data: bytes) -> Shown:
    frames: list[NDArray[np.uint8]] = []
    times: list[float | None] = []
    with open_picture(data) as image:
        count = getattr(image, "n_frames", 1)
        require_memory(
            _BYTES_PER_PIXEL * count * image.width * image.height,
            f"a comparison of {count:,} x {image.width}x{image.height} pixels",
            "Prove it where more memory is free",
        )
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert("RGBA")))
            times.append(image.info.get("duration"))
    return Shown(np.stack(frames), times)


def _video(path: Path, suffix: str) -> Shown:
    require_video(suffix)
    import av

    frames: list[NDArray[np.uint8]] = []
    starts: list[float | None] = []
    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            if len(frames) >= _MOST_FRAMES:
                raise NotRedrawn(f"it has over {_MOST_FRAMES:,} frames")
            frames.append(frame.to_ndarray(format="rgba").astype(np.uint8, copy=False))
            starts.append(frame.time)
    times = [
        None if now is None or later is None else 1000 * (later - now)
        for now, later in pairwise([*starts, None])
    ]
    return Shown(np.stack(frames), times)


def _compare(found: Shown, wanted: Shown, *, exact: bool) -> tuple[str, int | None, str]:
    """Return the result, the largest difference, and why the picture is not identical."""
    there, drawn = found.frames, wanted.frames
    if there.shape[1:3] != drawn.shape[1:3]:
        sizes = [f"{f.shape[2]}x{f.shape[1]}" for f in (there, drawn)]
        return (
            NOT,
            None,
            f"it has {sizes[0]} pixels, and its recipe makes {sizes[1]}: it was resized",
        )
    if len(there) != len(drawn):
        return NOT, None, f"it has {len(there)} frames, and its recipe makes {len(drawn)}"
    apart = np.maximum(there, drawn) - np.minimum(there, drawn)
    largest = int(apart.max())
    if largest <= (_NEAR if exact else _NEAR_LOSSY) and (why := _other_times(found, wanted)):
        return NOT, largest, why
    if largest == 0:
        return IDENTICAL, 0, ""
    if largest <= (_NEAR if exact else _NEAR_LOSSY):
        return NEAR, largest, _CAUSE
    return NOT, largest, _where(apart)


def _other_times(found: Shown, wanted: Shown) -> str:
    """Return which frame is shown for another time than the recipe says; empty if none is."""
    for number, (there, own) in enumerate(zip(found.times, wanted.times, strict=True), start=1):
        if (there is None) != (own is None) or abs((there or 0) - (own or 0)) > _SAME_TIME:
            times = ["no time" if time is None else f"{time:g} ms" for time in (there, own)]
            return f"it shows frame {number} for {times[0]}, and its recipe for {times[1]}"
    return ""


def _where(apart: NDArray[np.uint8]) -> str:
    """Return in words which pixels differ too much."""
    per_pixel = apart.max(axis=-1)
    share = float((per_pixel > 0).mean())
    noise = float(np.square(apart, dtype=np.uint16).mean(dtype=np.float64)) / 255.0**2
    if share > _SPREAD and -10 * np.log10(noise) > _SAME_TO_THE_EYE:
        return f"{share:.0%} of its pixels differ a little, as if it had been compressed again"
    rows, columns = np.nonzero((per_pixel > _NEAR).any(axis=0))
    return (
        f"{share:.2%} of its pixels differ, in columns {columns.min()} to {columns.max()} and rows "
        f"{rows.min()} to {rows.max()}"
    )
