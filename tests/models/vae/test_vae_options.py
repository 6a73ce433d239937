"""Effects of the options of a VAE on its loss, refused options, and the diagnosis of a run."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Finished, gentool_command, words
from PIL import Image
from torch import nn
from torch.distributions import Normal

from gentool.checkpoint import load_model
from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.options import idle_options, to_json
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms, Model
from gentool.models.capabilities import required_likelihood
from gentool.models.vae.autoencoder import Autoencoder
from gentool.models.vae.model import VAE

SHAPE = ImageShape(16, 16, 1)
CPU = torch.device("cpu")


def build(**options: object) -> VAE:
    """A tiny VAE with reproducible weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VAE(replace(VAE.Config(width=4, latent_size=6), **options), SHAPE)  # type: ignore[arg-type]


def grey(count: int = 6) -> torch.Tensor:
    """Random grey levels."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 1, 16, 16), generator=generator) / 127.5 - 1


def loss(model: Model, images: torch.Tensor, indices: list[int], share: float = 0.25) -> LossTerms:
    """The terms of the one phase."""
    (phase,) = model.phases()
    return phase.loss(Batch(images), Draw(0, "test", np.array(indices), 1, CPU, share))


SETTINGS: list[dict[str, object]] = [
    {"samples": 5},
    {"samples": 3, "prior": "vamp", "regularisers": "mmd"},
    {"free_bits": 0.2, "warm_up": 0.5},
    {"capacity": 3.0, "beta": 10.0, "likelihood": "logistic-mixture"},
    {"regularisers": "mmd+tc+code-l2+decoder-l2+decoder-gp", "strength": 0.5, "denoise": 0.1},
    {"likelihood": "bernoulli", "binarise": True, "cycles": 3},
]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_batch_said_twice_has_the_same_loss_and_log(options: dict[str, object]) -> None:
    model, x = build(**options), grey()
    once = loss(model, x, list(range(6)))
    twice = loss(model, x.repeat(2, 1, 1, 1), [*range(6)] * 2)
    torch.testing.assert_close(twice.total, once.total.repeat(2), rtol=1e-4, atol=1e-4)
    assert once.parts.keys() == twice.parts.keys()
    for name, part in once.parts.items():
        torch.testing.assert_close(twice.parts[name].mean(), part.mean(), rtol=1e-4, atol=1e-4)


def test_the_batch_said_twice_holds_for_the_autoencoder() -> None:
    config = Autoencoder.Config(width=4, latent_size=6, regularisers="mmd+decoder-gp", denoise=0.1)
    model, x = Autoencoder(config, SHAPE), grey()
    once = loss(model, x, list(range(6)))
    twice = loss(model, x.repeat(2, 1, 1, 1), [*range(6)] * 2)
    torch.testing.assert_close(twice.total, once.total.repeat(2), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_loss_is_the_weighed_elbo() -> None:
    x, indices = grey(), list(range(6))
    plain = loss(build(), x, indices)
    torch.testing.assert_close(plain.total, -plain.parts["elbo"])
    kl = plain.parts["kl"]
    heavy = loss(build(beta=4.0), x, indices)
    torch.testing.assert_close(heavy.total, plain.total + 3 * kl)
    rising = loss(build(beta=4.0, warm_up=0.5), x, indices, share=0.25)
    torch.testing.assert_close(rising.total, plain.total + kl)
    held = loss(build(beta=4.0, capacity=2.0), x, indices, share=0.25)
    torch.testing.assert_close(held.total, plain.total - kl + 4 * (kl - 1).abs())


def test_options_of_a_learned_prior_are_refused_beside_one_that_is_fitted() -> None:
    for options in ({"prior_share": 0.3}, {"prior_width": 32}):
        reasons = idle_options(VAE.Config(**options))
        for name in options:
            assert (
                "which mixture is not. Leave it out, or use -o prior=latent-flow" in reasons[name]
            )


def test_dense_networks_see_every_pixel_and_have_the_published_size() -> None:
    model = VAE(VAE.Config(hidden=400, latent_size=40, prior="normal"), ImageShape(28, 28, 1))
    weights = sum(p.numel() for p in model.encoder.parameters())
    assert weights == (784 + 1) * 400 + (400 + 1) * 80
    weights = sum(p.numel() for p in model.decoder.parameters())
    assert weights == (40 + 1) * 400 + (400 + 1) * 784
    assert model.eval().decode(model.encode(torch.zeros(3, 1, 28, 28))).shape == (3, 1, 28, 28)
    assert VAE(VAE.Config(hidden=8, grid=0, latent_size=5), SHAPE).length == 5
    assert "makes all layers dense" in idle_options(VAE.Config(hidden=400, grid=8))["grid"]


def test_a_grid_at_256() -> None:
    model = VAE(VAE.Config(width=2, latent_size=2, grid=0, prior="normal"), ImageShape(256, 256, 1))
    x = torch.rand(2, 1, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    terms = loss(model, x, [0, 1])
    terms.total.mean().backward()  # type: ignore[no-untyped-call]
    assert terms.total.isfinite().all()
    assert model.length == 2 * 8 * 8
    assert model.decode(model.encode(x)).shape == x.shape


def test_dense_layers_may_be_those_of_burda() -> None:
    """Two layers of 200 tanhs each way around 50 latents: 2016, section 5."""
    options = VAE.Config(
        hidden=200, dense_layers=2, activation="tanh", latent_size=50, prior="normal"
    )
    model = VAE(options, ImageShape(28, 28, 1)).eval()
    x = torch.rand(3, 1, 28, 28) * 2 - 1
    first, second, last = (model.encoder[k] for k in (1, 3, 5))
    naive = last(torch.tanh(second(torch.tanh(first(x.flatten(1))))))
    torch.testing.assert_close(model.encode(x), naive[:, :50])
    weights = sum(p.numel() for p in model.decoder.parameters())
    assert weights == (50 + 1) * 200 + (200 + 1) * 200 + (200 + 1) * 784
    reasons = idle_options(VAE.Config(dense_layers=2, activation="tanh"))
    for name in ("dense_layers", "activation"):
        assert reasons[name] == "it is for dense layers. Use -o hidden=200, or leave it out"


def test_a_prior_that_no_file_should_hold_is_refused() -> None:
    with torch.device("meta"), pytest.raises(UsageError, match=r"of 8192 latents.* 5 GiB\. Use a"):
        VAE(VAE.Config(grid=8, latent_size=128), ImageShape(32, 32, 3))


@torch.no_grad()
def test_more_samples_raise_the_bound_that_is_trained() -> None:
    x = grey(40)
    found = [-loss(build(samples=k), x, list(range(40))).total.mean().item() for k in (1, 4, 32)]
    assert found == sorted(found)


@torch.no_grad()
@pytest.mark.parametrize(("options", "weight"), [({"beta": 4.0}, 4.0), ({"warm_up": 0.5}, 0.5)])
def test_the_bound_of_several_samples_is_weighed_in_every_sample(
    options: dict[str, object], weight: float
) -> None:
    """Log 1/K sum_k p(x|z_k) (p(z_k) / q(z_k|x))^beta, a quarter of the run being over."""
    model, x, indices = build(samples=3, **options), grey(), list(range(6))
    mean, log_variance = model.posterior(x)
    q, p = Normal(mean, torch.exp(0.5 * log_variance)), Normal(0.0, 1.0)
    draws = Draw(0, "test", np.array(indices), 1, CPU).normal("posterior", 3, 6)
    terms, ratios = [], []
    for noise in draws.unbind(dim=1):
        z = mean + q.stddev * noise
        ratio = (p.log_prob(z) - q.log_prob(z)).sum(dim=1)  # type: ignore[no-untyped-call]
        terms.append(model.likelihood.log_prob(model.decoder(z), x) + weight * ratio)
        ratios.append(ratio)
    naive = torch.stack(terms).double().logsumexp(dim=0) - math.log(3)
    found = loss(model, x, indices)
    torch.testing.assert_close(found.total.double(), -naive)
    torch.testing.assert_close(found.parts["kl"], -torch.stack(ratios).mean(dim=0))


def test_the_importance_bound_is_that_of_evaluate() -> None:
    """Trained on, and measured by ``log_prob_bound`` with other noise: equal in the mean."""
    model, x = build(samples=64), grey(32)
    with torch.no_grad():
        trained = -loss(model, x, list(range(32))).total
        draw = Draw(7, "other", np.arange(32), 0, CPU)
        measured = model.variational.log_prob_bound(x, draw, 64)
    error = (trained - measured).std().item() / 32**0.5
    assert abs((trained - measured).mean().item()) < 5 * error + 0.05


def test_regularisers_do_not_lean_on_the_weights_of_the_samples() -> None:
    """Their gradient passes through the same z as the bound's, but unweighed."""
    x, indices = grey(), list(range(6))
    gradients = []
    for options in ({"regularisers": "code-l2", "strength": 1e3}, {}):
        model = build(samples=4, **options)
        loss(model, x, indices).total.mean().backward()  # type: ignore[no-untyped-call]
        found = model.encoder.head.weight.grad
        assert found is not None
        gradients.append(found)
    model = build(samples=4)
    posterior = model.posterior(x)
    noise = Draw(0, "test", np.arange(6), 1, CPU).normal("posterior", 4, 6)[:, 0]
    z = posterior.mean + torch.exp(0.5 * posterior.log_variance) * noise
    (alone,) = torch.autograd.grad(
        (10 * 0.5 * z.square().sum(dim=1)).mean(), model.encoder.head.weight
    )
    torch.testing.assert_close(gradients[0] - gradients[1], alone, rtol=1e-3, atol=1e-3)


