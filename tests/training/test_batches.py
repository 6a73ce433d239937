"""The images to which a density is fitted: how many, and how many per batch."""

import pytest
import torch

from gentool.core.images import to_pixels
from gentool.data import Dataset, open_dataset
from gentool.training.batches import Feeder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("builtin:digits:3000", "32")


@pytest.mark.parametrize(("seen", "count"), [(0, 1024), (1500, 1500), (10**6, 3000)])
def test_a_fit_looks_at_no_more_images_than_were_seen(
    digits: Dataset, seen: int, count: int
) -> None:
    """Some 1,000 always, and all there are at most, each once."""
    feeder = Feeder(digits.whole, 1, 16, CPU)
    batches = [batch.images for batch in feeder.to_fit(seen)]
    assert sum(map(len, batches)) == feeder.fit_count(seen) == count
    shown = {pixels.tobytes() for images in batches for pixels in to_pixels(images)}
    everything = {pixels.tobytes() for pixels in digits.images[:]}
    assert shown <= everything
    assert len(shown) == pytest.approx(count, abs=len(digits) - len(everything))


def test_large_images_are_fitted_to_in_small_batches() -> None:
    large = open_dataset("builtin:shapes:40", "128")
    sizes = [len(b.images) for b in Feeder(large.whole, 1, 8, CPU).fixed(40)]
    assert sizes == [16, 16, 8]
