"""What a page needs to draw samples: its programs, its random numbers, directions and knobs.

The programs are ONNX files that differ from those of ``--onnx`` in their inputs: the prior takes a
class, and the decoder of a model with styles takes a truncation and a shift of the styles.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.core.errors import UsageError
from gentool.core.options import to_json
from gentool.core.rng import purpose_word
from gentool.export.graphs import Function, Part, example_latents, example_noise
from gentool.inference.blocks import prior_blocks
from gentool.inference.traversal import find_directions
from gentool.models.base import Model
from gentool.models.capabilities import CHOICE_PURPOSE, NOISE_PURPOSE, NoiseMap, Styles

_DIRECTIONS = 8
_TABLE, _TABLE_OF_A_CLASS, _MOST_ROWS = 128, 32, 1024  # drawn latents that a page holds
_MOST_CLASSES = _MOST_ROWS - _TABLE  # in the table: one row of each
_ANY_CLASS = -1


@dataclass(frozen=True)
class Drawing:
    """How a page draws the latents of a sample, and what can be changed about them.

    Attributes:
        parts: The decoder, and the prior if latents are drawn from noise.
        arrays: float32 arrays: ``directions`` (K, L), in standard deviations, if there are any; and
            ``table`` (rows, L), drawn latents, if there is no prior.
        told: The rest, as JSON values for the script of the page.
    """

    parts: list[Part]
    arrays: dict[str, NDArray[np.float32]]
    told: dict[str, object]


def plan_drawing(model: Model[Any, Any]) -> Drawing:
    """Return how a page draws samples of a model, which is on the CPU and in eval mode."""
    styles, noise = model.styles, model.noise_map
    parts = [_decoder(model, styles)]
    arrays: dict[str, NDArray[np.float32]] = {}
    told: dict[str, object] = {
        "knob": _knob(model, styled=styles is not None, noisy=noise is not None),
    }
    if styles is not None:
        told["styleLength"] = parts[0].example(1)[2].shape[1]
    if noise is not None:
        parts.append(_prior(model, noise))
        told["noise"] = _noise(noise)
    else:
        told["table"], arrays["table"] = _table(model)
    directions = _directions(model)
    if directions is not None:
        arrays["directions"] = directions
        told["directions"] = list(directions.shape)
    return Drawing(parts, arrays, told)


def _decoder(model: Model[Any, Any], styles: Styles | None) -> Part:
    """Return the decoder; with styles it also takes truncation (N, 1) and a shift (N, S) of w."""
    if styles is None:
        return Part("decoder", Function(model, model.decode), ("latents",), "images",
                    lambda count: (example_latents(model, count),))  # fmt: skip
    found = styles
    size = found.of(example_latents(model, 1)).shape[-1]

    def decode(latents: torch.Tensor, truncation: torch.Tensor, shift: torch.Tensor) -> Any:
        centre = found.centre(latents)
        moved = centre + truncation[:, :, None] * (found.of(latents) - centre)
        return found.synthesise(moved + shift[:, None])

    def example(count: int) -> tuple[torch.Tensor, ...]:
        truncation = torch.linspace(0.5, 1, count)[:, None]
        shift = torch.randn(count, size, generator=torch.Generator().manual_seed(count))
        return example_latents(model, count), truncation, shift * 0.1

    inputs = ("latents", "truncation", "shift")
    return Part("decoder", Function(model, decode), inputs, "images", example)


def _prior(model: Model[Any, Any], noise: NoiseMap) -> Part:
    """Return the prior; with classes it also takes the class of each row, -1 for a drawn one."""
    size, classes, draw = noise.size, model.classes, noise.latents
    if not classes:
        function: Callable[..., torch.Tensor] = partial(_without_class, draw)
        return Part("prior", Function(model, function), ("noise", "uniform"), "latents",
                    lambda count: example_noise(count, size))  # fmt: skip

    def of_class(normal: torch.Tensor, uniform: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        drawn, wanted = draw(normal, uniform, None), draw(normal, uniform, label.clamp(min=0))
        return torch.where((label < 0)[:, None], drawn, wanted)

    def example(count: int) -> tuple[torch.Tensor, ...]:
        return *example_noise(count, size), torch.arange(count) % (classes + 1) - 1

    inputs = ("noise", "uniform", "label")
    return Part("prior", Function(model, of_class), inputs, "latents", example)


def _without_class(
    draw: Callable[..., torch.Tensor], normal: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    return draw(normal, uniform, None)


def _knob(model: Model[Any, Any], *, styled: bool, noisy: bool) -> dict[str, object] | None:
    """Return the drawing option that the page can change, or None."""
    options = to_json(model.drawing)
    if "truncation" in options:
        return {"name": "truncation", "of": "styles" if styled else "noise", "most": 1.0}
    if "temperature" in options and noisy:
        return {"name": "temperature", "of": "noise", "most": 1.5}
    return None


def _noise(noise: NoiseMap) -> dict[str, object]:
    """Return what the script needs to compute the numbers of ``core.rng``.

    The words of the key behind the seed are hashes of the purpose and of the count of numbers,
    which for normal numbers is even.
    """
    even = noise.size + noise.size % 2
    words = {
        "normal": (NOISE_PURPOSE, even),
        "uniform": (CHOICE_PURPOSE, 1),
    }
    return {
        "size": noise.size,
        **{name: [str(purpose_word(part)) for part in parts] for name, parts in words.items()},
    }


def _table(model: Model[Any, Any]) -> tuple[dict[str, object], NDArray[np.float32]]:
    """Return the drawn latents of a model whose samples no program draws.

    Returns:
        The class and the count of each part of the table, and the latents of seed 0, (rows, L). Of
        more classes than the table has room for, the first ones are in it.
    """
    classes = min(model.classes, _MOST_CLASSES)
    each = min(_TABLE_OF_A_CLASS, (_MOST_ROWS - _TABLE) // max(classes, 1))
    counts = {_ANY_CLASS: _TABLE, **dict.fromkeys(range(classes), each)}
    rows = [
        prior_blocks(model, [(0, k) for k in range(count)], None if kind < 0 else kind)
        for kind, count in counts.items()
    ]
    table = torch.cat(rows).flatten(1).float().numpy()
    return {"parts": list(counts.items()), "width": table.shape[1]}, table


def _directions(model: Model[Any, Any]) -> NDArray[np.float32] | None:
    """Return principal directions (K, L), of a standard deviation each; None if it has none."""
    try:
        found = find_directions(model, "principal", _DIRECTIONS)
    except UsageError:
        return None
    directions: NDArray[np.float32] = (found.vectors * found.deviations[:, None]).numpy()
    return directions


def packed(data: bytes) -> bytes:
    """Return data compressed with gzip, the same bytes at every time."""
    return gzip.compress(data, 9, mtime=0)