def test_what_needs_the_kl_itself_is_refused_with_samples() -> None:
    with pytest.raises(UsageError, match=r"free_bits needs the KL.*Use -o samples=1, or"):
        build(samples=2, free_bits=0.1)
    with pytest.raises(UsageError, match="capacity needs the KL"):
        build(samples=2, capacity=5.0)


def test_free_bits_of_a_prior_that_has_no_kl_per_latent_are_refused() -> None:
    with pytest.raises(UsageError, match=r"free_bits needs the KL of each latent.*-o warm_up=0.2"):
        build(prior="vamp", free_bits=0.1)


def test_grey_images_are_refused_by_a_likelihood_of_ink() -> None:
    model = build(likelihood="bernoulli")
    with pytest.raises(UsageError, match=r"0 or 255, .*Use -o binarise=true, or -o likeliho"):
        loss(model, grey(), list(range(6)))
    with pytest.raises(UsageError, match="0 or 255, "):
        model.variational.log_prob_bound(grey(), Draw(0, "test", np.arange(6), 0, CPU), 1)
    with pytest.raises(
        UsageError, match=r"256 grey levels.*likelihood=gaussian, or --augment none"
    ):
        loss(build(likelihood="logistic"), grey() + 0.003, list(range(6)))


def test_ink_is_drawn_by_the_grey_value_anew_at_every_look() -> None:
    model = build(binarise=True)
    images = torch.full((4, 1, 16, 16), 0.5).repeat(50, 1, 1, 1)
    ink = model.observed(images, Draw(0, "test", np.arange(200), 0, CPU))
    assert set(ink.flatten().tolist()) == {-1.0, 1.0}
    assert ink.mean().item() == pytest.approx(0.5, abs=0.02)
    again = model.observed(images, Draw(0, "test", np.arange(200, 400), 0, CPU))
    assert not torch.equal(ink, again)


