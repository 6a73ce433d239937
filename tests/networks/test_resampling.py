"""Resampling of grids: exact on planes, mean-preserving, odd sides."""

import pytest
import torch

from gentool.networks.resampling import enlarge, extend, reduce


@pytest.mark.parametrize("size", [(4, 6), (9, 5)])
def test_doubling_is_the_bilinear_filter(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    out = enlarge(x, (2 * size[0], 2 * size[1]))
    rows = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)  # edges repeated
    even = 0.25 * rows[:, :, :-2] + 0.75 * rows[:, :, 1:-1]
    odd = 0.75 * rows[:, :, 1:-1] + 0.25 * rows[:, :, 2:]
    tall = torch.stack([even, odd], dim=3).flatten(2, 3)
    columns = torch.cat([tall[..., :1], tall, tall[..., -1:]], dim=3)
    even = 0.25 * columns[..., :-2] + 0.75 * columns[..., 1:-1]
    odd = 0.75 * columns[..., 1:-1] + 0.25 * columns[..., 2:]
    torch.testing.assert_close(out, torch.stack([even, odd], dim=4).flatten(3, 4))


def test_halving_is_the_mean_and_reads_odd_sides_to_the_end() -> None:
    x = torch.randn(1, 1, 6, 8)
    blocks = x.view(1, 1, 3, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(reduce(x, (3, 4)), blocks)
    y = torch.zeros(1, 1, 9, 9)
    y[..., 8, 8] = 1
    assert reduce(y, (4, 4)).sum() > 0


@pytest.mark.parametrize("size", [(8, 12), (9, 13)])
def test_second_derivatives(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: enlarge(t, size).sin(), x)
    y = torch.randn(1, 1, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: reduce(t, (4, 6)).sin(), y)


def test_a_missing_row_or_column_is_the_last_again() -> None:
    x = torch.randn(1, 1, 2, 3)
    assert extend(x, (2, 3)) is x
    longer = extend(x, (3, 4))
    assert torch.equal(longer[..., :2, :3], x)
    assert torch.equal(longer[..., 2, :3], x[..., 1, :])
    assert longer[0, 0, 2, 3] == x[0, 0, 1, 2]
