"""Densities: Gaussian and Laplace, with a fixed, a shared or a per-pixel scale.

Pixels of 8-bit images have only 256 values, at which a density could become arbitrarily large. A
learned scale is therefore at least a third of a grey level; with a smaller one, the density would
only learn the levels.
"""

import math

import torch
from torch import nn
from torch.nn.functional import softplus

from gentool.models.likelihoods.base import Likelihood, quantile, softly_bounded

_SCALE_RATE = 10.0  # Adam changes the log-scale so much faster than a weight: it must change much
_MIN_LOG_SCALE = -6.0  # exp(-6) = 0.3 grey levels
_MAX_LOG_SCALE = 5.0


class _Continuous(Likelihood):
    discrete = False
    scaled = True
    support = "finite pixels"
    otherwise = "images without infinite pixels or NaN"

    def supports(self, images: torch.Tensor) -> torch.Tensor:
        """Return whether all pixels are finite."""
        return images.isfinite().all()


class _SharedScale(_Continuous):
    """One learned scale for all pixels of all images.

    Args:
        sigma: Initial standard deviation; black to white is 1.
    """

    deviation = 1.0  # standard deviation of a variable of scale 1

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        start = max(math.log(2 * sigma / self.deviation), _MIN_LOG_SCALE + 1e-3)
        above = start - _MIN_LOG_SCALE
        inverse = above + math.log(-math.expm1(-above))  # of softplus
        self.raw_log_scale = nn.Parameter(torch.tensor((inverse + _MIN_LOG_SCALE) / _SCALE_RATE))

    @property
    def log_scale(self) -> torch.Tensor:
        """Log of the scale, for pixels in [-1, 1]; a scalar, softly bounded below by -6."""
        raw = _SCALE_RATE * self.raw_log_scale
        return _MIN_LOG_SCALE + softplus(raw - _MIN_LOG_SCALE)

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z] = mu(z), clipped to [-1, 1]."""
        return params.float().clamp(-1, 1)


def _log_normal(
    images: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor | float
) -> torch.Tensor:
    log_scale = torch.as_tensor(log_scale, device=images.device)
    z = (images.float() - mean.float()) * torch.exp(-log_scale)
    constant = log_scale + 0.5 * math.log(2 * math.pi)
    return -(0.5 * z.square() + constant).sum(dim=(1, 2, 3))


class Gaussian(_SharedScale):
    """p(x | z) = N(x; mu(z), sigma^2 I) with one learned sigma for all pixels.

    The optimal sigma^2 is the mean squared error, which balances reconstruction and KL without a
    weight (Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders",
    arXiv:2006.13202); with sigma fixed at 1, samples of VAEs are blurred.
    """

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, a density on [-1, 1]^D, shape (B,)."""
        return _log_normal(images, params, self.log_scale)

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return mu + sigma noise, clipped to [-1, 1]."""
        return (params.float() + torch.exp(self.log_scale) * noise).clamp(-1, 1)


class FixedGaussian(_Continuous):
    """p(x | z) = N(x; mu(z), (2 sigma)^2 I) for pixels in [-1, 1], with a given sigma.

    It is the squared error with a weight set by hand, as in most implementations: the weight of the
    KL becomes beta' = beta sigma^2.

    Args:
        sigma: Standard deviation; black to white is 1.
    """

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        self.scale = 2 * sigma

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, a density on [-1, 1]^D, shape (B,)."""
        return _log_normal(images, params, math.log(self.scale))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z] = mu(z), clipped to [-1, 1]."""
        return params.float().clamp(-1, 1)

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return mu + 2 sigma noise, clipped to [-1, 1]."""
        return (params.float() + self.scale * noise).clamp(-1, 1)


class PixelGaussian(_Continuous):
    """p(x | z) = prod N(x_i; mu_i(z), sigma_i(z)^2): the decoder gives mu and log sigma.

    Kingma and Welling 2014 (arXiv:1312.6114), appendix C.2.

    Args:
        sigma: Standard deviation where the decoder's output is 0; black to white is 1.
    """

    params_per_channel = 2

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        self.start = math.log(2 * sigma)

    def _split(self, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, raw = params.float().chunk(2, dim=1)
        return mean, softly_bounded(self.start + raw, _MIN_LOG_SCALE, _MAX_LOG_SCALE)

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, a density on [-1, 1]^D, shape (B,)."""
        return _log_normal(images, *self._split(params))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z] = mu(z), clipped to [-1, 1]."""
        return self._split(params)[0].clamp(-1, 1)

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return mu + sigma noise, clipped to [-1, 1]."""
        mean, log_scale = self._split(params)
        return (mean + torch.exp(log_scale) * noise).clamp(-1, 1)


class Laplace(_SharedScale):
    """p(x | z) = prod exp(-|x_i - mu_i(z)| / b) / 2b with one learned b for all pixels.

    The optimal b is the mean absolute error; outliers and edges cost less than in a Gaussian.

    Args:
        sigma: Initial standard deviation, sqrt(2) b; black to white is 1.
    """

    deviation = math.sqrt(2)

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, a density on [-1, 1]^D, shape (B,)."""
        log_scale = self.log_scale
        distance = (images.float() - params.float()).abs() * torch.exp(-log_scale)
        return -(distance + log_scale + math.log(2)).sum(dim=(1, 2, 3))

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return mu + b times a standard Laplace quantile, clipped to [-1, 1]."""
        centred = quantile(noise) - 0.5
        unit = -centred.sign() * torch.log1p(-2 * centred.abs())
        return (params.float() + torch.exp(self.log_scale) * unit).clamp(-1, 1)
