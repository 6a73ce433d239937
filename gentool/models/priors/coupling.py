"""A normalising flow of affine couplings (Dinh et al. 2017, "RealNVP", arXiv:1605.08803).

Codes are whitened first. The flow is initialised as the identity, so the prior starts as the full
Gaussian. A coupling keeps half of the numbers, a, and maps the others,

    b' = b exp(s(a)) + t(a)                                                   (Eq. 7),

whose inverse needs no inverse of s or t (Eq. 8) and whose log |det| is the sum of s (Eq. 6). Here s
is bounded to (-2, 2) by 2 tanh. The flow is fitted by maximum likelihood on draws from the
posteriors. With classes, s and t also get the class (a conditional flow: Winkler et al. 2019,
arXiv:1912.00042, section 3).
"""

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.priors.base import Codes, log_standard_normal
from gentool.models.priors.small_networks import FittedNetwork, SmallNet, minimise

_COUPLINGS, _WIDTH = 8, 128
_LARGEST_LOG_SCALE = 2.0  # of one coupling


class Coupling(nn.Module):
    """One affine coupling of rows (B, L).

    Args:
        size: L.
        kind: Which half is kept; kind % 4 is 0: even, 1: odd, 2: first, 3: last numbers.
        classes: Number of classes; 0 for none.
    """

    def __init__(self, size: int, kind: int, classes: int = 0) -> None:
        super().__init__()
        self.kind = kind
        stay, change = (len(part) for part in self.split(range(size)))
        self.net = SmallNet(stay, 2 * change, _WIDTH, blocks=1, context=classes)

    def split(self, row: range) -> tuple[range, range]:
        """Return the indices that are kept and those that are mapped, of 0 ... L - 1."""
        middle = (len(row) + 1) // 2
        halves = (row[0::2], row[1::2]) if self.kind % 4 < 2 else (row[:middle], row[middle:])
        return halves if self.kind % 2 == 0 else halves[::-1]

    def forward(
        self, rows: torch.Tensor, kinds: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map codes to noise: return mapped rows (B, L), and log |det| per row (B,).

        Args:
            rows: (B, L).
            kinds: One-hot classes (B, classes), or None.
        """
        stay, change = self._parts(rows)
        log_scale, shift = self._scale_shift(rows[:, stay], kinds)
        out = rows.clone()
        out[:, change] = rows[:, change] * log_scale.exp() + shift
        return out, log_scale.sum(dim=1)

    def inverse(self, rows: torch.Tensor, kinds: torch.Tensor | None) -> torch.Tensor:
        """Map noise to codes, both (B, L): the inverse of ``forward``."""
        stay, change = self._parts(rows)
        log_scale, shift = self._scale_shift(rows[:, stay], kinds)
        out = rows.clone()
        out[:, change] = (rows[:, change] - shift) * (-log_scale).exp()
        return out

    def _parts(self, rows: torch.Tensor) -> tuple[slice, slice]:
        stay, change = self.split(range(rows.shape[1]))
        return _slice(stay), _slice(change)

    def _scale_shift(
        self, stay: torch.Tensor, kinds: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        raw, shift = self.net(stay, kinds).chunk(2, dim=1)
        return _LARGEST_LOG_SCALE * torch.tanh(raw), shift


def _slice(part: range) -> slice:
    return slice(part.start, part.stop, part.step)


class CouplingFlow(FittedNetwork):
    """Whitening, then eight couplings; see the module."""

    words = "a normalising flow fitted to the codes of the training images"

    def __init__(self, size: int, components: int, shape: ImageShape, classes: int = 0) -> None:
        super().__init__(size, components, shape, classes)
        each = (Coupling(size, kind, classes) for kind in range(_COUPLINGS))
        self.couplings = nn.ModuleList(each)

    @torch.no_grad()
    def fit(self, codes: Codes) -> None:
        """Fit by maximum likelihood, with new draws in every pass."""
        rows = self.begin_fit(codes)
        for number, coupling in enumerate(self._each()):
            coupling.net.begin(f"coupling/{number}")
        minimise(self.couplings, self._surprise, rows)

    def _surprise(self, rows: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Return -log p in nats per dimension, (B,), of whitened rows with their classes."""
        noise, log_det = self.flow(*self.parts(rows))
        return -(log_standard_normal(noise) + log_det) / self.size

    def flow(
        self, rows: torch.Tensor, kinds: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noise (B, L) and log |det| (B,) of whitened codes (B, L).

        Args:
            rows: Whitened codes.
            kinds: One-hot classes (B, classes), or None.
        """
        total = rows.new_zeros(len(rows))
        for coupling in self._each():
            rows, log_det = coupling(rows, kinds)
            total = total + log_det
        return rows, total

    def transform(
        self, noise: torch.Tensor, uniform: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return codes (B, L): noise mapped by the inverse couplings."""
        kinds = self.kinds(uniform, labels)
        told = self.one_hot(kinds).to(noise)
        for coupling in reversed(self._each()):
            noise = coupling.inverse(noise, told)
        return self.finish(noise, kinds)

    def log_prob(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return log p(z) in nats, (B,), or log p(z|y) with labels int64 (B,).

        It is computed by the change of variables (Eq. 3).
        """
        if labels is not None:
            latents = latents - self.centres[labels]
        told = None if labels is None else self.one_hot(labels)
        noise, log_det = self.flow(self.inward(latents), told)
        return log_standard_normal(noise) + log_det - self.log_scale()

    def _each(self) -> list[Coupling]:
        return [coupling for coupling in self.couplings if isinstance(coupling, Coupling)]
