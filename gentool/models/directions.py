"""Directions in which a generator's pictures change most, found without labels.

``principal`` and ``transfer`` are GANSpace (Härkönen et al. 2020, arXiv:2004.02546): principal
components of w, or of features of the pictures, these then carried over to z by regression.
``semantic`` is SeFa (Shen and Zhou 2021, arXiv:2007.06600): eigenvectors of the first layers'
weights, which need no sample at all. Computed in float64 on the CPU, since not every device has it;
``gentool traverse`` draws them.
"""

import torch
from torch.linalg import vector_norm

_FLAT = 1e-10  # share of the largest eigenvalue; below, a direction is rounding


def principal(points: torch.Tensor, count: int) -> torch.Tensor:
    """Unit vectors (K, D), K <= count, along which points (N, D) spread most, the widest first.

    Eigenvectors of the covariance; where D > N by way of the N x N matrix of inner products,
    whose eigenvalues are the same.
    """
    rows = points.cpu().double()
    rows = rows - rows.mean(dim=0)
    if rows.shape[1] <= rows.shape[0]:
        return _strongest(rows.T @ rows, count)
    return _unit(_strongest(rows @ rows.T, count) @ rows)


def transfer(latents: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Unit vectors (K, L) of z that go with coordinates (N, K) of the pictures of latents (N, L).

    Rows of U in argmin_U sum_j |x_j U - z_j|^2, with centred z_j and x_j: Härkönen et al. 2020,
    Eq. 2.
    """
    z, x = (rows.cpu().double() for rows in (latents, coordinates))
    return _unit(torch.linalg.lstsq(x - x.mean(dim=0), z - z.mean(dim=0)).solution)


def semantic(weights: torch.Tensor, count: int) -> torch.Tensor:
    """Unit vectors (K, L), K <= count, that change A x most: Shen and Zhou 2021, Eq. 5 and 6.

    The eigenvectors of A^T A with the largest eigenvalues, for A (F, L).
    """
    a = weights.detach().cpu().double()
    return _strongest(a.T @ a, count)


def _strongest(matrix: torch.Tensor, count: int) -> torch.Tensor:
    """Eigenvectors (K, D) of a positive semidefinite matrix (D, D), those of the largest first."""
    values, vectors = torch.linalg.eigh(matrix)
    rank = int((values > _FLAT * values[-1]).sum())
    chosen = vectors.T.flip(0)[: min(count, rank)]
    return _unit(chosen)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Rows of length 1, the largest entry positive: eigenvectors have no sign of their own."""
    vectors = vectors / vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-300)
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)
