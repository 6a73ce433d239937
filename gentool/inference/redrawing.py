"""Draw what a recipe describes again: the images of ``sample``, ``interpolate`` and the like.

A recipe of one image has single values. The recipe of a sheet or a film lists the values that vary
(``merged_recipe``). A recipe is not trusted: every value is checked.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.options import Scalar, to_json
from gentool.core.rng import MAX_SEED
from gentool.core.sheet_labels import SheetLabels
from gentool.core.sheets import strip_columns
from gentool.core.signals import StopFlag
from gentool.inference.interpolation import METHODS, interpolate, mixing_sheet
from gentool.inference.latents import SPACES, Latents, decode, draw, read_latents
from gentool.inference.picks import Pick, Point, SampleOf, draw_picks, hash_of_point
from gentool.inference.recipe_files import read_recipe_file
from gentool.inference.reconstruction import (
    Method,
    find_images,
    hash_of_original,
    picture,
    read_images,
    reconstruct,
)
from gentool.inference.traversal import find_directions, label_sheet, offsets_of, traverse
from gentool.outputs.marks import hash_of_files

_MOST_IMAGES = 20_000
_MOST_STEPS = 10**6  # of a search for latents
_AT_ONCE = 256  # images that are decoded and held in memory at once
_LONG_HASH = "sha256:"  # start of a value that was too long for a recipe
_RANGES = re.compile(r"\d{1,19}(-\d{1,19})?(,\d{1,19}(-\d{1,19})?)*")
_RECORDED_DIGITS = 4  # of the deviations in a recipe of ``traverse`` of an older gentool


class NotRedrawn(UsageError):
    """A recipe lacks what is needed to draw its picture again; the message says what."""


@dataclass(frozen=True)
class Arrangement:
    """How a sheet is arranged: its columns (None for a nearly square sheet) and its labels."""

    columns: int | None = None
    labels: SheetLabels = field(default_factory=SheetLabels)


@dataclass(frozen=True)
class Redrawn:
    """The images that a recipe describes.

    Attributes:
        images: The images, uint8 (H, W, C), in order.
        count: Their number.
        arrangements: How they may be arranged in a sheet.
        any_of: Whether a picture is one of the images, and the recipe does not say which.
    """

    images: Iterator[Pixels]
    count: int
    arrangements: tuple[Arrangement, ...] = (Arrangement(),)
    any_of: bool = False


@dataclass(frozen=True)
class Keys:
    """Key frames that a recipe names, for the function that finds their latents."""

    files: list[Path]
    seeds: list[int]
    class_name: str | None
    space: str | None
    draws: dict[str, Scalar]


FindKeys = Callable[[Keys], Latents]


@dataclass(frozen=True)
class Redrawer:
    """Draws recipes of one model.

    Attributes:
        loaded: The model.
        files: Files that recipes may name: photos, originals and latents.
        find_keys: Finds the latents of key frames.
        stop: Polled during a search for latents.
        tell: Called with what the user should know.
    """

    loaded: LoadedModel
    files: Sequence[Path]
    find_keys: FindKeys
    stop: StopFlag
    tell: Callable[[str], None]

    def redraw(self, recipe: Mapping[str, Any]) -> Redrawn:
        """Return the images of a recipe.

        Raises:
            NotRedrawn: the recipe does not hold all that is needed, or is damaged.
            GentoolError: the model cannot do what the recipe asks for.
        """
        kinds = {"sample": self._sample, "interpolate": self._interpolate,
                 "traverse": self._traverse, "reconstruct": self._reconstruct}  # fmt: skip
        made_by = str(recipe.get("made_by"))
        if made_by not in kinds:
            raise NotRedrawn(f"pictures of gentool {made_by:.40} cannot be drawn again")
        cut = [key for key, value in recipe.items() if str(value).startswith(_LONG_HASH)]
        if cut:
            raise NotRedrawn(f"its recipe was too long for the file, so {cut[0]:.40} is missing")
        self.loaded.model.drawing = self.loaded.model.Drawing()
        if "point_sha256" not in recipe:  # else each image has its own options
            self.loaded.model.draw_with(**self._draws(recipe))
        return kinds[made_by](recipe)

    def _draws(self, recipe: Mapping[str, Any]) -> dict[str, Scalar]:
        """Return the options of drawing in a recipe."""
        known = to_json(self.loaded.model.Drawing())
        return {name: recipe[name] for name in known if name in recipe}

    def _sample(self, recipe: Mapping[str, Any]) -> Redrawn:
        if "point_sha256" in recipe:
            return self._picked(recipe)
        indices = numbers_in(recipe, "index")
        if "latents_sha256" in recipe:
            file = self._file(recipe["latents_sha256"], "the file of latents")
            found = read_latents(file, self.loaded).latents
            if max(indices) >= len(found):
                raise NotRedrawn(f"{file} holds only {len(found)} latents")
            chosen = Latents(found.values[indices], found.space)
            return Redrawn(iter(decode(self.loaded.model, chosen)), len(indices))
        seeds, names = numbers_in(recipe, "seed"), recipe.get("class")
        classes = names if isinstance(names, list) else [names]
        count = max(len(seeds), len(indices), len(classes))
        rows = list(zip(*(_repeated(v, count) for v in (classes, seeds, indices)), strict=True))
        per_class = [(kind, len(list(group))) for kind, group in groupby(row[0] for row in rows)]
        arrangements = [Arrangement()]
        if None not in classes and len({length for _, length in per_class}) == 1:
            labels = SheetLabels(tuple(str(kind) for kind, _ in per_class))
            arrangements.append(Arrangement(per_class[0][1], labels))
        return Redrawn(self._drawn(rows), count, tuple(arrangements))

    def _picked(self, recipe: Mapping[str, Any]) -> Redrawn:
        """Draw images of which some are points that only a file of recipes holds."""
        told = recipe["point_sha256"]
        digests = told if isinstance(told, list) else [told]
        points, unfit = self._points()
        options = {key: _listed(recipe, key, len(digests)) for key in self._draws(recipe)}
        seeds, indices, names = (
            _listed(recipe, key, len(digests)) for key in ("seed", "index", "class")
        )
        picks: list[Pick] = []
        for k, digest in enumerate(digests):
            if digest is not None and str(digest) not in points:
                raise NotRedrawn(f"it also needs its recipe.toml. Give it with --with FILE{unfit}")
            if digest is not None:
                picks.append(points[str(digest)])
                continue
            seed, index = number_in({"seed": seeds[k]}, "seed"), number_in({"i": indices[k]}, "i")
            drawing = {key: row[k] for key, row in options.items() if row[k] is not None}
            kind = None if names[k] is None else str(names[k])
            picks.append(SampleOf(seed, index, kind, drawing))
        self.loaded.model.drawing = self.loaded.model.Drawing()
        images = (image.pixels for image in draw_picks(self.loaded, picks))
        return Redrawn(images, len(picks))

    def _points(self) -> tuple[dict[str, Pick], str]:
        """Return the points in the given files of recipes, by hash.

        Returns:
            The points; and, for a message, which file does not fit the model, or nothing.
        """
        points: dict[str, Pick] = {}
        unfit = ""
        for file in self.files:
            if file.suffix.lower() != ".toml":
                continue
            try:
                picks = read_recipe_file(file, self.loaded).picks
            except UsageError as error:  # it may be for another picture
                unfit = f". One that was given does not fit: {error}"
                continue
            points |= {hash_of_point(p.latents): p for p in picks if isinstance(p, Point)}
        return points, unfit

    def _drawn(self, rows: Sequence[tuple[str | None, int, int]]) -> Iterator[Pixels]:
        """Yield the samples of (class, seed, index)."""
        for name, group in groupby(rows, lambda row: row[0]):
            label = None if name is None else self._label(name)
            draws = [(seed, index) for _, seed, index in group]
            for start in range(0, len(draws), _AT_ONCE):
                part = draw(self.loaded.model, draws[start : start + _AT_ONCE], label)
                yield from decode(self.loaded.model, part)

    def _label(self, name: str) -> int:
        """Return the number of a class, whose name may be cut in the recipe."""
        names = [kind for kind in self.loaded.header["classes"] if f"{kind:.200}" == name]
        return self.loaded.class_number(names[0] if names else str(name))

    def _interpolate(self, recipe: Mapping[str, Any]) -> Redrawn:
        if "crossover" in recipe:
            return self._mixed(recipe)
        keys = self._keys(recipe, recipe.get("space"))
        steps, frames = number_in(recipe, "steps"), numbers_in(recipe, "frame")
        method, loop = recipe.get("method"), bool(recipe.get("loop"))
        if len(keys) < 2 or not 1 <= steps <= _MOST_IMAGES:
            raise NotRedrawn("its recipe is damaged (steps)")
        count = len(keys) * steps if loop else (len(keys) - 1) * steps + 1
        if max(frames) >= count or count > _MOST_IMAGES:
            raise NotRedrawn("its recipe is damaged (frame)")
        given = method if method in METHODS else None  # a list is what gentool chooses itself
        path, wanted = interpolate(self.loaded, keys, steps, given, loop=loop), set(frames)
        images = (pixels for number, pixels in enumerate(path) if number in wanted)
        shape = self.loaded.model.shape
        columns = strip_columns(len(frames), shape.height, shape.width, steps)
        return Redrawn(images, len(frames), (Arrangement(columns),))

    def _mixed(self, recipe: Mapping[str, Any]) -> Redrawn:
        coarse, fine = self._keys(recipe, "w"), self._keys(recipe, "w", "mix_")
        layer = number_in(recipe, "crossover")
        images = mixing_sheet(self.loaded, coarse, fine, layer, corner=True)
        count = (len(coarse) + 1) * (len(fine) + 1)
        return Redrawn(images, count, (Arrangement(len(fine) + 1),), any_of=True)

    def _traverse(self, recipe: Mapping[str, Any]) -> Redrawn:
        rows, told = numbers_in(recipe, "direction"), recipe.get("deviations")
        given = told if isinstance(told, list) else [told]
        offsets = [float(offset) for offset in given if isinstance(offset, int | float)]
        if len(offsets) != len(given):
            raise NotRedrawn("its recipe is damaged (deviations)")
        found = find_directions(self.loaded.model, str(recipe.get("directions")), max(rows) + 1)
        if max(rows) >= len(found):
            raise NotRedrawn(f"the model has only {len(found)} such directions")
        start = self._keys(recipe, found.space)
        if len(offsets) == 1:  # one image: the middle of three, or an end of two
            amount = abs(offsets[0])
            pictures = list(traverse(self.loaded, start, found, 3, amount))
            at = 3 * rows[0] + (2 if offsets[0] > 0 else 0 if offsets[0] < 0 else 1)
            return Redrawn(iter(pictures[at : at + 1]), 1)
        amount, steps = max(offsets), len(offsets) // (max(rows) + 1)
        if steps < 2 or _recorded(offsets_of(steps, amount)) != _recorded(offsets[:steps]):
            raise NotRedrawn("its recipe is damaged (deviations)")
        images = traverse(self.loaded, start, found, steps, amount)
        labels = label_sheet(found, steps, amount)
        return Redrawn(images, len(offsets), (Arrangement(steps, labels),))

    def _keys(self, recipe: Mapping[str, Any], space: Any, prefix: str = "") -> Latents:
        """Return the key frames of a recipe."""
        hashes = recipe.get(f"{prefix}key_sha256", [])
        seeds, name = recipe.get(f"{prefix}seeds", []), recipe.get(f"{prefix}class")
        if not isinstance(hashes, list) or not isinstance(seeds, list) or space not in SPACES:
            raise NotRedrawn("its recipe is damaged (key frames)")
        if any(type(seed) is not int or not 0 <= seed <= MAX_SEED for seed in seeds):
            raise NotRedrawn("its recipe is damaged (seeds)")
        names = recipe.get(f"{prefix}key_files")
        if not isinstance(names, list) or len(names) != len(hashes):
            names = [f"number {k}" for k in range(len(hashes))]
        files = [
            self._file(digest, f"key file {name!s:.80}")
            for digest, name in zip(hashes, names, strict=True)
        ]
        if not files and not seeds:
            raise NotRedrawn("its recipe is damaged (key frames)")
        kind = None if name is None else self.loaded.header["classes"][self._label(str(name))]
        return self.find_keys(Keys(files, seeds, kind, space, self._draws(recipe)))

    def _reconstruct(self, recipe: Mapping[str, Any]) -> Redrawn:
        if recipe.get("fitted"):
            raise NotRedrawn("it was made with weights that were fitted to the original")
        wanted = recipe.get("original_sha256")
        digests = list(map(str, wanted if isinstance(wanted, list) else [wanted]))
        found, _ = read_images(self.loaded, find_images(self.files), self.tell)
        own = {hash_of_original(pixels): (path, pixels) for path, pixels in found.items()}
        missing = [k for k, digest in enumerate(digests) if digest not in own]
        if missing:
            names = recipe.get("original")
            name = names[missing[0]] if isinstance(names, list) else names
            raise NotRedrawn(f"it also needs the original, {name!s:.80}. Give it with --with FILE")
        images = dict(own[digest] for digest in digests)
        if len(images) != len(digests):
            raise NotRedrawn("its originals are not all different")
        steps, seed, keep = (
            number_in(recipe, key) if key in recipe else None
            for key in ("steps", "seed", "keep_top")
        )
        if steps is not None and steps > _MOST_STEPS:
            raise NotRedrawn("its recipe is damaged (steps)")
        method = Method(steps, seed or 0, drawn=bool(recipe.get("draw")), keep_top=keep)
        method.check(self.loaded)
        latents = method.find(self.loaded, images, self.stop, self.tell)
        results = reconstruct(self.loaded, images, latents)
        pictures = (picture(result, only=bool(recipe.get("alone"))) for result in results)
        return Redrawn(pictures, len(results))

    def _file(self, digest: object, what: str) -> Path:
        """Return the file with this hash among the given files.

        Raises:
            NotRedrawn: none of them has it.
        """
        for file, found in zip(self.files, hash_of_files(self.files), strict=True):
            if str(digest).startswith(found):
                return file
        raise NotRedrawn(f"it also needs {what}, with this content. Give it with --with FILE")


def number_in(recipe: Mapping[str, Any], key: str) -> int:
    """Return a whole number of a recipe.

    Raises:
        NotRedrawn: there is none.
    """
    value = recipe.get(key)
    if type(value) is not int or not 0 <= value <= MAX_SEED:
        raise NotRedrawn(f"its recipe is damaged ({key})")
    return value


def numbers_in(recipe: Mapping[str, Any], key: str) -> list[int]:
    """Return one or several whole numbers of a recipe, such as ``0-63,70``.

    Raises:
        NotRedrawn: there are none, or too many.
    """
    value = recipe.get(key)
    if not isinstance(value, str):
        return [number_in(recipe, key)]
    if not _RANGES.fullmatch(value):
        raise NotRedrawn(f"its recipe is damaged ({key})")
    found: list[int] = []
    for word in value.split(","):
        first, _, last = word.partition("-")
        begin, end = int(first), int(last or first)
        if not begin <= end <= MAX_SEED or len(found) + end - begin >= _MOST_IMAGES:
            raise NotRedrawn(f"its recipe is damaged, or has over {_MOST_IMAGES:,} images ({key})")
        found += range(begin, end + 1)
    return found


def _listed(recipe: Mapping[str, Any], key: str, count: int) -> list[Any]:
    """Return the values of a key for each image, None where an image has none.

    Raises:
        NotRedrawn: their number is another.
    """
    value = recipe.get(key)
    if key in ("seed", "index") and isinstance(value, str):
        value = numbers_in(recipe, key)
    values = value if isinstance(value, list) else [value] * count
    if len(values) != count:
        raise NotRedrawn("its recipe is damaged (values that vary)")
    return values


def _recorded(offsets: Sequence[float]) -> list[float]:
    """Return deviations as an older gentool recorded them."""
    return [round(offset, _RECORDED_DIGITS) for offset in offsets]


def _repeated(values: Sequence[Any], count: int) -> Sequence[Any]:
    """Return as many values as there are images: they are the same in all, or listed.

    Raises:
        NotRedrawn: the numbers do not fit.
    """
    if len(values) not in (1, count):
        raise NotRedrawn("its recipe is damaged (values that vary)")
    return list(values) * count if len(values) == 1 else values
