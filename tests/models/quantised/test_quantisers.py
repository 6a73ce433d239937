"""Quantisers against naive loops, closed forms and, if installed, another library."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from gentool.core.rng import Draw
from gentool.models.quantisers import QUANTISERS
from gentool.models.quantisers.base import Quantised, Quantiser, perplexity
from gentool.models.quantisers.codebook import Codebook, kmeans, nearest
from gentool.models.quantisers.scalar import FiniteScalar, levels_for

SIZES = [(4, 1), (64, 3), (240, 3), (1000, 4), (1024, 4), (729, 6), (65536, 6)]
HALVES = [torch.bfloat16, torch.float16]


def draw(count: int, step: int = 0) -> Draw:
    """The randomness of one step."""
    return Draw(0, "test", np.arange(count), step, torch.device("cpu"))


def random_grid(size: int, count: int = 6, scale: float = 1.0) -> torch.Tensor:
    """A grid (count, size, 3, 5)."""
    return scale * torch.randn(count, size, 3, 5, generator=torch.Generator().manual_seed(0))


def begun(words: int = 7, size: int = 3) -> tuple[Codebook, torch.Tensor]:
    """A codebook that has begun at some images, and their grid."""
    codebook, grid = Codebook(words, size), random_grid(size)
    codebook.begin(grid)
    return codebook, grid


def move(codebook: Codebook, grid: torch.Tensor, step: int = 0, parts: int = 1) -> None:
    """Learn from one step, taken in parts, and go on to the next, in which it shows."""
    tally, first = codebook.open_tally(), 0
    for part in grid.chunk(parts):
        turn = Draw(0, "test", np.arange(first, first + len(part)), step, torch.device("cpu"))
        codebook.learn(part, turn, tally)
        first += len(part)
    codebook.learn(grid, draw(len(grid), step + 1), tally)


def rows_of(grid: torch.Tensor) -> torch.Tensor:
    """The vectors of a grid, in the order of its indices."""
    return torch.stack([
        grid[b, :, y, x]
        for b, y, x in product(range(len(grid)), range(grid.shape[2]), range(grid.shape[3]))
    ])  # fmt: skip


# --- finite scalars -----------------------------------------------------------------------------


@pytest.mark.parametrize(("codes", "size"), SIZES)
def test_levels_multiply_to_nearly_the_codes_wanted(codes: int, size: int) -> None:
    levels = levels_for(codes, size)
    assert 1 <= len(levels) <= size
    assert min(levels) >= 3
    assert max(levels) - min(levels) <= 1
    assert abs(math.log(math.prod(levels) / codes)) < math.log(1.2)


@pytest.mark.parametrize(("codes", "size"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_scalar_codes_and_indices_are_a_bijection_in_every_precision(
    codes: int, size: int, dtype: torch.dtype
) -> None:
    """Index -> vector -> what the encoder would have to say for it, in that precision -> index."""
    quantiser = FiniteScalar(codes, size)
    indices = torch.arange(quantiser.words)[:, None, None]
    vectors = quantiser.embed(indices)
    assert len({tuple(row) for row in vectors.flatten(1).tolist()}) == quantiser.words
    assert vectors.abs().max() <= 1
    levels = torch.tensor(quantiser.levels)[:, None, None]
    half, offset = (levels - 1) * 1.001 / 2, 0.5 * (levels % 2 == 0)
    asked = torch.atanh((vectors * (levels // 2) + offset) / half) - torch.atanh(offset / half)
    found = quantiser(asked.to(dtype))
    assert torch.equal(found.indices, indices)
    torch.testing.assert_close(found.vectors, vectors)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_scalars_are_quantised_in_float32_under_autocast(dtype: torch.dtype) -> None:
    quantiser, grid = FiniteScalar(1000, 4), random_grid(4, scale=3)
    with torch.autocast("cpu", dtype):
        under = quantiser(grid)
    plain = quantiser(grid)
    assert torch.equal(under.indices, plain.indices)
    assert under.vectors.dtype == torch.float32
    assert torch.equal(under.vectors, plain.vectors)


def test_scalars_against_a_naive_loop() -> None:
    quantiser, grid = FiniteScalar(240, 3), random_grid(3, scale=2)
    found = quantiser(grid)
    for b, y, x in product(range(6), range(3), range(5)):
        index, place = 0, 1
        for k, n in enumerate(quantiser.levels):
            half, offset = (n - 1) * 1.001 / 2, 0.0 if n % 2 else 0.5
            level = round(half * math.tanh(grid[b, k, y, x] + math.atanh(offset / half)) - offset)
            assert found.vectors[b, k, y, x] == pytest.approx(level / (n // 2), abs=1e-6)
            index += (level + n // 2) * place
            place *= n
        assert found.indices[b, y, x] == index


def test_the_gradient_of_a_scalar_is_the_slope_of_its_bound() -> None:
    quantiser, grid = FiniteScalar(1000, 4), random_grid(4).requires_grad_(True)
    weights = random_grid(4)
    (quantiser(grid).vectors * weights).sum().backward()
    levels = torch.tensor(quantiser.levels)[:, None, None]
    half, offset = (levels - 1) * 1.001 / 2, 0.5 * (levels % 2 == 0)
    at = grid.detach() + torch.atanh(offset / half)
    slope = half * (1 - torch.tanh(at).square()) / (levels // 2)
    assert grid.grad is not None
    torch.testing.assert_close(grid.grad, weights * slope)


# --- the codebook -------------------------------------------------------------------------------


def test_the_nearest_vector_against_a_double_loop() -> None:
    codebook, grid = begun()
    found = codebook(grid)
    for row, index in zip(rows_of(grid), found.indices.flatten(), strict=True):
        distances = [float((row - vector).square().sum()) for vector in codebook.vectors]
        assert int(index) == min(range(len(distances)), key=distances.__getitem__)
    torch.testing.assert_close(
        rows_of(found.vectors), codebook.vectors[found.indices.flatten()], atol=1e-6, rtol=0
    )


def test_distances_in_parts_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, vectors = rows_of(random_grid(4)), rows_of(random_grid(4))[:9] + 0.1
    whole = nearest(rows, vectors)
    monkeypatch.setattr("gentool.models.quantisers.codebook.MOST_DISTANCES", 30)
    assert torch.equal(nearest(rows, vectors), whole)


def test_the_gradient_passes_straight_through_and_the_commitment_pulls_the_encoder_alone() -> None:
    codebook, grid = begun()
    grid = (grid + 0.3).requires_grad_(True)
    weights = random_grid(3)
    found = codebook(grid)
    (through,) = torch.autograd.grad((found.vectors * weights).sum(), grid, retain_graph=True)
    torch.testing.assert_close(through, weights)
    assert not list(codebook.parameters())
    (pull,) = torch.autograd.grad(found.loss.sum(), grid)
    codes = codebook.embed(found.indices)
    torch.testing.assert_close(pull, 0.25 * 2 * (grid.detach() - codes) / grid[0].numel())


def test_the_codebook_moves_as_the_papers_averages_do() -> None:
    """Appendix A.1 of van den Oord 2017, in a naive loop over vectors and codes."""
    codebook, _ = begun()
    mean = 90 / 7  # counts are shares of it
    counts = (mean * codebook.counts).tolist()
    sums = (mean * codebook.sums).double().numpy()
    grid = random_grid(3) + 0.2
    indices = codebook(grid).indices.flatten().tolist()
    move(codebook, grid)
    for k in range(7):
        mine = [r.double().numpy() for r, i in zip(rows_of(grid), indices, strict=True) if i == k]
        counts[k] = 0.99 * counts[k] + 0.01 * len(mine)
        sums[k] = 0.99 * sums[k] + 0.01 * np.sum(mine, axis=0) if mine else 0.99 * sums[k]
        assert mean * float(codebook.counts[k]) == pytest.approx(counts[k], rel=1e-5)
        np.testing.assert_allclose(codebook.vectors[k], sums[k] / counts[k], rtol=1e-4, atol=1e-5)


def test_averages_that_remember_nothing_are_a_step_of_k_means(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codebook, _ = begun()
    rows = rows_of(random_grid(3) + 0.2)
    indices = nearest(rows, codebook.vectors)
    assert torch.bincount(indices, minlength=7).min() >= 2  # none is restarted
    naive = torch.stack([rows[indices == k].mean(dim=0) for k in range(7)])
    once = kmeans(rows, codebook.vectors, 7, 1)
    monkeypatch.setattr("gentool.models.quantisers.codebook.DECAY", 0.0)
    move(codebook, random_grid(3) + 0.2)
    torch.testing.assert_close(codebook.vectors, naive)
    torch.testing.assert_close(codebook.vectors, once)
    assert (once - begun()[0].vectors).abs().max() > 0.1
    shares = torch.bincount(indices, minlength=7) * 7 / len(rows)
    torch.testing.assert_close(codebook.counts, shares)


def test_k_means_begins_the_codebook() -> None:
    centres = torch.tensor([[5.0, 0, 0], [0, 5, 0], [0, 0, 5], [-5, -5, -5]])
    noise = 0.1 * random_grid(3, count=16)
    which = torch.arange(16 * 15).view(16, 3, 5) % 4
    codebook = Codebook(4, 3)
    codebook.begin(centres[which].movedim(-1, 1) + noise)
    rows = rows_of(centres[which].movedim(-1, 1) + noise)
    mine = codebook(centres[which].movedim(-1, 1) + noise).indices.flatten()
    for k in mine.unique():  # it has settled: each vector is the mean of those nearest to it
        torch.testing.assert_close(codebook.vectors[k], rows[mine == k].mean(dim=0))
    assert torch.equal(codebook.counts, torch.ones(4))


def test_k_means_against_a_naive_loop_and_with_fewer_rows_than_centres() -> None:
    rows = rows_of(random_grid(2))
    centres = rows[:5].double().numpy()
    for _ in range(3):
        mine = [int(np.square(centres - row.double().numpy()).sum(axis=1).argmin()) for row in rows]
        for k in range(5):
            centres[k] = np.mean([rows[i].numpy() for i, c in enumerate(mine) if c == k], axis=0)
    np.testing.assert_allclose(kmeans(rows, rows, 5, 3), centres, atol=1e-5)
    assert kmeans(rows[:3], rows[:3], 8, 2).shape == (8, 2)
    assert kmeans(rows[:1], rows[:1], 3, 2).isfinite().all()


def test_an_unused_code_restarts_at_a_vector_of_the_batch_with_count_and_sum() -> None:
    codebook, grid = begun()
    codebook.vectors[2] = 100.0  # nothing is near it any more
    codebook.counts[2] = 0.05  # below a tenth of the mean
    others = codebook.vectors[[0, 1, 3, 4, 5, 6]].clone()
    move(codebook, grid)
    assert (rows_of(grid) == codebook.vectors[2]).all(dim=1).any()
    assert codebook.counts[2] == 1
    torch.testing.assert_close(codebook.sums[2], codebook.vectors[2])
    moved = (codebook.vectors[[0, 1, 3, 4, 5, 6]] - others).norm(dim=1)
    assert moved.max() < 0.1  # only its averages moved the others
    used = codebook(grid).indices
    assert (used == 2).any()


def test_the_codebook_learns_from_images_and_randomness_alone() -> None:
    a, b = begun()[0], begun()[0]
    for step in range(1, 4):
        for codebook in (a, b):
            move(codebook, random_grid(3) + step, step)
    assert torch.equal(a.vectors, b.vectors)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_a_step_in_parts_moves_the_codebook_once_and_as_the_whole_does(parts: int) -> None:
    """Two codes are dead, so that restarts are tried, too; the vectors that they get agree."""
    whole, split = begun(words=12)[0], begun(words=12)[0]
    grid = random_grid(3) + 0.2
    for codebook, count in ((whole, 1), (split, parts)):
        codebook.counts[[3, 8]] = 0.01
        codebook.vectors[[3, 8]] = 50.0
        for step in range(3):
            move(codebook, grid + 0.1 * step, step, count)
    torch.testing.assert_close(split.vectors, whole.vectors, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(split.counts, whole.counts, rtol=1e-6, atol=0)
    assert whole.vectors.abs().max() < 10


def test_within_a_step_the_codebook_stands_still_and_its_rows_are_drawn_evenly() -> None:
    codebook, grid = begun()
    before, tally = codebook.vectors.clone(), codebook.open_tally()
    for _ in range(3):
        codebook.learn(grid, draw(6, 4), tally)
    assert torch.equal(codebook.vectors, before)
    assert tally.counts.sum() == 3 * 90
    drawn = []
    for step in range(60):
        tally = codebook.open_tally()
        turn = replace(draw(6, step), indices=np.arange(6 * step, 6 * step + 6))
        codebook.learn(grid, turn, tally)
        same = (tally.rows[: int(tally.drawn_count()), None] == rows_of(grid)).all(dim=2)
        drawn += same.nonzero()[:, 1].tolist()
    counts = np.bincount(drawn, minlength=90)  # 420 draws: 4.7 each, but for 5 deviations
    assert len(drawn) == 420
    assert counts.max() < 4.7 + 5 * 4.7**0.5
    assert len(set(drawn)) > 80


# --- all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(QUANTISERS))
def test_vectors_are_those_of_the_indices_and_losses_are_per_image(name: str) -> None:
    quantiser: Quantiser = QUANTISERS.get(name)(64, 3)
    found: Quantised = quantiser(random_grid(3))
    torch.testing.assert_close(found.vectors, quantiser.embed(found.indices), atol=1e-6, rtol=0)
    assert found.indices.shape == (6, 3, 5)
    assert found.indices.dtype == torch.int64
    assert found.loss.shape == (6,)
    assert torch.equal(quantiser(random_grid(3)[:2]).indices, found.indices[:2])


@pytest.mark.parametrize("name", QUANTISERS)
def test_what_is_no_number_has_some_code_but_stays_no_number(name: str) -> None:
    quantiser = QUANTISERS.get(name)(64, 3).eval()
    grid = torch.full((1, quantiser.size, 2, 2), float("nan"))
    found = quantiser(grid)
    assert ((found.indices >= 0) & (found.indices < quantiser.words)).all()
    assert found.vectors.isnan().any() or found.loss.isnan().any()  # for the run's own check


def test_perplexity_is_the_number_of_codes_used_evenly() -> None:
    assert float(perplexity(torch.full((50,), 1 / 50))) == pytest.approx(50, rel=1e-5)
    assert float(perplexity(torch.tensor([0.5, 0.5, 0, 0]))) == pytest.approx(2)
    shares = torch.tensor([0.7, 0.2, 0.1])
    entropy = -sum(p * math.log(p) for p in shares.tolist())
    assert float(perplexity(shares)) == pytest.approx(math.exp(entropy), rel=1e-5)


def test_usage_is_counted_and_said() -> None:
    quantiser = FiniteScalar(64, 3)
    quantiser.observe(torch.tensor([[3, 3], [5, 9]]))
    assert quantiser.usage[3] == 0.5
    assert quantiser.usage.sum() == 1
    assert quantiser.health() == "3 of 64 codes are in use, with perplexity 3"


# Skipped where vector-quantize-pytorch (extra test) is not installed.
def test_scalars_agree_with_vector_quantize_pytorch() -> None:
    peer = pytest.importorskip("vector_quantize_pytorch")
    ours, grid = FiniteScalar(1024, 4), random_grid(4, scale=3)
    theirs, indices = peer.FSQ(list(ours.levels))(grid)
    found = ours(grid)
    torch.testing.assert_close(found.vectors, theirs)
    assert torch.equal(found.indices, indices.long())


def test_codebooks_agree_with_vector_quantize_pytorch() -> None:
    peer = pytest.importorskip("vector_quantize_pytorch")
    ours, grid = begun()
    theirs = peer.VectorQuantize(
        dim=3, codebook_size=7, decay=0.99, commitment_weight=0.25, eps=0.0,
        threshold_ema_dead_code=0, rotation_trick=False,
    ).train()  # fmt: skip
    theirs._codebook.embed.copy_(ours.vectors[None])
    theirs._codebook.embed_avg.copy_(90 / 7 * ours.sums[None])
    theirs._codebook.cluster_size.copy_(90 / 7 * ours.counts[None])
    mine = ours(grid + 0.2)
    move(ours, grid + 0.2)
    vectors, indices, loss = theirs((grid + 0.2).movedim(1, -1).flatten(1, 2))
    assert torch.equal(mine.indices.flatten(1), indices)
    torch.testing.assert_close(mine.vectors.flatten(2).mT, vectors)
    torch.testing.assert_close(mine.loss.mean(), loss.squeeze())
    torch.testing.assert_close(ours.vectors, theirs._codebook.embed[0])
