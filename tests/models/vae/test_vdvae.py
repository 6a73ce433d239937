"""The hierarchical VAE: its bound, the order of its layers, and which layers can be kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.models.base import Batch, LossTerms
from gentool.models.vae.vdvae import HierarchicalVAE
from gentool.models.vae.vdvae_bound import kl, log_density
from gentool.networks.vdvae import Gaussians, Layer, bounded, ladder, spread

SHAPE = ImageShape(16, 16, 3)
ODD = ImageShape(20, 36, 1)
CPU = torch.device("cpu")
COUNT = 5


def build(
    shape: ImageShape = SHAPE, classes: int = 0, *, stirred: bool = True, **options: object
) -> HierarchicalVAE:
    """A small one; ``stirred``: its weights are no longer those of the start."""
    config = replace(HierarchicalVAE.Config(width=8, latent_size=2, layers=6), **options)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HierarchicalVAE(config, shape, classes).eval()
        with torch.no_grad():
            for parameter in model.parameters() if stirred else ():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False)


def grey(shape: ImageShape = SHAPE, count: int = COUNT) -> torch.Tensor:
    """Random grey levels."""
    generator = torch.Generator().manual_seed(0)
    size = (count, shape.channels, shape.height, shape.width)
    return torch.randint(256, size, generator=generator) / 127.5 - 1


def draw(share: float = 1.0, count: int = COUNT, step: int = 0) -> Draw:
    """The randomness of a step."""
    return Draw(0, "hvae", np.arange(count), step, CPU, share)


def loss(
    model: HierarchicalVAE, share: float = 1.0, labels: torch.Tensor | None = None
) -> LossTerms:
    """The terms of the one phase."""
    (phase,) = model.phases()
    return phase.loss(Batch(grey(model.shape), labels), draw(share))


def gaussians(seed: int) -> Gaussians:
    """Any, (3, 2, 4, 4) each."""
    generator = torch.Generator().manual_seed(seed)
    return Gaussians(*torch.randn(2, 3, 2, 4, 4, generator=generator))


# --- Gaussians and grids ------------------------------------------------------------------------


def test_kl_and_density_are_those_of_torch() -> None:
    p, q, z = gaussians(0), gaussians(1), torch.ones(3, 2, 4, 4)
    theirs = [Normal(g.mean, torch.exp(0.5 * g.log_variance)) for g in (q, p)]
    torch.testing.assert_close(kl(q, p), kl_divergence(*theirs).flatten(1))
    assert not kl(q, q).any()
    ours = log_density(p, z) - log_density(q, z)
    whole = theirs[1].log_prob(z) - theirs[0].log_prob(z)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, whole.flatten(1).sum(dim=1))


def test_noise_and_latents_are_inverse() -> None:
    p, noise = gaussians(0), gaussians(1).mean
    torch.testing.assert_close(p.noise_of(p.at(noise)), noise)


@pytest.mark.parametrize("layers", [1, 3, 12, 40])
def test_every_grid_has_a_layer_as_far_as_they_go_and_finer_ones_more(layers: int) -> None:
    sizes = ladder(ImageShape(32, 32, 3))
    assert sizes == [(1, 1), (4, 4), (8, 8), (16, 16), (32, 32)]
    found = spread(layers, sizes)
    assert len(found) == layers
    counts = [found.count(size) for size in sizes]
    assert (
        counts == sorted(counts)
        if layers >= len(sizes)
        else counts == [1] * layers + [0] * (len(sizes) - layers)
    )


# --- the bound ----------------------------------------------------------------------------------


def test_at_the_start_every_layer_expects_a_standard_normal() -> None:
    found, _ = build(stirred=False).infer(grey(), None)
    for layer in found:
        assert not layer.prior.mean.any()
        assert not layer.prior.log_variance.any()


@pytest.mark.parametrize("shape", [SHAPE, ODD], ids=str)
def test_the_loss_is_the_negative_elbo_with_its_kl_weighed(shape: ImageShape) -> None:
    plain = loss(build(shape))
    torch.testing.assert_close(plain.total, -plain.parts["elbo"])
    layers = [value for name, value in plain.parts.items() if name.startswith("kl/")]
    assert len(layers) == 6
    torch.testing.assert_close(torch.stack(layers).sum(dim=0), plain.parts["kl"])
    heavy = loss(build(shape, beta=3.0))
    torch.testing.assert_close(heavy.total, plain.total + 2 * plain.parts["kl"])
    rising = loss(build(shape, warm_up=0.5), share=0.125)
    torch.testing.assert_close(rising.total, plain.total - 0.75 * plain.parts["kl"])


def test_bits_per_dimension_are_those_of_the_elbo() -> None:
    model = build()
    parts = loss(model).parts
    expected = -parts["elbo"] / (SHAPE.dims * np.log(2))
    torch.testing.assert_close(parts["bits_per_dim"], expected.float())


def test_one_sample_is_the_elbo_in_the_mean_and_more_are_a_tighter_bound() -> None:
    model, x = build(layers=4, likelihood="gaussian", sigma=1.0), grey(count=4)
    turns = [Draw(seed, "b", np.arange(4), 0, CPU, 1.0) for seed in range(100)]
    elbos, ones = [], []
    for turn in turns:
        elbos.append(model.phases()[0].loss(Batch(x), turn).parts["elbo"])
        ones.append(model.variational.log_prob_bound(x, turn, 1))
    elbo, one = torch.stack(elbos), torch.stack(ones)
    error = (elbo.std(dim=0) + one.std(dim=0)) / len(turns) ** 0.5
    assert ((elbo.mean(dim=0) - one.mean(dim=0)).abs() < 5 * error).all()
    bounds = [
        torch.stack([model.variational.log_prob_bound(x, turn, k) for turn in turns[:10]]).mean()
        for k in (1, 5, 50)
    ]
    assert bounds[0] < bounds[1] < bounds[2]


def test_the_bound_learns() -> None:
    """A few steps with its own optimiser make images likelier than noise of their grey levels."""
    model = build(stirred=False, width=16, layers=4).train().requires_grad_(True)
    y = torch.linspace(-1, 1, 16)
    ramps = torch.stack([y.view(1, -1, 1).expand(3, 16, 16) * s for s in (1, 0.5, -0.5, -1)])
    x = ((ramps + 1) * 127.5).round() / 127.5 - 1
    optimiser = torch.optim.Adamax(model.parameters(), 1e-2)
    for step in range(60):
        terms = model.phases()[0].loss(Batch(x), draw(count=4, step=step))
        optimiser.zero_grad()
        terms.total.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert terms.parts["bits_per_dim"].mean() < 5  # noise has 8


def test_the_posterior_s_kl_per_latent_adds_up() -> None:
    model = build()
    means, kls = model.variational.posterior_terms(grey(), draw())
    found, _ = model.infer(grey(), None)
    assert means.shape == kls.shape == model.prior(np.arange(COUNT), 0).shape
    whole = sum(kl(layer.posterior, layer.prior).sum(dim=1) for layer in found)
    torch.testing.assert_close(kls.sum(dim=1), whole)


# --- latents ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [SHAPE, ODD], ids=str)
def test_decoding_what_was_encoded_goes_by_the_posterior_means(shape: ImageShape) -> None:
    model, x = build(shape), grey(shape)
    _, params = model.infer(x, None)
    torch.testing.assert_close(
        model.decode(model.encode(x)), model.likelihood.mean(params), atol=1e-4, rtol=1e-4
    )


def test_draws_from_the_posterior_spread_around_its_mean() -> None:
    model, x = build(), grey(count=1).expand(400, -1, -1, -1)
    drawn = model.variational.draw_latents(x, draw(count=400))
    top = drawn[:, :2]  # of the first layer, whose prior no draw has changed
    found, _ = model.infer(x[:1], None)
    posterior, prior = found[0].posterior, found[0].prior
    expected = prior.noise_of(posterior.mean).flatten()
    spread_of = torch.exp(0.5 * (posterior.log_variance - prior.log_variance)).flatten()
    assert ((top.mean(dim=0) - expected).abs() < 5 * spread_of / 20).all()
    torch.testing.assert_close(top.std(dim=0), spread_of, rtol=0.2, atol=0)


def test_a_layer_s_latents_change_what_those_below_expect_and_nothing_above() -> None:
    model = build()
    noise = model.prior(np.arange(2), 0)
    lengths = [np.prod(size) for size in model.decoder.latents]
    begin = int(sum(lengths[:3]))
    other = noise.clone()
    other[:, begin : begin + int(lengths[3])] += 1

    def expectations(rows: torch.Tensor) -> list[torch.Tensor]:
        seen = []
        parts = torch.split(rows, [int(n) for n in lengths], dim=1)

        def choose(k: int, layer: Layer, x: torch.Tensor, expected: Gaussians) -> torch.Tensor:
            seen.append(expected.mean)
            return expected.at(parts[k].view(-1, *layer.latents))

        model.decoder(2, None, choose)
        return seen

    same = [
        torch.equal(a, b) for a, b in zip(expectations(noise), expectations(other), strict=True)
    ]
    assert same == [True] * 4 + [False] * 2


def test_what_is_kept_is_the_top_and_the_rest_is_drawn() -> None:
    model = build()
    kept, drawn = model.encode(grey()), model.prior(np.arange(COUNT), 0)
    sizes = [int(np.prod(size)) for size in model.decoder.latents]
    for layers in (0, 2, 6):
        mixed, end = model.layers.keep_top(kept, drawn, layers), sum(sizes[:layers])
        assert torch.equal(mixed[:, :end], kept[:, :end])
        assert torch.equal(mixed[:, end:], drawn[:, end:])
    with pytest.raises(UsageError, match="--keep-top is 7, but this model has only 6 layers"):
        model.layers.keep_top(kept, drawn, 7)


def test_variations_share_the_top_of_image_0_and_the_temperature_cools() -> None:
    model = build()
    plain = model.prior(np.array([0, 4, 9]), 3)
    model.draw_with(keep_top=2)
    varied, end = (
        model.prior(np.array([4, 9]), 3),
        sum(int(np.prod(s)) for s in model.decoder.latents[:2]),
    )
    assert torch.equal(varied[:, :end], plain[:1, :end].expand(2, -1))
    assert torch.equal(varied[:, end:], plain[1:, end:])
    model.draw_with(keep_top=0, temperature=0.5)
    assert torch.equal(model.prior(np.array([4, 9]), 3), 0.5 * plain[1:])


# --- classes and health -------------------------------------------------------------------------


def test_a_class_changes_the_picture_and_is_sometimes_not_told() -> None:
    model = build(classes=3)
    rows = [model.prior(np.arange(2), 0, torch.full((2,), k)) for k in range(3)]
    assert torch.equal(rows[0][:, :-3], rows[1][:, :-3])
    pictures = [model.decode(latents) for latents in rows]
    assert not torch.equal(pictures[0], pictures[1])
    assert not model.encode(grey())[:, -3:].any()
    x, turn = grey(count=400), draw(count=400)
    (phase,) = model.phases()
    first, other = (phase.loss(Batch(x, torch.full((400,), k)), turn).total for k in range(2))
    assert 0.05 < (first == other).float().mean() < 0.15


def test_classes_are_drawn_as_often_as_they_occur() -> None:
    model = build(classes=2)
    labels = torch.tensor([0, 0, 0, 1])
    model.finish(lambda: iter([Batch(grey(count=4), labels)]))
    drawn = model.prior(np.arange(2000), 0)[:, -2:].mean(dim=0)
    assert drawn.tolist() == pytest.approx([0.75, 0.25], abs=0.05)


def test_collapse_and_storms_are_said_in_plain_words() -> None:
    model = build()
    fine = {"kl": 300.0, "share": 0.5, "skipped_hvae": 0.01}
    assert model.advice.health(fine) is None
    assert model.advice.health({**fine, "kl": 0.0, "share": 0.1}) is None
    assert "posterior collapse" in str(model.advice.health({**fine, "kl": 0.05}))
    skipping = str(model.advice.health({**fine, "skipped_hvae": 0.3}))
    assert "30% of the last steps were skipped" in skipping


def test_idle_layers_are_named_once_the_kl_has_its_weight() -> None:
    record = {"kl": 300.0, "share": 0.5, **{f"kl/{k}": 50.0 for k in range(6)}}
    assert build().advice.health(record) is None
    idle = {**record, "kl/1": 0.002, "kl/5": 0.0}
    told = str(build().advice.health(idle))
    assert told.startswith(
        "unused layers: of 6 layers of latents, counted from the top, number 2, 6 "
    )
    assert build(warm_up=0.6).advice.health(idle) is None
    assert build().advice.health({**idle, "share": 0.1}) is None
    worse = {**idle, "kl": 0.05}  # the worse fault is reported first
    assert "posterior collapse" in str(build().advice.health(worse))


def test_fewer_layers_than_grids_are_refused() -> None:
    with pytest.raises(UsageError, match=r"finest of 4 grids .*Use -o layers=4 or"):
        build(layers=3)
    assert len(build(layers=4).decoder.latents) == 4


def test_no_log_variance_leaves_its_bound_and_small_ones_are_left_alone() -> None:
    mean = torch.zeros(1, 1, 1, 5, dtype=torch.bfloat16)
    raw = torch.tensor([-1e4, -0.01, 0.0, 0.01, 1e4], dtype=torch.bfloat16).view(1, 1, 1, 5)
    found = bounded(mean, raw)
    assert found.mean.dtype == found.log_variance.dtype == torch.float32
    expected = torch.tensor([-8.0, -0.01, 0.0, 0.01, 8.0]).view(1, 1, 1, 5)
    torch.testing.assert_close(found.log_variance, expected, rtol=2e-3, atol=0)
    model = build()
    with torch.no_grad():
        for name, weight in model.decoder.named_parameters():
            if name.endswith(("expect.body.7.weight", "look.body.7.weight")):
                weight.mul_(1e6)  # far beyond where exp overflows
    inferred, _ = model.infer(grey(), None)
    for one in inferred:
        for law in (one.prior, one.posterior):
            assert law.log_variance.abs().max() <= 8
    assert max(one.posterior.log_variance.max().item() for one in inferred) > 7.9


def test_black_and_white_and_changed_images_get_a_likelihood_that_takes_them() -> None:
    ink = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (4, 16, 16, 1))
    config = HierarchicalVAE.Config(width=8, latent_size=2, layers=4)
    black, words = config.adapted(1000, lambda: ink)
    assert (black.likelihood, len(words)) == ("bernoulli", 1)
    assert config.adapted(1000, lambda: ink // 2)[0].likelihood == "logistic-mixture"
    changed, words = config.adapted(1000, None)
    assert (changed.likelihood, "grey levels" in words[0]) == ("gaussian", True)
    x = torch.from_numpy(ink).permute(0, 3, 1, 2).float() / 127.5 - 1
    model = HierarchicalVAE(black, ImageShape(16, 16, 1))
    assert model.phases()[0].loss(Batch(x), draw(count=4)).total.isfinite().all()


def test_a_skip_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match=r"skip=0\.5 would skip"):
        build(skip=0.5)


def test_images_off_the_grey_levels_are_refused_with_another_likelihood() -> None:
    model = build()
    with pytest.raises(UsageError, match=r"256 grey levels, .*-o likelihood=gaussian"):
        model.phases()[0].loss(Batch(grey() * 0.999), draw())
