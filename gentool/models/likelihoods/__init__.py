"""The likelihoods p(x | z): the meaning of the decoder's output.

An entry declares how many numbers per pixel the decoder gives (``outputs``), which images have a
likelihood (``support``), whether it is a mass or a density (``discrete``), and has ``log_prob``,
``mean`` and ``sample``. Images are in [-1, 1]; ``log_prob`` sums over C, H and W to one value per
image, in nats. ``-o likelihood=NAME`` chooses one; ``auto`` chooses by the images.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gentool.core.registry import Entry, Registry, at
from gentool.models.likelihoods.base import Likelihood

__all__ = [
    "DEFAULT_SIGMA",
    "LIKELIHOODS",
    "Likelihood",
    "chosen",
    "open_likelihood",
    "suited",
    "without_scale",
]

_HERE = "gentool.models.likelihoods"
DEFAULT_SIGMA = 0.5  # initial standard deviation of scales; black to white is 1

LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    "likelihood",
    "gentool list likelihoods",
    {
        "gaussian": Entry(
            "N(x; mu(z), sigma^2) with one learned sigma (a density)",
            at(f"{_HERE}.continuous", "Gaussian"),
        ),
        "gaussian-fixed": Entry(
            "as gaussian, with sigma fixed by -o sigma (a density)",
            at(f"{_HERE}.continuous", "FixedGaussian"),
        ),
        "gaussian-pixel": Entry(
            "N(x; mu(z), sigma(z)^2) with one sigma per pixel (a density)",
            at(f"{_HERE}.continuous", "PixelGaussian"),
        ),
        "laplace": Entry(
            "absolute error with one learned scale (a density)",
            at(f"{_HERE}.continuous", "Laplace"),
        ),
        "logistic": Entry(
            "logistic over the 256 grey levels, one scale per pixel (a mass)",
            at(f"{_HERE}.logistic", "Logistic"),
        ),
        "logistic-mixture": Entry(
            "ten logistics over the 256 grey levels, channel by channel (PixelCNN++; a mass)",
            at(f"{_HERE}.logistic", "LogisticMixture"),
        ),
        "categorical": Entry(
            "a free probability for each of the 256 grey levels (a mass)",
            at(f"{_HERE}.counted", "Categorical"),
        ),
        "bernoulli": Entry(
            "black or white per pixel, for black and white images (a mass)",
            at(f"{_HERE}.counted", "Bernoulli"),
        ),
    },
)


def open_likelihood(name: str, sigma: float = DEFAULT_SIGMA) -> Likelihood:
    """Return the likelihood called ``name``.

    Args:
        name: A row of ``LIKELIHOODS``.
        sigma: Initial or fixed standard deviation of a pixel; black to white is 1. Likelihoods
            without a scale ignore it.

    Raises:
        UnknownName: there is no such row.
    """
    entry = LIKELIHOODS.get(name)
    return entry(sigma) if entry.scaled else entry()


def without_scale(name: str) -> str | None:
    """Return why the option ``sigma`` has no effect with the likelihood called ``name``."""
    if name == "auto" or LIKELIHOODS.get(name).scaled:
        return None
    return f"likelihood {name} has no scale. Leave it out, or use -o likelihood=gaussian-fixed"


def suited(pixels: NDArray[np.uint8]) -> str:
    """Return ``bernoulli`` if all pixels are 0 or 255, else ``gaussian``."""
    return "bernoulli" if bool(np.isin(pixels, (0, 255)).all()) else "gaussian"


def choose_likelihood(
    pixels: Callable[[], NDArray[np.uint8]] | None, usual: str, *, ink: bool = False
) -> tuple[str, list[str]]:
    """Choose a likelihood by the images: Bernoulli for black and white images.

    Where training changes the images, a discrete ``usual`` is replaced by ``gaussian``.

    Args:
        pixels: Returns prepared images, uint8 (N, H, W, C); None if training changes the images.
        usual: The likelihood for other images.
        ink: Whether training makes the images black and white.

    Returns:
        The name of the likelihood, and a sentence on it unless it is ``usual``.
    """
    if pixels is None and not ink and LIKELIHOODS.get(usual).discrete:
        return "gaussian", ["likelihood gaussian: training changes the grey levels of the images"]
    if not ink and (pixels is None or suited(pixels()) != "bernoulli"):
        return usual, []
    note = (
        f"likelihood bernoulli: the images are black and white (-o likelihood={usual} treats them "
        "as grey)"
    )
    return "bernoulli", [note]
