"""The likelihood seam: p(x | z), what the decoder's output means.

An entry says how many numbers per pixel the decoder gives (``outputs``), which images it can be
asked about (``support``), whether it is a mass or a density (``discrete``), and has ``log_prob``,
``mean`` and ``sample``. Images are in [-1, 1] as everywhere; ``log_prob`` sums over C, H and W to
one value per image, in nats. ``-o likelihood=NAME`` chooses; ``auto`` looks at the images.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gentool.core.errors import UsageError
from gentool.core.registry import Entry, Registry, at
from gentool.models.likelihoods.base import Likelihood

__all__ = [
    "DEFAULT_SIGMA",
    "LIKELIHOODS",
    "Likelihood",
    "chosen",
    "open_likelihood",
    "suited",
]

_HERE = "gentool.models.likelihoods"
DEFAULT_SIGMA = 0.5  # standard deviation that scales begin with; black to white is 1

LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    "likelihood",
    "gentool list likelihoods",
    {
        "gaussian": Entry(
            "N(x; mu(z), sigma^2) with one learned sigma (a density)",
            at(f"{_HERE}.continuous", "Gaussian"),
        ),
        "gaussian-fixed": Entry(
            "the same with sigma fixed by -o sigma (a density)",
            at(f"{_HERE}.continuous", "FixedGaussian"),
        ),
        "gaussian-pixel": Entry(
            "N(x; mu(z), sigma(z)^2) with a sigma per pixel (a density)",
            at(f"{_HERE}.continuous", "PixelGaussian"),
        ),
        "laplace": Entry(
            "absolute error with one learned scale (a density)",
            at(f"{_HERE}.continuous", "Laplace"),
        ),
        "logistic": Entry(
            "logistic over the 256 grey levels, a scale per pixel (a mass)",
            at(f"{_HERE}.logistic", "Logistic"),
        ),
        "logistic-mixture": Entry(
            "ten logistics over the 256 grey levels, channels in turn (PixelCNN++; a mass)",
            at(f"{_HERE}.logistic", "LogisticMixture"),
        ),
        "categorical": Entry(
            "a free probability for each of the 256 grey levels (a mass)",
            at(f"{_HERE}.counted", "Categorical"),
        ),
        "bernoulli": Entry(
            "ink or no ink per pixel, for black and white images (a mass)",
            at(f"{_HERE}.counted", "Bernoulli"),
        ),
    },
)


def open_likelihood(name: str, sigma: float = DEFAULT_SIGMA) -> Likelihood:
    """The likelihood called ``name``.

    Args:
        name: A row of the table.
        sigma: Standard deviation of a pixel that its scale begins with, or keeps; black to white
            is 1.

    Raises:
        UsageError: ``sigma`` is given to a likelihood without a scale.
    """
    entry = LIKELIHOODS.get(name)
    if entry.scaled:
        return entry(sigma)
    if sigma != DEFAULT_SIGMA:
        raise UsageError(
            f"likelihood {name} has no scale for -o sigma={sigma:g}. Leave it out, or use "
            "-o likelihood=gaussian-fixed"
        )
    return entry()


def suited(pixels: NDArray[np.uint8]) -> str:
    """The likelihood for images of these pixels: ``bernoulli`` if all are 0 or 255."""
    return "bernoulli" if bool(np.isin(pixels, (0, 255)).all()) else "gaussian"


def chosen(
    config: Any, pixels: Callable[[], NDArray[np.uint8]] | None, usual: str, *, ink: bool = False
) -> tuple[Any, list[str]]:
    """A model's config with ``likelihood`` auto made a choice: Bernoulli for black and white.

    Args:
        config: Options of a model, one of them ``likelihood``.
        pixels: Gives prepared images, uint8 (N, H, W, C); None if training changes them.
        usual: The likelihood for other images.
        ink: Whether images are made black and white.

    Returns:
        The config, and the choice in words if it is not the usual one.
    """
    if config.likelihood != "auto":
        return config, []
    if pixels is None and not ink and LIKELIHOODS.get(usual).discrete:
        note = "training changes the images' grey levels: likelihood gaussian"
        return replace(config, likelihood="gaussian"), [note]
    if not ink and (pixels is None or suited(pixels()) != "bernoulli"):
        return replace(config, likelihood=usual), []
    note = f"black and white images: likelihood bernoulli (-o likelihood={usual}: as if grey)"
    return replace(config, likelihood="bernoulli"), [note]
