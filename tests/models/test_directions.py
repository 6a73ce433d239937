"""Principal directions, their transfer and SeFa against naive numpy and known results."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gentool.models.directions import principal, semantic, transfer


def _rows(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Points that spread unequally along axes of their own."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    spread = 0.7 ** torch.arange(size, dtype=torch.float64)
    normal = torch.randn(count, size, generator=generator, dtype=torch.float64)
    rows: torch.Tensor = normal * spread @ axes + 3
    return rows


def _same_but_for_sign(found: torch.Tensor, naive: NDArray[np.float64]) -> None:
    assert found.shape == naive.shape
    products = (found.numpy() * naive).sum(axis=1)
    np.testing.assert_allclose(np.abs(products), 1, atol=1e-9)


@pytest.mark.parametrize(("count", "size"), [(200, 6), (9, 40)])
def test_principal_directions_are_numpys_eigenvectors_of_the_covariance(
    count: int, size: int
) -> None:
    rows = _rows(count, size)
    values, vectors = np.linalg.eigh(np.cov(rows.numpy().T))
    naive = vectors.T[np.argsort(values)[::-1]][:4]
    _same_but_for_sign(principal(rows, 4), naive)


def test_there_are_no_more_directions_than_the_points_span() -> None:
    plane = _rows(50, 2) @ torch.randn(2, 7, dtype=torch.float64)
    found = principal(plane, 5)
    assert found.shape == (2, 7)
    torch.testing.assert_close(found @ found.T, torch.eye(2, dtype=torch.float64))
    assert principal(torch.ones(10, 3), 2).shape == (0, 3)


def test_sefa_gives_numpys_right_singular_vectors() -> None:
    a = _rows(30, 8) - 3
    _, _, right = np.linalg.svd(a.numpy())
    _same_but_for_sign(semantic(a, 5), right[:5])


def test_sefa_changes_the_layer_most() -> None:
    a = _rows(30, 8)
    best = (a @ semantic(a, 1)[0]).norm()
    others = torch.randn(1000, 8, dtype=torch.float64)
    assert ((others / others.norm(dim=1, keepdim=True)) @ a.T).norm(dim=1).max() <= best


def test_the_transfer_is_numpys_least_squares() -> None:
    z, x = _rows(60, 5, seed=1), _rows(60, 3, seed=2)
    naive, *_ = np.linalg.lstsq(
        x.numpy() - x.numpy().mean(0), z.numpy() - z.numpy().mean(0), rcond=None
    )
    naive /= np.linalg.norm(naive, axis=1, keepdims=True)
    _same_but_for_sign(transfer(z, x), naive)


def test_a_linear_generator_gives_its_singular_vectors_by_either_way() -> None:
    """Pictures A z with z ~ N(0, I): the components are U, and U carried over to z is V."""
    generator = torch.Generator().manual_seed(0)
    a = _rows(20, 6) - 3
    z = torch.randn(100_000, 6, generator=generator, dtype=torch.float64)
    pictures = z @ a.T
    found = transfer(z, pictures @ principal(pictures, 3).T)
    products = (found * semantic(a, 3)).sum(dim=1)
    assert products.abs().min() > 0.995


def test_the_largest_entry_is_positive() -> None:
    for found in (principal(_rows(40, 6), 6), semantic(-_rows(40, 6), 6)):
        assert (found.gather(1, found.abs().argmax(dim=1, keepdim=True)) > 0).all()
