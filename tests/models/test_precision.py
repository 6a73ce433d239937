"""With autocast, networks compute in bfloat16; bounds, KL and likelihoods in float32."""

import numpy as np
import pytest
import torch

from gentool.core.images import ImageShape
from gentool.core.options import from_json
from gentool.core.rng import Draw
from gentool.models import MODELS
from gentool.models.base import Batch, LossTerms, Model
from gentool.models.likelihoods import LIKELIHOODS

SHAPE = ImageShape(16, 16, 3)
CPU = torch.device("cpu")
BOTH = [(model, likelihood) for model in ("vae", "hvae") for likelihood in LIKELIHOODS]


def build(name: str, likelihood: str) -> Model:
    """A small one, with weights that are the same in every test."""
    given = {"width": 8, "latent_size": 4, "likelihood": likelihood}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model_class = MODELS.get(name)
        model: Model = model_class(from_json(model_class.Config, given), SHAPE).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model


def loss(model: Model, likelihood: str, *, half: bool) -> LossTerms:
    """Of four images within the support, in bfloat16 or not."""
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(256, (4, 3, 16, 16), generator=generator) / 127.5 - 1
    images = grey.sign() if likelihood == "bernoulli" else grey
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        return model.phases()[0].loss(Batch(images), Draw(0, "test", np.arange(4), 1, CPU, 1.0))


@pytest.mark.parametrize(("name", "likelihood"), BOTH)
def test_a_bound_in_half_precision_is_float32_and_near_the_whole_one(
    name: str, likelihood: str
) -> None:
    model = build(name, likelihood)
    whole, half = (loss(model, likelihood, half=half) for half in (False, True))
    assert half.total.dtype == torch.float32
    for part, values in whole.parts.items():
        if part in ("elbo", "kl") or part.startswith("kl/"):
            found = half.parts[part]
            assert found.dtype == torch.float32
            size = whole.parts["kl"].abs().mean() if part.startswith("kl") else values.abs().mean()
            assert (found - values).abs().max() < 0.03 * size, part


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_likelihood_takes_half_precision_and_gives_float32_to_the_last_bit(
    likelihood: str,
) -> None:
    entry = LIKELIHOODS.get(likelihood)()
    generator = torch.Generator().manual_seed(0)
    params = torch.randn(3, entry.outputs(3), 4, 4, generator=generator).bfloat16()
    images = torch.randn(3, 3, 4, 4, generator=generator).sign()
    with torch.autocast("cpu", torch.bfloat16):
        found = entry.log_prob(params, images), entry.mean(params)
    wide = params.float()
    for half, whole in zip(found, (entry.log_prob(wide, images), entry.mean(wide)), strict=True):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, whole, rtol=1e-6, atol=1e-6)
