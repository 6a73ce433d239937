"""Plans of results: the name and the recipe of every image that a command will make."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gentool.checkpoint import LoadedModel
from gentool.core.images import ImageShape, Pixels
from gentool.core.options import to_json
from gentool.core.picture_files import hash_of_value
from gentool.core.version import __version__
from gentool.outputs.marks import Recipe

_LONGEST_LIST = 1000  # varying values that the recipe of a sheet lists; more become a hash


@dataclass(frozen=True)
class Planned:
    """One result before it is made: its file name without suffix, and its recipe."""

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """The results that a command will make.

    Attributes:
        results: Function that returns the results in order; may be called several times.
        count: Number of results.
        shape: Shape of each image.
    """

    results: Callable[[], Iterable[Planned]]
    count: int
    shape: ImageShape


@dataclass(frozen=True)
class NamedImage:
    """One result: file name without suffix, pixels uint8 (H, W, C), and recipe."""

    name: str
    pixels: Pixels
    recipe: Recipe


def named(plan: Plan, images: Iterable[Pixels]) -> Iterator[NamedImage]:
    """Yield images, which are in the order of a plan, with their names and recipes."""
    for pixels, result in zip(images, plan.results(), strict=True):
        yield NamedImage(result.name, pixels, result.recipe)


def recipe(loaded: LoadedModel, **what: object) -> dict[str, object]:
    """Return the recipe of an image: how it was made, without any path of this machine.

    Settings from ``Model.draw_with`` are included unless they have their neutral values.

    Args:
        loaded: The model.
        what: More keys of the recipe.
    """
    chosen, neutral = to_json(loaded.model.drawing), to_json(loaded.model.Drawing())
    return {
        "gentool": __version__,
        "model": str(loaded.header["model"]),
        "model_sha256": loaded.sha256,
        **{k: v for k, v in chosen.items() if v != neutral[k]},
        **what,
    }


def merged_recipe(plan: Plan) -> dict[str, object]:
    """Merge the recipes of a plan into one.

    A value that is the same in all recipes is kept. Values that vary become a list, with None
    where a recipe lacks the key; integers become text such as ``0-63,70``; a list that is too
    long becomes a hash.
    """
    merged: dict[str, object] = {}
    varying: dict[str, list[object]] = {}
    for number, result in enumerate(plan.results()):
        merged = merged or dict(result.recipe)
        for key in {*merged, *varying, *result.recipe}:
            value = result.recipe.get(key)
            if key not in varying and value != merged.get(key):
                varying[key] = [merged.get(key)] * number
            if key in varying:
                varying[key].append(value)
    return merged | {key: _short(values) for key, values in varying.items()}


def _short(values: list[object]) -> object:
    """Return integers as text such as ``0-63,70``, other values as a list; too many as a hash."""
    if all(type(value) is int for value in values):
        words = runs([int(str(value)) for value in values])
        return words if words.count(",") < _LONGEST_LIST else hash_of_value(words)
    return values if len(values) <= _LONGEST_LIST else hash_of_value(values)


def runs(numbers: list[int]) -> str:
    """Return integers as text: ``[0, 1, 2, 7]`` -> ``0-2,7``, as ``--seeds`` takes them."""
    ends: list[list[int]] = []
    for number in numbers:
        if ends and number == ends[-1][1] + 1:
            ends[-1][1] = number
        else:
            ends.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)
