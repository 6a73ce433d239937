"""Every likelihood: per image, its mean and samples agree, finite at the edges."""

import pytest
import torch

from gentool.models.likelihoods import LIKELIHOODS, Gaussian, Likelihood


@pytest.fixture(params=list(LIKELIHOODS))
def likelihood(request: pytest.FixtureRequest) -> Likelihood:
    """Each likelihood in turn."""
    return LIKELIHOODS.get(request.param)()


def _params(likelihood: Likelihood, scale: float = 0.1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(3, 2 * likelihood.params_per_channel, 4, 4, generator=generator)


def test_log_prob_sums_over_pixels_to_one_value_per_image(likelihood: Likelihood) -> None:
    params = _params(likelihood)
    images = likelihood.mean(params)
    values = likelihood.log_prob(params, images)
    assert values.shape == (3,)
    for k in range(3):
        alone = likelihood.log_prob(params[k : k + 1], images[k : k + 1])
        torch.testing.assert_close(alone[0], values[k])
    left = likelihood.log_prob(params[..., :2], images[..., :2])
    right = likelihood.log_prob(params[..., 2:], images[..., 2:])
    torch.testing.assert_close(left + right, values)


def test_the_mean_is_that_of_many_samples(likelihood: Likelihood) -> None:
    if isinstance(likelihood, Gaussian):
        torch.nn.init.constant_(likelihood.raw_log_scale, -0.2)  # narrow: no sample is clipped
    params = _params(likelihood)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        draws = torch.stack(
            [
                likelihood.sample(params, torch.randn(3, 2, 4, 4, generator=generator))
                for _ in range(4000)
            ]
        )
        error = (draws.mean(dim=0) - likelihood.mean(params)).abs().max()
    assert error < 6 * draws.std() / 4000**0.5


def test_gradients_are_finite_at_the_extremes(likelihood: Likelihood) -> None:
    params = (1e3 * _params(likelihood, 1.0)).requires_grad_(True)
    images = torch.ones(3, 2, 4, 4)
    value = likelihood.log_prob(params, images)
    (gradient,) = torch.autograd.grad(value.sum(), params)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_samples_and_means_stay_in_the_range_of_images(likelihood: Likelihood) -> None:
    params = 50 * _params(likelihood, 1.0)
    assert likelihood.mean(params).abs().max() <= 1
    assert likelihood.sample(params, torch.randn(3, 2, 4, 4)).abs().max() <= 1
