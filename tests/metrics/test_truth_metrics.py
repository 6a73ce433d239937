"""Metrics against closed forms, naive loops and widely used libraries."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gentool.metrics.extractors import RandomExtractor, as_rgb, train_classifier
from gentool.metrics.frechet import (
    Folds,
    Moments,
    distance_between,
    frechet_distance,
    moments,
)
from gentool.metrics.kernel import kernel_distance, squared_mmd
from gentool.metrics.neighbours import (
    distances,
    memorisation,
    nearest,
    overlap,
    radii,
    several_nearest,
)
from gentool.metrics.pixels import ssim

Array = NDArray[np.float64]


def _rows(seed: int, count: int = 300, size: int = 8, shift: float = 0.0) -> Array:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(size, size))
    return rng.normal(size=(count, size)) @ mix + shift


def test_frechet_distance_of_commuting_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    a, b = rng.uniform(0.1, 4, (2, 20))
    mean_a, mean_b = rng.normal(size=(2, 20))
    exact = ((mean_a - mean_b) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = frechet_distance(mean_a, basis * a @ basis.T, mean_b, basis * b @ basis.T)
    assert found == pytest.approx(exact, rel=1e-6)


def test_frechet_distance_of_a_rank_one_gaussian_to_itself_is_zero() -> None:
    line = np.ones((5, 1))
    covariance = line @ line.T
    assert frechet_distance(line[:, 0], covariance, line[:, 0], covariance) < 1e-7


def test_moments_gathered_in_batches_are_those_of_the_whole() -> None:
    rows = _rows(0, 100) + 1e4  # a large offset must cost no digits
    gathered = Moments()
    for part in np.array_split(rows, 7):
        gathered.add(part)
    np.testing.assert_allclose(gathered.mean, rows.mean(axis=0))
    np.testing.assert_allclose(gathered.covariance, np.cov(rows, rowvar=False), rtol=1e-9)


def test_moments_of_two_sets_add_up_whatever_their_origins() -> None:
    rows = _rows(0, 100, shift=3.0)
    together = moments(rows[:30]) + moments(rows[30:])
    np.testing.assert_allclose(together.mean, rows.mean(axis=0))
    np.testing.assert_allclose(together.covariance, np.cov(rows, rowvar=False), rtol=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_extrapolated_distance_is_unbiased_and_knows_its_error(shift: float) -> None:
    reference = moments(_rows(1, 200_000))
    exact = frechet_distance(
        reference.mean + shift, reference.covariance, reference.mean, reference.covariance
    )
    found = []
    for seed in range(2, 32):
        folds = Folds()
        folds.add(_rows(seed, 400, shift=shift))
        found.append(folds.distance(reference))
    values, extrapolated, errors = np.array(found).T
    spread = extrapolated.std(ddof=1)
    bias = values.mean() - exact
    assert bias > 5 * spread / math.sqrt(30)
    # What is left is of the next order in 1 / N: a tenth of the bias at most.
    assert abs(extrapolated.mean() - exact) < 3 * spread / math.sqrt(30) + 0.1 * bias
    if shift:  # at distance zero the error of a distance is not that of a Gaussian
        assert errors.mean() == pytest.approx(spread, rel=0.35)


def test_the_frechet_estimate_does_not_depend_on_batches() -> None:
    rows, reference = _rows(0, 300).astype(np.float32), moments(_rows(1, 300))
    answers = []
    for size in (1, 7, 256):
        folds = Folds()
        for start in range(0, len(rows), size):
            folds.add(rows[start : start + size])
        answers.append(folds.distance(reference))
    assert answers[0].value == pytest.approx(distance_between(moments(rows), reference), rel=1e-9)
    np.testing.assert_allclose(answers[1:], [answers[0]] * 2, rtol=1e-6)


def test_kernel_distance_of_equal_laws_is_zero_in_the_mean() -> None:
    values = [squared_mmd(_rows(2 * k, 60), _rows(2 * k + 1, 60)) for k in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(200)
    assert squared_mmd(_rows(0, 60), _rows(1, 60, shift=2.0)) > 5 * np.std(values)


def test_squared_mmd_is_the_naive_double_sum() -> None:
    x, y = _rows(0, 7), _rows(1, 5)

    def k(a: Array, b: Array) -> float:
        return float((a @ b / 8 + 1) ** 3)

    within_x = sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
    within_y = sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
    across = sum(k(a, b) for a in x for b in y) / 35
    assert squared_mmd(x, y) == pytest.approx(within_x + within_y - 2 * across)


def test_the_kernel_distance_has_an_error_of_its_own() -> None:
    found = kernel_distance(_rows(0, 400), _rows(1, 400), np.random.default_rng(0), 50, 100)
    assert abs(found.value) < 6 * found.standard_error
    assert found.standard_error > 0


def _naive(samples: Array, reference: Array) -> dict[str, Any]:
    def kth(rows: Array, k: int) -> list[float]:
        return [sorted(float(np.linalg.norm(a - b)) for b in rows)[k] for a in rows]

    near, far, own = kth(reference, 3), kth(reference, 5), kth(samples, 3)
    pairs = [[float(np.linalg.norm(s - r)) for r in reference] for s in samples]
    inside = [[d <= far[j] for j, d in enumerate(row)] for row in pairs]
    return {
        "precision": np.mean([any(d <= near[j] for j, d in enumerate(row)) for row in pairs]),
        "recall": np.mean(
            [any(pairs[i][j] <= own[i] for i in range(len(samples))) for j in range(len(reference))]
        ),
        "density": np.sum(inside) / (5 * len(samples)),
        "coverage": np.mean([any(row[j] for row in inside) for j in range(len(reference))]),
    }


def test_precision_recall_density_and_coverage_are_the_naive_double_loop() -> None:
    samples, reference = _rows(0, 60, shift=0.5), _rows(1, 50)
    found = overlap(torch.from_numpy(samples), torch.from_numpy(reference))
    assert vars(found) == pytest.approx(_naive(samples, reference))


def test_a_set_overlaps_itself_wholly() -> None:
    rows = torch.from_numpy(_rows(0, 400))
    found = overlap(rows, rows)
    assert found.precision == found.recall == found.coverage == 1
    assert found.density == pytest.approx(1.2, abs=0.05)  # itself and 5 neighbours, over 5


def test_fresh_draws_of_one_law_have_density_and_coverage_near_one() -> None:
    found = overlap(torch.from_numpy(_rows(0, 1500)), torch.from_numpy(_rows(1, 1500)))
    assert found.density == pytest.approx(1, abs=0.1)
    assert found.coverage > 0.93


def test_blocks_of_distances_are_exact_for_near_rows() -> None:
    rows = 1e3 + torch.randn(30, 4) * 1e-3  # the quick formula loses these
    expected = (rows[:, None] - rows[None]).norm(dim=2)
    torch.testing.assert_close(torch.cat(list(distances(rows, rows))), expected)
    assert (radii(rows, 1) > 0).all()


def test_memorisation_tells_copies_from_fresh_draws() -> None:
    training, held_out, fresh = (torch.from_numpy(_rows(k, 400)) for k in range(3))
    assert memorisation(fresh, training, held_out) == pytest.approx(0.5, abs=0.08)
    assert memorisation(training + 1e-4, training, held_out) > 0.98
    assert memorisation(held_out, training, held_out) < 0.02


def test_several_nearest_are_those_of_a_sorted_row() -> None:
    x, y = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    found = several_nearest(x, y, 3)
    for row, numbers in zip(x, found, strict=True):  # whatever is near to other rows
        assert torch.equal(numbers, (row - y).norm(dim=1).argsort()[:3])


def test_nearest_finds_the_nearest() -> None:
    y = torch.from_numpy(_rows(0, 50))
    distance, number = nearest(y[[7, 3]] + 1e-6, y)
    assert number.tolist() == [7, 3]
    assert (distance < 1e-4).all()


# --- against other libraries --------------------------------------------------------------------


def _peer() -> Any:
    return pytest.importorskip("torch_fidelity", reason="the extra fid is not installed")


def test_torch_fidelity_finds_the_same_distances_in_the_same_features() -> None:
    _peer()
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd
    from torch_fidelity.metric_prc import prc_features_to_metric

    x, y = _rows(0, 500, 16, 0.3), _rows(1, 600, 16)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    theirs = fid_statistics_to_metric(
        fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False
    )["frechet_inception_distance"]
    assert distance_between(moments(x), moments(y)) == pytest.approx(theirs, rel=1e-4)
    assert squared_mmd(x, y[:500]) == pytest.approx(kernel_mmd(x, y[:500]), rel=1e-4)
    shares = prc_features_to_metric(a, b, verbose=False)
    found = overlap(a, b)
    assert found.precision == pytest.approx(shares["precision"], rel=1e-4)
    assert found.recall == pytest.approx(shares["recall"], rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(channels: int) -> None:
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (2, 24, 32, channels), dtype=np.uint8)
    noise = rng.normal(0, 30, a.shape)
    b = np.clip(a + noise, 0, 255).astype(np.uint8)
    theirs = [
        skimage.structural_similarity(
            p, q, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=255, channel_axis=2,
        )
        for p, q in zip(a, b, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(ssim(a, b), theirs, rtol=1e-5)
    np.testing.assert_allclose(ssim(a, a), 1)


def test_ssim_does_not_depend_on_the_other_images() -> None:
    """As many as are more than one block."""
    rng = np.random.default_rng(1)
    a, b = (rng.integers(0, 256, (20, 150, 160, 3), dtype=np.uint8) for _ in range(2))
    alone = [ssim(p[None], q[None])[0] for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b), alone, rtol=1e-12)


# --- extractors ---------------------------------------------------------------------------------


def _pixels(count: int, channels: int = 3) -> NDArray[np.uint8]:
    shape = (count, 16, 20, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_features_do_not_depend_on_the_number_of_images() -> None:
    extractor, pixels = RandomExtractor(), _pixels(130)
    together = extractor.features(pixels)
    assert together.shape == (130, 352)
    for k in (0, 64, 129):
        assert torch.equal(extractor.features(pixels[k : k + 1])[0], together[k])


def test_the_random_extractor_is_pinned() -> None:
    assert RandomExtractor().hash == RandomExtractor().hash == "cb2387303aa7"


def test_every_colour_mode_has_features() -> None:
    assert as_rgb(_pixels(2, 1)).shape[3] == 3
    clear = np.zeros((1, 4, 4, 4), dtype=np.uint8)
    assert (as_rgb(clear) == 255).all()


def test_a_classifier_learns_classes_and_is_a_function_of_its_arguments() -> None:
    labels = np.arange(200) % 2
    pixels = np.where(labels[:, None, None, None] == 0, _pixels(200) // 2, 255 - _pixels(200) // 2)
    pixels = pixels.astype(np.uint8)
    network = train_classifier(pixels, labels, 2, seed=0, images=1280)
    again = train_classifier(pixels, labels, 2, seed=0, images=1280)
    for a, b in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        right = network(images).argmax(dim=1).numpy() == labels
    assert right.mean() > 0.95
