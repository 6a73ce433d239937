"""Spectral normalisation: W / sigma(W), sigma by power iteration.

Miyato et al. 2018 (arXiv:1802.05957), Algorithm 1.

Torch's own parametrisation is the same mathematics; this one also runs in float32 under autocast,
where a rounded sigma would let the norm drift, and is built on the meta device without sympy. The
two singular vectors are buffers, so a resumed run goes on with the same ones; in eval mode they
stand still.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from gentool.networks.parts import fill_normal

_FIRST_ITERATIONS = 15  # at construction, so that the first forward pass is near norm 1
_EPSILON = 1e-12


class SpectralNorm(nn.Module):
    """A parametrisation: weight -> weight with largest singular value 1.

    The matrix is that of the paper: output channels against all the rest.

    Args:
        weight: The weight, of at least 2 dimensions.
        dim: Its dimension of output channels.
    """

    u: torch.Tensor
    v: torch.Tensor

    def __init__(self, weight: torch.Tensor, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim
        rows = weight.shape[dim]
        for name, size in (("u", rows), ("v", weight.numel() // rows)):
            self.register_buffer(name, fill_normal(weight.new_empty(size)))
        if not weight.is_meta:
            self._iterate(self._matrix(weight.detach()), _FIRST_ITERATIONS)

    def _matrix(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.movedim(self.dim, 0).flatten(1)

    @torch.no_grad()
    def _iterate(self, matrix: torch.Tensor, count: int) -> None:
        for _ in range(count):
            # Sums of products: autocast would round a matrix product.
            self.v.copy_(normalize((matrix * self.u[:, None]).sum(dim=0), dim=0, eps=_EPSILON))
            self.u.copy_(normalize((matrix * self.v).sum(dim=1), dim=0, eps=_EPSILON))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The normalised weight; one more iteration in training mode."""
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix.detach(), 1)
        # Copies: the next forward pass changes the buffers before this one's graph is used.
        sigma = (self.u.clone()[:, None] * matrix * self.v.clone()).sum()
        return weight / sigma


def add_spectral_norm(network: nn.Module) -> None:
    """Normalise the weights of all convolutions, linear layers and class vectors, in place."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)
    for module in [m for m in network.modules() if isinstance(m, kinds)]:
        dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        _normalise(module, SpectralNorm(module.weight, dim))


def _normalise(module: nn.Module, norm: nn.Module) -> None:
    """Have ``norm`` work on the weight, in a class that torch makes for it; it can be pickled."""
    parametrize.register_parametrization(module, "weight", norm, unsafe=True)
    type(module).__reduce_ex__ = _reduce  # type: ignore[assignment, method-assign]


def _reduce(module: nn.Module, protocol: int) -> tuple[Any, ...]:
    """What a pickle holds of a normalised layer: the class that it had, and all its attributes."""
    return _restore, (type(module).__bases__[0], dict(vars(module)))


def _restore(kind: type[nn.Module], attributes: dict[str, Any]) -> nn.Module:
    """The layer that a pickle holds."""
    module = kind.__new__(kind)
    vars(module).update(attributes)
    parts = cast("Any", module.parametrizations)
    del module.parametrizations
    module.weight = parts["weight"].original
    _normalise(module, parts["weight"][0])
    module.parametrizations = parts  # the same tensors, some of which other objects may share
    return module
