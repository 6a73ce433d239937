"""Regularisers of autoencoders: terms of the loss on codes and decoder, besides reconstruction.

Each entry returns one value per image from a ``CodeTurn`` and is weighted by its ``weight`` times
``-o strength``. ``-o regularisers=mmd+tc`` uses several. If a batch holds every image twice, the
values stay the same: where images are compared in pairs, an image is not compared with itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from gentool.core.devices import to_device
from gentool.core.errors import UsageError
from gentool.core.options import option
from gentool.core.registry import Entry, Registry
from gentool.core.rng import Draw
from gentool.models.base import LossTerms

_KERNEL_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class CodeTurn:
    """The tensors that a regulariser may use in one update.

    Attributes:
        latents: Codes, or draws from the posteriors, (B, L), float32, with graph.
        decoder: The network that decodes them.
        draw: Randomness of the step.
        mean: Means of the posteriors, (B, L); None without posteriors.
        log_variance: Log-variances of the posteriors, (B, L); None without posteriors.
    """

    latents: torch.Tensor
    decoder: nn.Module
    draw: Draw
    mean: torch.Tensor | None = None
    log_variance: torch.Tensor | None = None


class Regulariser(NamedTuple):
    """One entry.

    Attributes:
        values: Function that returns one value per image, (B,).
        weight: The published weight.
        of_posteriors: Whether it needs posteriors.
    """

    values: Callable[[CodeTurn], torch.Tensor]
    weight: float
    of_posteriors: bool = False


def _kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return inverse multiquadratic kernels of all pairs of rows, (B, L) and (B, L) -> (B, B).

    They are sum_s sC / (sC + |a - b|^2) with C = 2L.
    """
    squares = (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T).clamp_min(0)
    total = torch.zeros_like(squares)
    for scale in _KERNEL_SCALES:
        width = scale * 2 * a.shape[1]
        total = total + width / (width + squares)
    return total