SLOPES = torch.tensor([1.0, 0.5, 2.0, 0.05])


class _Units(nn.Module):
    """An encoder whose six units are known: three vary, one too little, two not at all."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Means: four pixels, the last of them faint, 0 and 3; all variances are 1."""
        pixels = x.flatten(1)[:, :4] * SLOPES
        constants = torch.tensor([0.0, 3.0]).expand(len(x), 2)
        return torch.cat([pixels, constants, torch.zeros(len(x), 6)], dim=1)


@pytest.mark.parametrize("samples", [1, 3])
def test_the_active_units_that_a_step_logs_are_those_that_vary(samples: int) -> None:
    model, x = build(samples=samples), grey(64)
    model.encoder = _Units()
    found = loss(model, x, list(range(64))).parts["active_units"]
    assert found.tolist() == [3.0] * 64


def test_the_largest_unit_that_a_step_logs_has_the_most_nats() -> None:
    """Of a unit variance the KL is half the squared mean: 4.5 nats of the constant, 3."""
    model, x = build(), grey(64)
    model.encoder = _Units()
    parts = loss(model, x, list(range(64))).parts
    assert parts["kl_largest_unit"].tolist() == pytest.approx([4.5] * 64)
    squares = (x.flatten(1)[:, :4] * SLOPES).square().sum(dim=1)
    torch.testing.assert_close(parts["kl"], 4.5 + 0.5 * squares)


