"""Spectral normalisation: W / sigma(W), where power iteration estimates sigma.

Miyato et al. 2018 (arXiv:1802.05957), Algorithm 1.

The parametrisation in torch computes the same. This one also runs in float32 under autocast, where
a rounded sigma would let the norm drift, and it can be built on the meta device without sympy. The
two singular vectors are buffers, so a resumed run continues with the same vectors; in eval mode
they do not change.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from gentool.networks.parts import fill_normal

_FIRST_ITERATIONS = 15  # at construction, so that the first norm is near 1
_EPSILON = 1e-12


class SpectralNorm(nn.Module):
    """Parametrisation that divides a weight by its largest singular value.

    As in the paper, the weight is a matrix with one row per output channel; its columns are all
    other dimensions.

    Args:
        weight: The weight, with at least 2 dimensions.
        dim: Dimension of the output channels.

    Attributes:
        u: Left singular vector (rows,).
        v: Right singular vector (columns,).
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
            # Autocast would round a matrix product, but not these sums of products.
            self.v.copy_(normalize((matrix * self.u[:, None]).sum(dim=0), dim=0, eps=_EPSILON))
            self.u.copy_(normalize((matrix * self.v).sum(dim=1), dim=0, eps=_EPSILON))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the normalised weight; in training mode, after one more iteration."""
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix.detach(), 1)
        # The next forward pass may change the buffers before the graph of this one is used.
        sigma = (self.u.clone()[:, None] * matrix * self.v.clone()).sum()
        return weight / sigma


def add_spectral_norm(network: nn.Module) -> None:
    """Normalise the weights of all convolutions, linear layers and class vectors, in place."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)
    for module in [m for m in network.modules() if isinstance(m, kinds)]:
        dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
        _normalise(module, SpectralNorm(module.weight, dim))


def _normalise(module: nn.Module, norm: nn.Module) -> None:
    """Register ``norm`` on the weight and let the module be pickled.

    Torch gives the module a new class for this, which cannot be pickled without ``_reduce``.
    """
    parametrize.register_parametrization(module, "weight", norm, unsafe=True)
    type(module).__reduce_ex__ = _reduce  # type: ignore[assignment, method-assign]


def _reduce(module: nn.Module, protocol: int) -> tuple[Any, ...]:
    """Reduce a normalised layer for a pickle, to its original class and all its attributes."""
    return _restore, (type(module).__bases__[0], dict(vars(module)))


def _restore(kind: type[nn.Module], attributes: dict[str, Any]) -> nn.Module:
    """Build a normalised layer from the contents of a pickle."""
    module = kind.__new__(kind)
    vars(module).update(attributes)
    parts = cast("Any", module.parametrizations)
    del module.parametrizations
    module.weight = parts["weight"].original
    _normalise(module, parts["weight"][0])
    module.parametrizations = parts  # keeps tensors that other objects may share
    return module
