r"""Logistic distributions over the 256 grey levels: a single one, or a mixture.

The mass of a level x is that of the interval of half a step d/2 on both sides; the darkest and the
brightest level have the tails as well (Kingma et al. 2016, arXiv:1606.04934; Salimans et al. 2017,
"PixelCNN++", arXiv:1701.05517, Eq. 2):

    P(x) = sigmoid((x + d/2 - mu) / s) - sigmoid((x - d/2 - mu) / s).

Its logarithm is computed exactly for all scales, without an approximation for small masses:
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
    """Return log P(x) per pixel; the arguments broadcast.

    Positions are converted to levels, whose borders are exact numbers. So adjacent levels have the
    same border to the last bit, and the masses sum to 1 for every scale.

    Args:
        images: Pixels x in [-1, 1].
        mean: mu, in the same units.
        log_scale: Log s, in the same units.
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
    """Return the nearest grey levels, in [-1, 1]."""
    return (level(values).round().clamp(0, LEVELS - 1) * STEP - 1).clamp(-1, 1)


def _clipped_mean(mean: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """Return E[clip(y, -1, 1)], y logistic: the mean of the levels to within half a level.

    It is the integral of the tail of the distribution, -1 + int P(y > t) dt from -1 to 1.
    """
    scale = torch.exp(log_scale)
    tails = softplus((mean + 1) / scale) - softplus((mean - 1) / scale)
    return (scale * tails - 1).clamp(-1, 1)


class _Logistic(Likelihood):
    discrete = True
    scaled = True
    support = "the 256 grey levels"
    otherwise = "-o likelihood=gaussian, or --augment none"

    def __init__(self, sigma: float = 0.5) -> None:
        super().__init__()
        self.start = math.log(2 * sigma / _DEVIATION)

    def supports(self, images: torch.Tensor) -> torch.Tensor:
        """Return whether all pixels are grey levels."""
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
        """Return log p(x | z) per image in nats, shape (B,)."""
        return log_mass(images.float(), *self._split(params)).sum(dim=(1, 2, 3))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z], to within half a grey level."""
        return _clipped_mean(*self._split(params))

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return mu + s logit(Phi(noise)), rounded to the nearest grey level."""
        mean, log_scale = self._split(params)
        return _rounded(mean + torch.exp(log_scale) * torch.logit(quantile(noise)))


class LogisticMixture(_Logistic):
    """A mixture of ten components per pixel, each with all channels, one after another.

    Given the component, channel c is a logistic whose mean is mu_c plus a linear function of the
    earlier channels of the pixel (Salimans et al. 2017, Eq. 3, there for three channels).

    Args:
        sigma: Standard deviation where the decoder's output is 0; black to white is 1.
    """

    components = 10

    def outputs(self, channels: int) -> int:
        """Return the number of decoder maps.

        Per component these are a weight, per channel mu and log s, and per pair of channels the
        coefficient of the earlier one.
        """
        return self.components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def _split(
        self, params: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split the decoder's output.

        Returns:
            Log weights (B, K, H, W), mu and log s (B, K, C, H, W), coefficients (B, K, ., H, W).
        """
        batch, _, height, width = params.shape
        maps = params.float().reshape(batch, self.components, -1, height, width)
        rest = maps.shape[2] - 1
        channels = next(c for c in range(1, rest + 1) if 2 * c + c * (c - 1) // 2 == rest)
        sizes = [1, channels, channels, rest - 2 * channels]
        raw_weight, mean, raw, coefficients = torch.split_with_sizes(maps, sizes, dim=2)
        # With equal initial means, all components would learn the same.
        spread = torch.linspace(-1, 1, self.components, device=params.device)
        mean = mean + 0.5 * spread[:, None, None, None]
        weights = raw_weight[:, :, 0].log_softmax(dim=1)
        return weights, mean, self._bounded(raw), torch.tanh(coefficients)

    def _means(
        self, mean: torch.Tensor, coefficients: torch.Tensor, earlier: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean (B, K, H, W) of the channel after ``earlier`` (B, K or 1, c, H, W)."""
        c = earlier.shape[2]
        begin = c * (c - 1) // 2
        own = coefficients[:, :, begin : begin + c]
        return mean[:, :, c] + (own * earlier).sum(dim=2)

    def log_prob(self, params: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return log p(x | z) per image in nats, shape (B,)."""
        weights, mean, log_scale, coefficients = self._split(params)
        x = images.float()[:, None]
        terms = weights
        for c in range(x.shape[2]):
            centre = self._means(mean, coefficients, x[:, :, :c])
            terms = terms + log_mass(x[:, :, c], centre, log_scale[:, :, c])
        return torch.logsumexp(terms, dim=1).sum(dim=(1, 2))

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return E[x | z], with the earlier channels of each component at their own means."""
        weights, mean, log_scale, coefficients = self._split(params)
        means = mean[:, :, :0]
        for c in range(mean.shape[2]):
            centre = self._means(mean, coefficients, means)
            found = _clipped_mean(centre, log_scale[:, :, c])
            means = torch.cat([means, found[:, :, None]], dim=2)
        return (weights.exp()[:, :, None] * means).sum(dim=1).clamp(-1, 1)

    def sample(self, params: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Draw a component by Phi(noise) of the first channel, then the channels one after another.

        The position of this uniform number within the weight of the chosen component is uniform
        again, and is used for the first channel.
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
