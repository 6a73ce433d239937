"""The model that the page shows: its pictures, directions and photos.

Every method that computes is called by one thread at a time; only ``search`` may run beside them.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.core.images import Pixels, mean_squared_error, psnr, to_pixels
from gentool.core.signals import StopFlag
from gentool.data import BadImage, decode
from gentool.explore.pictures import Between, Photo, Picture, Sample
from gentool.inference.blocks import encode_blocks
from gentool.inference.interpolation import between
from gentool.inference.latents import Latents, images_at, join, natural_space, of_images, to_styles
from gentool.inference.picks import (
    Pick,
    Point,
    SampleOf,
    bytes_of_point,
    decode_points,
    points_of,
)
from gentool.inference.reconstruction import find_latents
from gentool.inference.traversal import Directions, find_directions, moved

DIRECTIONS = 8  # sliders
_MOST_PHOTOS = 64
_MOST_POINTS = 4096  # points of samples that are kept
_MOST_NUMBERS = 2**25  # in all of these: 128 MiB


@dataclass
class _Dropped:
    """A photo: its pixels, uint8 (H, W, C), and its latents, once they are found."""

    pixels: Pixels
    latents: Latents | None = None


class Session:
    """A model and what was found with it.

    Args:
        loaded: The model.

    Attributes:
        loaded: The model.
        generation: Rises by one when a newer model takes its place.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded, self.generation = loaded, 0
        self._photos: OrderedDict[str, _Dropped] = OrderedDict()
        self._points: OrderedDict[Sample, Latents] = OrderedDict()
        self._directions: dict[str, Directions] = {}

    def replace(self, loaded: LoadedModel) -> None:
        """Show another model from now on; photos stay where it takes their shape."""
        same = loaded.model.shape == self.loaded.model.shape
        self.loaded, self.generation = loaded, self.generation + 1
        self._points.clear()
        self._directions.clear()
        kept = [(name, photo.pixels) for name, photo in self._photos.items()] if same else []
        self._photos = OrderedDict((name, _Dropped(pixels)) for name, pixels in kept)

    def directions(self, by: str) -> Directions:
        """Return the strongest directions of the model.

        Raises:
            UsageError: the model has none of this kind.
        """
        if by not in self._directions:
            self._directions[by] = find_directions(self.loaded.model, by, DIRECTIONS)
        return self._directions[by]

    # Pictures

    def draw(self, pictures: Sequence[Picture]) -> Pixels:
        """Return pictures, uint8 (N, H, W, C), the same as those of ``picks``.

        Raises:
            UsageError: the model cannot draw one of them.
        """
        return decode_points(self.loaded, self.points(pictures))

    @torch.inference_mode()
    def sketch(self, picture: Picture) -> Pixels:
        """Return one picture, uint8 (1, H, W, C), in the shortest time.

        A few pixels may differ by one level from those of ``draw``, which computes in blocks.

        Raises:
            UsageError: the model cannot draw it.
        """
        (point,) = self.points([picture])
        return to_pixels(images_at(self.loaded.model, point.values, point.space))

    def points(self, pictures: Sequence[Picture]) -> list[Latents]:
        """Return the point of every picture.

        Raises:
            UsageError: the model has no such class, directions or option, or the photo is gone.
        """
        self._draw_samples(list(dict.fromkeys(_samples(pictures))))
        return [self._point(picture) for picture in pictures]

    def picks(self, pictures: Sequence[Picture]) -> list[Pick]:
        """Return pictures as picks, of which a file of recipes can be made.

        Raises:
            UsageError: as for ``points``.
        """
        found: list[Pick] = []
        for picture, point in zip(pictures, self.points(pictures), strict=True):
            if isinstance(picture.start, Sample) and not any(x for _, x in picture.moves):
                start = picture.start
                options = dict(start.drawing)
                found.append(SampleOf(start.seed, start.index, start.class_name, options))
            else:
                found.append(Point(point, in_words(picture)))
        return found

    def _draw_samples(self, samples: Sequence[Sample]) -> None:
        """Draw the points of samples that are not kept yet."""
        for sample in samples:
            if sample in self._points:
                self._points.move_to_end(sample)
        new = [sample for sample in samples if sample not in self._points]
        picks = [SampleOf(s.seed, s.index, s.class_name, dict(s.drawing)) for s in new]
        self._points |= zip(new, points_of(self.loaded, picks), strict=True)
        size = next(iter(self._points.values())).values.numel() if self._points else 1
        most = max(len(samples), min(_MOST_POINTS, _MOST_NUMBERS // size))
        while len(self._points) > most:
            self._points.popitem(last=False)

    def _point(self, picture: Picture) -> Latents:
        start = self._start(picture.start)
        moves = {number: distance for number, distance in picture.moves if distance}
        if not moves:
            return start
        directions = self.directions(picture.by)
        if wrong := [number for number in moves if number >= len(directions)]:
            raise UsageError(
                f"there is no direction {wrong[0]}; this model has {len(directions)} by "
                f"{directions.method}"
            )
        if directions.space == "w":
            start = to_styles(self.loaded.model, start)
        return moved(start, directions, moves)

    def _start(self, start: Sample | Photo | Between) -> Latents:
        if isinstance(start, Sample):
            return self._points[start]
        if isinstance(start, Photo):
            return self._latents_of(start.name)
        model = self.loaded.model
        keys = [self._point(key) for key in start.keys]
        if natural_space(model) == "w":
            keys = [to_styles(model, key) for key in keys]
        return between(model, join(keys), start.at)

    # Photos

    def add_photo(self, data: bytes) -> str:
        """Keep a photo, and return its name.

        Raises:
            UsageError: the bytes are no image that can be read.
            NoEncoder: the model has no encoder.
        """
        try:
            pixels = decode(data, self.loaded.preprocessing)
        except BadImage as error:
            raise UsageError(f"this photo cannot be read: {error}") from error
        name = hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
        if name not in self._photos:
            self._photos[name] = _Dropped(np.array(pixels))  # the decoder gives read-only ones
        self._photos.move_to_end(name)
        self._latents_of(name)
        self._forget_oldest()
        return name

    def original(self, name: str) -> Pixels:
        """Return a photo as the model sees it, uint8 (1, H, W, C).

        Raises:
            UsageError: it is no longer kept.
        """
        return self._photo(name).pixels[None]

    def likeness(self, name: str) -> float:
        """Return the PSNR of the reconstruction of a photo, in dB; higher is better.

        Raises:
            UsageError: it is no longer kept.
        """
        rebuilt = decode_points(self.loaded, [self._latents_of(name)])[0]
        return psnr(mean_squared_error(self._photo(name).pixels, rebuilt))

    def search(self, name: str, stop: StopFlag) -> Latents:
        """Search for better latents of a photo; ``keep`` keeps them.

        Raises:
            UsageError: the photo is no longer kept.
            Stopped: ``stop`` was asked for.
        """
        pixels = self._photo(name).pixels
        return find_latents(self.loaded, pixels[None], None, 0, stop)

    def keep(self, name: str, latents: Latents) -> str:
        """Keep a photo with these latents beside the one that has others, and return its name.

        Raises:
            UsageError: the photo is no longer kept.
        """
        pixels = self._photo(name).pixels
        digest = hashlib.sha256(pixels.tobytes() + bytes_of_point(latents)).hexdigest()
        found = digest[:16]
        self._photos[found] = _Dropped(pixels, latents)
        self._photos.move_to_end(found)
        self._forget_oldest()
        return found

    def _forget_oldest(self) -> None:
        while len(self._photos) > _MOST_PHOTOS:
            self._photos.popitem(last=False)

    def _photo(self, name: str) -> _Dropped:
        if name not in self._photos:
            raise UsageError("this photo is no longer kept here. Drop it again")
        return self._photos[name]

    def _latents_of(self, name: str) -> Latents:
        photo = self._photo(name)
        if photo.latents is None:
            model = self.loaded.model
            photo.latents = of_images(model, encode_blocks(model, photo.pixels[None]))
        return photo.latents


def _samples(pictures: Sequence[Picture]) -> Iterator[Sample]:
    """Yield the samples at which pictures, and the keys of paths, start."""
    for picture in pictures:
        if isinstance(picture.start, Sample):
            yield picture.start
        elif isinstance(picture.start, Between):
            yield from _samples(picture.start.keys)


def in_words(picture: Picture) -> str:
    """Return where a picture comes from, such as ``seed 7, index 3; principal 2 by +1.5``."""
    start = picture.start
    if isinstance(start, Sample):
        named = f", class {start.class_name:.80}" if start.class_name is not None else ""
        words = f"seed {start.seed}, index {start.index}{named}"
        words += "".join(f", {name} {value:g}" for name, value in start.drawing)
    elif isinstance(start, Photo):
        words = f"photo {start.name}"
    else:
        words = f"at {start.at:g} between " + " and ".join(f"({in_words(k)})" for k in start.keys)
    moves = [f"{picture.by} {number} by {x:+g}" for number, x in picture.moves if x]
    return "; ".join([words, *moves])


def model_name(path: Path) -> str:
    """Return a short name of a model: that of its run folder, or of its file."""
    return path.parent.name if path.name == "model.safetensors" else path.stem