@torch.no_grad()
def test_the_largest_unit_is_that_of_the_mean_over_images() -> None:
    model, x = build(), grey()
    mean, log_variance = model.posterior(x)
    naive = [
        sum(float(0.5 * (m**2 + v.exp() - 1 - v)) for m, v in zip(*unit, strict=True)) / 6
        for unit in zip(mean.T, log_variance.T, strict=True)
    ]
    found = loss(model, x, list(range(6))).parts["kl_largest_unit"]
    assert found.tolist() == pytest.approx([max(naive)] * 6, rel=1e-4)


def test_collapse_is_said_in_plain_words() -> None:
    record = {"active_units": 0.1, "kl": 0.03, "share": 0.5}
    told = build().advice.health(record)
    assert told is not None
    assert "posterior collapse" in told
    assert "-o beta" in told
    assert build().advice.health({**record, "active_units": 3.0}) is None
    assert build().advice.health({**record, "share": 0.1}) is None  # a late start


@pytest.mark.parametrize("options", [{}, {"samples": 5}, {"prior": "vamp"}], ids=str)
def test_what_is_advised_against_a_collapse_is_accepted(options: dict[str, object]) -> None:
    told = build(**options).advice.health({"active_units": 0.0, "kl": 0.0, "share": 0.5})
    advised = re.findall(r"-o (\w+)=([\d.]+)", told or "")
    assert advised
    for name, value in advised:
        build(**options, **{name: float(value)})
    assert ("free_bits" in dict(advised)) == (options == {})


def test_one_image_tells_of_no_collapse() -> None:
    parts = loss(build(), grey(1), [0]).parts
    assert parts["active_units"].isnan().all()
    record = {"active_units": float("nan"), "kl": 5.0, "share": 0.5}
    assert build().advice.health(record) is None
    assert build().advice.health({"kl": 5.0, "share": 0.5}) is None  # of a span without a bound


def test_a_run_of_single_images_is_told_of_no_collapse(image_folder: Path, tmp_path: Path) -> None:
    done = _train(image_folder, tmp_path / "run", "--images", 24, "--batch", 1)
    assert done.code == 0, done.err
    assert "collapse" not in done.err
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text())["active_units"] is None


# --- through the command -----------------------------------------------------------------------


def _black_and_white(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        blocks = 255 * rng.integers(0, 2, (4, 4), dtype=np.uint8)
        pixels = blocks.repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def _train(data: Path, out: Path, *more: object) -> Finished:
    return gentool_command("train", "vae", "--data", data, "--out", out, *TINY, *more)


def test_black_and_white_images_get_their_likelihood_and_a_run_goes_on(tmp_path: Path) -> None:
    data, out = _black_and_white(tmp_path / "ink"), tmp_path / "run"
    stopped = _train(data, out, "--images", 320, "--stop-after", 160)
    assert stopped.code == 75
    assert "likelihood bernoulli: the images are black and white" in stopped.err
    done = _train(data, out, "--images", 320)
    assert done.code == 0, done.err
    model = load_model(out).model
    assert to_json(model.config)["likelihood"] == "bernoulli"
    assert required_likelihood(model.variational).discrete


def test_a_collapse_is_told_while_training_and_units_are_logged(
    image_folder: Path, tmp_path: Path
) -> None:
    run = ("--images", 1280, "--lr", 0.01, "-o", "beta=10000")
    stopped = _train(image_folder, tmp_path / "run", *run, "--stop-after", 640)
    assert stopped.code == 75, stopped.err
    done = _train(image_folder, tmp_path / "run", *run)  # its log begins after the fall
    assert done.code == 0, done.err
    assert "warning: posterior collapse: the decoder ignores z" in words(done.err)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert {"active_units", "kl_largest_unit", "kl", "elbo"} <= json.loads(lines[-1]).keys()


def test_a_grey_set_with_bernoulli_is_a_usage_error(image_folder: Path, tmp_path: Path) -> None:
    done = _train(image_folder, tmp_path / "run", "--images", 64, "-o", "likelihood=bernoulli")
    assert done.code == 2
    assert "Use -o binarise=true, or -o likelihood=gaussian" in words(done.err)
