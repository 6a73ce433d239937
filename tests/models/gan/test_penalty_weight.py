"""Gamma scaled by the variance of the images, against plain sums."""

import torch
from torch.testing import assert_close

from gentool.models.gan.penalty_weight import ImageVariance


def batches(count: int, scale: float = 1.0) -> list[torch.Tensor]:
    """Batches of noise (8, 3, 4, 4)."""
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(8, 3, 4, 4, generator=generator) for _ in range(count)]


def test_it_is_the_mean_variance_of_the_batches_summed_over_pixels() -> None:
    measured = ImageVariance()
    assert measured.factor == 1  # before anything was seen
    seen = batches(5)
    for images in seen:
        measured.update(images)
    naive = torch.stack([((x - x.mean(0)) ** 2).mean(0).sum() for x in seen]).mean()
    assert_close(measured.total, naive)
    assert_close(measured.factor, naive / 768)


def test_after_fifty_steps_it_stands() -> None:
    measured = ImageVariance()
    for images in batches(50):
        measured.update(images)
    before = measured.total.clone()
    measured.update(batches(1, scale=10)[0])
    assert measured.total == before


def test_it_grows_with_the_square_of_the_contrast_and_with_the_pixels() -> None:
    one, strong, large = ImageVariance(), ImageVariance(), ImageVariance()
    for images in batches(3):
        one.update(images)
        strong.update(2 * images)
        large.update(images.repeat(1, 1, 2, 2))
    assert_close(strong.factor, 4 * one.factor)
    assert_close(large.factor, 4 * one.factor)


def test_one_image_says_nothing_of_a_variance() -> None:
    measured = ImageVariance()
    measured.update(batches(1)[0][:1])
    assert measured.steps == 0
