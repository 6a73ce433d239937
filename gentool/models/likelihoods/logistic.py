r"""Logistic laws over the 256 grey levels: one, or a mixture.

A level x has the mass of the interval half a step d/2 around it; the darkest and the brightest
have the tails as well (Kingma et al. 2016, arXiv:1606.04934; Salimans et al. 2017, "PixelCNN++",
arXiv:1701.05517, Eq. 2):

    P(x) = sigmoid((x + d/2 - mu) / s) - sigmoid((x - d/2 - mu) / s).

Its logarithm is taken as it stands, for all scales, with no case for small masses:
log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a)).
"""

import math

import torch
from torch.nn.functional import logsigmoid, softplus

from gentool.models.likelihoods.base import (
    LEVELS,
    STEP,
    Likelihood,
    level,
    on_levels,
    quantile,
    softly_bounded,
)

_MIN_LOG_SCALE, _MAX_LOG_SCALE = -7.0, 3.0  # of s: a tenth of a level; flat over all levels
_DEVIATION = math.pi / math.sqrt(3)  # standard deviation of a logistic of scale 1


def log_mass(images: torch.Tensor, mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """Log P(x) per pixel; pixels, ``mean`` and ``log_scale`` in units of [-1, 1] broadcast.

    Counted in levels, whose borders are exact numbers, so that neighbours share theirs to the
    last bit and the masses sum to one however narrow the law.
    """
    steps = level(images).round()
    centre, inverse = level(mean), STEP * torch.exp(-log_scale)
    upper = (steps + 0.5 - centre) * inverse
    lower = (steps - 0.5 - centre) * inverse
    gap = torch.log(-torch.expm1(-inverse))  # of one level, the same for all
    inside = gap + logsigmoid(upper) + logsigmoid(-lower)
    inside = torch.where(steps == 0, logsigmoid(upper), inside)
    return torch.where(steps == LEVELS - 1, logsigmoid(-lower), inside)


def _rounded(values: torch.Tensor) -> torch.Tensor:
    """The nearest grey level."""
    return (level(values).round().clamp(0, LEVELS - 1) * STEP - 1).clamp(-1, 1)


def _clipped_mean(mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """E[clip(y, -1, 1)], y logistic: the mean of the levels to within half of one.

    The integral of the distribution's tail, -1 + int P(y > t) dt from -1 to 1.
    """
    scale = torch.exp(log_scale)
    tails = softplus((mean + 1) / scale) - softplus((mean - 1) / scale)
    return (scale * tails - 1).clamp(-1, 1)


class _Logistic(Likelihood):
    discrete = True
    scaled = True
    support = "the 256 grey levels alone"
    otherwise = "-o likelihood=gaussian, or --augment none"

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        self.start = math.log(2 * sigma / _DEVIATION)

    def supports(self, images: torch.Tensor) -> torch.Tensor:
        """Whether all pixels are grey levels."""
        return on_levels(images)

    def _bounded(self, raw: torch.Tensor) -> torch.Tensor:
        return softly_bounded(self.start + raw, _MIN_LOG_SCALE, _MAX_LOG_SCALE)


class Logistic(_Logistic):
    """One logistic per pixel and channel; the decoder gives mu and log s.

    Args:
        sigma: Standard deviation where the decoder's output is 0; black to white is 1.
    """

    params_per_channel = 2

    def _split(self, params: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, raw = params.float().chunk(2, dim=1)
        return mean, self._bounded(raw)

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(x | z) per image in nats."""
        return log_mass(images.float(), *self._split(params)).sum(dim=(1, 2, 3))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """E[x | z], to within half a grey level."""
        return _clipped_mean(*self._split(params))

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Mu + s logit(Phi(noise)), as the nearest grey level."""
        mean, log_scale = self._split(params)
        return _rounded(mean + torch.exp(log_scale) * torch.logit(quantile(noise)))


class LogisticMixture(_Logistic):
    """A mixture of ten over all channels of a pixel, which follow each other.

    Given the component, channel c is a logistic whose mean is mu_c plus a linear function of the
    pixel's earlier channels (Salimans et al. 2017, Eq. 3, there for three channels).

    Args:
        sigma: Standard deviation where the decoder's output is 0; black to white is 1.
    """

    components = 10

    def outputs(self, channels: int) -> int:
        """Per component: a weight, and per channel mu, log s and what earlier channels add."""
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def _split(
        self, params: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log weights (B, K, H, W), mu and log s (B, K, C, H, W), coefficients (B, K, ., H, W)."""
        batch, _, height, width = params.shape
        maps = params.float().reshape(batch, self.components, -1, height, width)
        rest = maps.shape[2] - 1
        channels = next(c for c in range(1, rest + 1) if 2 * c + c * (c - 1) // 2 == rest)
        sizes = [1, channels, channels, rest - 2 * channels]
        raw_weight, mean, raw, coefficients = torch.split_with_sizes(maps, sizes, dim=2)
        # The components begin apart, or they would all learn the same.
        spread = torch.linspace(-1, 1, self.components, device=params.device)
        mean = mean + 0.5 * spread[:, None, None, None]
        weights = raw_weight[:, :, 0].log_softmax(dim=1)
        return weights, mean, self._bounded(raw), torch.tanh(coefficients)

    def _means(
        self, mean: torch.Tensor, coefficients: torch.Tensor, earlier: torch.Tensor
    ) -> torch.Tensor:
        """Mean (B, K, H, W) of the channel after ``earlier`` (B, K or 1, c, H, W)."""
        c = earlier.shape[2]
        begin = c * (c - 1) // 2
        own = coefficients[:, :, begin : begin + c]
        return mean[:, :, c] + (own * earlier).sum(dim=2)

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(x | z) per image in nats."""
        weights, mean, log_scale, coefficients = self._split(params)
        x = images.float()[:, None]
        terms = weights
        for c in range(x.shape[2]):
            centre = self._means(mean, coefficients, x[:, :, :c])
            terms = terms + log_mass(x[:, :, c], centre, log_scale[:, :, c])
        return torch.logsumexp(terms, dim=1).sum(dim=(1, 2))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """E[x | z], with every component's earlier channels at their own means."""
        weights, mean, log_scale, coefficients = self._split(params)
        means = mean[:, :, :0]
        for c in range(mean.shape[2]):
            centre = self._means(mean, coefficients, means)
            found = _clipped_mean(centre, log_scale[:, :, c])
            means = torch.cat([means, found[:, :, None]], dim=2)
        return (weights.exp()[:, :, None] * means).sum(dim=1).clamp(-1, 1)

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """A component by the first channel's Phi(noise), then the channels in turn.

        What is left of that uniform number once the component is chosen, its place within the
        component's share, is uniform again and serves the first channel.
        """
        weights, mean, log_scale, coefficients = self._split(params)
        uniform = quantile(noise)
        shares = weights.exp()
        steps = shares.cumsum(dim=1)
        first = uniform[:, :1]
        chosen = (steps < first).sum(dim=1, keepdim=True).clamp(max=self.components - 1)
        share = shares.gather(1, chosen)
        begin = steps.gather(1, chosen) - share
        place = ((first - begin) / share.clamp_min(1e-9)).clamp(1e-6, 1 - 1e-6)
        uniform = torch.cat([place, uniform[:, 1:]], dim=1)
        drawn = noise[:, None, :0]
        for c in range(noise.shape[1]):
            centre = self._means(mean, coefficients, drawn).gather(1, chosen)
            scale = torch.exp(log_scale[:, :, c].gather(1, chosen))
            value = _rounded(centre + scale * torch.logit(uniform[:, c : c + 1]))
            drawn = torch.cat([drawn, value[:, :, None]], dim=2)
        return drawn[:, 0]
