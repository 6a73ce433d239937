"""Directions in latent space along which the generated images change most, found without labels.

``principal`` and ``transfer`` are GANSpace (Härkönen et al. 2020, arXiv:2004.02546): principal
components of w, or of features of the images, which are then carried over to z by regression.
``semantic`` is SeFa (Shen and Zhou 2021, arXiv:2007.06600): eigenvectors of the weights of the
first layers, without any samples. All is computed in float64 on the CPU, since some devices have no
float64. ``gentool traverse`` uses these functions.
"""

import torch
from torch.linalg import vector_norm

_FLAT = 1e-10  # fraction of the largest eigenvalue; a direction below it is rounding error


def principal(points: torch.Tensor, count: int) -> torch.Tensor:
    """Return the directions in which points (N, D) vary most, as unit vectors (K, D), K <= count.

    These are eigenvectors of the covariance, the largest eigenvalue first. For D > N they are
    computed from the N x N matrix of inner products, which has the same non-zero eigenvalues.
    """
    rows = points.cpu().double()
    rows = rows - rows.mean(dim=0)
    if rows.shape[1] <= rows.shape[0]:
        return _strongest(rows.T @ rows, count)
    return _unit(_strongest(rows @ rows.T, count) @ rows)


def transfer(latents: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Return unit vectors (K, L) of z that correspond to coordinates (N, K) of images.

    Rows of U in argmin_U sum_j |x_j U - z_j|^2, with centred z_j and x_j: Härkönen et al. 2020, Eq.
    2.

    Args:
        latents: The latents z of the images, (N, L).
        coordinates: The coordinates x of the images, (N, K).
    """
    z, x = (rows.cpu().double() for rows in (latents, coordinates))
    return _unit(torch.linalg.lstsq(x - x.mean(dim=0), z - z.mean(dim=0)).solution)


def semantic(weights: torch.Tensor, count: int) -> torch.Tensor:
    """Return unit vectors (K, L), K <= count, that change A x most.

    These are the eigenvectors of A^T A with the largest eigenvalues, for weights A (F, L): Shen and
    Zhou 2021, Eq. 5 and 6.
    """
    a = weights.detach().cpu().double()
    return _strongest(a.T @ a, count)


def _strongest(matrix: torch.Tensor, count: int) -> torch.Tensor:
    """Return unit eigenvectors (K, D), K <= count, of a positive semidefinite matrix (D, D).

    The largest eigenvalue comes first; those that are zero up to rounding are left out.
    """
    values, vectors = torch.linalg.eigh(matrix)
    rank = int((values > _FLAT * values[-1]).sum())
    chosen = vectors.T.flip(0)[: min(count, rank)]
    return _unit(chosen)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Return rows scaled to length 1, with a positive sign of the entry of largest magnitude.

    The sign has to be fixed, since an eigenvector is defined up to its sign.
    """
    vectors = vectors / vector_norm(vectors, dim=1, keepdim=True).clamp(min=1e-300)
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return torch.where(largest < 0, -vectors, vectors)