def discrepancy(latents: torch.Tensor, wanted: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return the unbiased squared maximum mean discrepancy of codes from a prior, per row, (B,).

    Gretton et al. 2012, Eq. 3, with the kernel and widths of Tolstikhin et al. 2018
    (arXiv:1711.01558, section 4) for a prior of unit variance; the mean over rows is the estimate.

    Args:
        latents: Codes (B, L).
        wanted: Draws from the prior, (B, L).
        indices: Sample index of each row, int64 (B,); pairs of rows with the same index are left
            out.
    """
    others = (indices[:, None] != indices[None]).to(latents)
    count = others.sum(dim=1).clamp_min(1)
    within = ((_kernel(latents, latents) + _kernel(wanted, wanted)) * others).sum(dim=1) / count
    return within - 2 * _kernel(latents, wanted).mean(dim=1)


def _mmd(turn: CodeTurn) -> torch.Tensor:
    wanted = turn.draw.normal("mmd", turn.latents.shape[1])
    indices = to_device(torch.from_numpy(turn.draw.indices), turn.latents.device)
    return discrepancy(turn.latents, wanted, indices)


def total_correlation(
    latents: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor
) -> torch.Tensor:
    """Return log q(z) - sum_j log q(z_j) per image, (B,).

    q(z) is the mixture of the posteriors of the batch: Chen et al. 2018 (arXiv:1802.04942), section
    3. The constants of their Eq. 5, which depend on the size of the data set only, are left out.

    Args:
        latents: Draws z (B, L).
        mean: Means of the posteriors, (B, L).
        log_variance: Log-variances of the posteriors, (B, L).
    """
    z = latents[:, None]
    squares = (z - mean).square() * torch.exp(-log_variance)
    terms = -0.5 * (squares + log_variance + math.log(2 * math.pi))  # (row of z, row of q, unit)
    count = math.log(len(latents))
    joint = torch.logsumexp(terms.sum(dim=2), dim=1) - count
    marginals = torch.logsumexp(terms, dim=1) - count
    return joint - marginals.sum(dim=1)


def _tc(turn: CodeTurn) -> torch.Tensor:
    assert turn.mean is not None
    assert turn.log_variance is not None
    return total_correlation(turn.latents, turn.mean, turn.log_variance)


def _code_norm(turn: CodeTurn) -> torch.Tensor:
    return 0.5 * turn.latents.square().sum(dim=1)


def _decoder_norm(turn: CodeTurn) -> torch.Tensor:
    total = torch.stack([p.float().square().sum() for p in turn.decoder.parameters()]).sum()
    return total.expand(len(turn.latents))


def _decoder_slope(turn: CodeTurn) -> torch.Tensor:
    """Return ||J_D(z)||_F^2, estimated by one probe: E_v ||J^T v||^2 with v ~ N(0, I)."""
    with torch.enable_grad():
        latents = turn.latents.detach().requires_grad_(True)
        output = turn.decoder(latents).float()
        probe = turn.draw.normal("slope", *output.shape[1:])
        (slope,) = torch.autograd.grad((output * probe).sum(), latents, create_graph=True)
    return slope.square().sum(dim=1)


REGULARISERS: Registry[Regulariser] = Registry(
    "regulariser",
    "gentool list regularisers",
    {
        "mmd": Entry(
            "MMD between codes and prior (InfoVAE, WAE: Tolstikhin 2018)",
            lambda: Regulariser(_mmd, 100.0),
        ),
        "tc": Entry(
            "total correlation of units (beta-TC-VAE: Chen 2018); needs posteriors",
            lambda: Regulariser(_tc, 5.0, of_posteriors=True),
        ),
        "code-l2": Entry(
            "L2 norm of codes (RAE: Ghosh 2020)", lambda: Regulariser(_code_norm, 1e-2)
        ),
        "decoder-l2": Entry(
            "L2 norm of decoder weights (RAE-L2: Ghosh 2020)",
            lambda: Regulariser(_decoder_norm, 1e-3),
        ),
        "decoder-gp": Entry(
            "gradient norm of the decoder (RAE-GP: Ghosh 2020)",
            lambda: Regulariser(_decoder_slope, 1e-2),
        ),
    },
)


class RegulariserOptions(Protocol):
    """The options that choose and weigh regularisers."""

    @property
    def regularisers(self) -> str:
        """Names joined by +, or ``none``."""

    @property
    def strength(self) -> float:
        """Factor on the weights of all."""


def no_regularisers(config: RegulariserOptions) -> str | None:
    """Return why the option ``strength`` has no effect."""
    if config.regularisers != "none":
        return None
    return "it is the strength of regularisers, and there are none. Give some: -o regularisers=mmd"


def no_strength(config: RegulariserOptions) -> str | None:
    """Return why the option ``regularisers`` has no effect."""
    return None if config.strength else "their strength is 0. Leave one of the two out"


def regularisers_option() -> Any:
    """Declare the option ``regularisers``, which several models have."""
    return option(
        "none", "regularisers joined by +; or none",
        choices=REGULARISERS, joined=True, idle=no_strength,
    )  # fmt: skip


def strength_option() -> Any:
    """Declare the option ``strength``, which several models have."""
    return option(
        1.0, "factor on the weights of the regularisers", low=0, high=1e6, idle=no_regularisers
    )


def denoise_option() -> Any:
    """Declare the option ``denoise``, which several models have."""
    return option(
        0.0, "standard deviation of noise on the encoder's images, where white is 1", low=0, high=10
    )


class Regularisers:
    """Regularisers joined by +.

    Args:
        names: For example ``mmd+tc``, or ``none``.
        strength: Factor on their published weights.
        posteriors: Whether the model has posteriors.

    Raises:
        UnknownName: a name is not in ``REGULARISERS``.
        UsageError: a regulariser needs posteriors where there are none.
    """

    def __init__(self, names: str, strength: float, *, posteriors: bool) -> None:
        chosen = [] if names == "none" else names.split("+")
        self.entries = {name: REGULARISERS.get(name) for name in chosen}
        self._strength = strength
        for name, entry in self.entries.items():
            if entry.of_posteriors and not posteriors:
                raise UsageError(
                    f"regulariser {name} needs posteriors, which this model does not have. "
                    f"Train a vae, or leave {name} out"
                )

    def __call__(self, turn: CodeTurn) -> LossTerms:
        """Return the weighted sum (B,), and each unweighted value by name."""
        with torch.autocast(turn.latents.device.type, enabled=False):
            parts = {name: entry.values(turn) for name, entry in self.entries.items()}
        total = torch.zeros(len(turn.latents), device=turn.latents.device)
        for name, values in parts.items():
            total = total + self._strength * self.entries[name].weight * values
        return LossTerms(total, parts)


def noisy(images: torch.Tensor, sigma: float, draw: Draw) -> torch.Tensor:
    """Return images plus Gaussian noise, for a denoising autoencoder (Vincent et al. 2008).

    Args:
        images: (B, C, H, W) in [-1, 1].
        sigma: Standard deviation of the noise, where black to white is 1; 0 changes nothing.
        draw: Randomness of the step.
    """
    if sigma == 0:
        return images
    return images + 2 * sigma * draw.normal("denoise", *images.shape[1:])
