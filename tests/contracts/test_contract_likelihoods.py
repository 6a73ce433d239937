"""Every likelihood: one value per image, mean and samples that agree, finite values, support."""

import re

import pytest
import torch

from gentool.core.errors import UsageError
from gentool.models.likelihoods import LIKELIHOODS, Likelihood

CHANNELS = 2
DRAWS = 1000


@pytest.fixture(params=list(LIKELIHOODS))
def likelihood(request: pytest.FixtureRequest) -> Likelihood:
    """Each likelihood in turn, narrow where it has a scale, so that no sample is clipped."""
    entry = LIKELIHOODS.get(request.param)
    return entry(0.05) if entry.scaled else entry()


def _params(likelihood: Likelihood, scale: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(3, likelihood.outputs(CHANNELS), 4, 4, generator=generator)


def _sampled(likelihood: Likelihood, params: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        noise = torch.randn(len(params), CHANNELS, 4, 4, generator=generator)
        return likelihood.sample(params, noise)


def test_log_prob_sums_over_pixels_to_one_value_per_image(likelihood: Likelihood) -> None:
    params = _params(likelihood)
    images = _sampled(likelihood, params, 2)
    values = likelihood.log_prob(params, images)
    assert values.shape == (3,)
    for k in range(3):
        alone = likelihood.log_prob(params[k : k + 1], images[k : k + 1])
        torch.testing.assert_close(alone[0], values[k])
    left = likelihood.log_prob(params[..., :2], images[..., :2])
    right = likelihood.log_prob(params[..., 2:], images[..., 2:])
    torch.testing.assert_close(left + right, values)


def test_the_mean_is_that_of_many_samples(likelihood: Likelihood) -> None:
    params = _params(likelihood)
    draws = _sampled(likelihood, params.repeat(DRAWS, 1, 1, 1), 1).unflatten(0, (DRAWS, 3))  # type: ignore[no-untyped-call]
    error = (draws.mean(dim=0) - likelihood.mean(params)).abs().max()
    assert error < 6 * draws.std() / DRAWS**0.5


def test_samples_follow_the_likelihood_in_every_parameter(likelihood: Likelihood) -> None:
    """E[d log p(x) / d params] = 0 under p itself, seen along random directions."""
    params = _params(likelihood)
    images = _sampled(likelihood, params.repeat(DRAWS, 1, 1, 1), 1)
    each = params.repeat(DRAWS, 1, 1, 1).requires_grad_(True)
    (score,) = torch.autograd.grad(likelihood.log_prob(each, images).sum(), each)
    score = score.reshape(DRAWS, -1)
    directions = torch.randn(score.shape[1], 64, generator=torch.Generator().manual_seed(2))
    seen = score @ directions
    assert (seen.mean(dim=0).abs() < 5 * seen.std(dim=0) / DRAWS**0.5).all()


@pytest.mark.parametrize("brightness", [-1.0, 1.0])
def test_gradients_are_finite_at_the_extremes(likelihood: Likelihood, brightness: float) -> None:
    params = (1e3 * _params(likelihood, 1.0)).requires_grad_(True)
    images = torch.full((3, CHANNELS, 4, 4), brightness)
    value = likelihood.log_prob(params, images)
    (gradient,) = torch.autograd.grad(value.sum(), params)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_samples_and_means_stay_in_the_range_of_images(likelihood: Likelihood) -> None:
    params = 50 * _params(likelihood, 1.0)
    assert likelihood.mean(params).abs().max() <= 1
    samples = _sampled(likelihood, params, 0)
    assert samples.abs().max() <= 1
    likelihood.check(samples)


def test_images_outside_the_support_are_refused_with_another_entry(likelihood: Likelihood) -> None:
    images = torch.zeros(1, CHANNELS, 4, 4) if likelihood.discrete else torch.tensor([[[[1e40]]]])
    with pytest.raises(UsageError, match=re.escape(likelihood.support)):
        likelihood.check(images)
    with pytest.raises(UsageError, match=r"images like those the model was trained on$"):
        likelihood.check(images)  # whoever scores images has no -o to choose by
    with pytest.raises(UsageError, match=re.escape(f"Use {likelihood.otherwise}")):
        likelihood.watch(images, 0)
    with pytest.raises(UsageError, match=re.escape(f"Use a stick, or {likelihood.otherwise}")):
        likelihood.watch(images, 0, "a stick")
    if likelihood.discrete:
        assert "-o likelihood=gaussian" in likelihood.otherwise


def test_a_stray_image_is_noticed_on_a_device_that_is_seldom_waited_for(
    likelihood: Likelihood, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine = torch.ones(1, CHANNELS, 4, 4)
    stray = fine.clone()
    stray[0, 0, 0, 0] = torch.inf
    with pytest.raises(UsageError):  # a CPU needs no waiting
        likelihood.watch(stray, 3)
    monkeypatch.setattr("gentool.models.likelihoods.base.READ_EACH_STEP", ())
    for step in range(62, 128):
        likelihood.watch(stray if step == 100 else fine, step)
    with pytest.raises(UsageError, match="the images have other pixels"):
        likelihood.watch(fine, 128)
    for step in range(129, 193):
        likelihood.watch(fine, step)
