"""The encoder of a GAN recovers the latents of its samples, and trains only its own weights."""

import numpy as np
import pytest
import torch
from torch import nn

from gentool.core.errors import NoEncoder
from gentool.core.images import ImageShape
from gentool.core.rng import Draw
from gentool.metrics.pixels import pixel_distance
from gentool.models.base import Batch
from gentool.models.gan.latent_encoder import (
    LatentEncoder,
    embedding_loss,
    feature_distance,
)
from gentool.models.gan.model import GAN

SHAPE, CPU = ImageShape(16, 16, 3), torch.device("cpu")


def build(classes: int = 0, share: float = 0.1) -> GAN:
    """A small GAN whose random generator draws strong colours."""
    config = GAN.Config(width=8, latent_size=4, encoder_share=share)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GAN(config, SHAPE, classes)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.mul_(1.5)
    return model


@pytest.mark.parametrize("classes", [0, 3])
def test_an_encoder_learns_where_samples_lie(classes: int) -> None:
    model = build(classes)
    phase = model.phases()[-1]
    assert phase.name == "encoder"
    assert phase.span == (0.9, 1.0)
    with pytest.raises(NoEncoder):
        model.encode(torch.zeros(1, 3, 16, 16))
    before = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("encoder")}
    model.requires_grad_(False)
    phase.module.requires_grad_(True)
    optimiser = torch.optim.Adam(phase.module.parameters(), lr=2e-3)
    losses = []
    for step in range(120):
        model.eval()
        draw = Draw(0, "encoder", np.arange(step * 16, step * 16 + 16), step, CPU)
        labels = torch.arange(16) % classes if classes else None
        images = model.decode(model.prior(np.arange(16), 7, labels)).detach()
        model.train()
        terms = phase.loss(Batch(images, labels), draw)
        assert terms.total.shape == (16,)
        losses.append(terms.parts["encoder_samples"].mean().item())
        optimiser.zero_grad()
        terms.total.mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:10])
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name
    model.eval()
    wanted = torch.arange(64) % classes if classes else None
    latents = model.prior(np.arange(64), 3, wanted)
    found = model.encode(model.decode(latents))
    if classes:
        assert wanted is not None
        assert found[:, -classes:].argmax(dim=1).eq(wanted).float().mean() > 0.8
        assert torch.allclose(found[:, -classes:].sum(dim=1), torch.ones(64))
    near = (found[:, :4] - latents[:, :4]).square().mean()
    far = (found[:, :4] - latents[:, :4].roll(1, 0)).square().mean()
    assert near < 0.5 * far


def test_the_encoders_loss_is_its_sum() -> None:
    """The terms, image by image, with every network replaced by a linear map."""
    torch.manual_seed(0)
    into, out, looks = nn.Linear(192, 5), nn.Linear(5, 192), nn.Linear(192, 7)

    class Encoder(LatentEncoder):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.latent_size = 3

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            z, logits = into(images.flatten(1)).split([3, 2], dim=1)
            return torch.cat([z, logits.softmax(dim=1)], dim=1)

    def generate(latents: torch.Tensor) -> torch.Tensor:
        return out(latents).view(-1, 3, 8, 8)  # type: ignore[no-any-return]

    def features(images: torch.Tensor) -> torch.Tensor:
        return looks(images.flatten(1))  # type: ignore[no-any-return]

    encoder, images = Encoder(), torch.randn(4, 3, 8, 8)
    latents = torch.cat([torch.randn(4, 3), torch.eye(2)[[0, 1, 1, 0]]], dim=1)
    found = embedding_loss(encoder, generate, features, images, latents).total
    for i in range(4):
        x, z = images[i : i + 1], latents[i : i + 1]
        sample = generate(z)
        here, there = encoder(x), encoder(sample)
        expected = pixel_distance(generate(here), x) + pixel_distance(generate(there), sample)
        a, b = features(generate(here)), features(x)
        expected = expected + 0.05 * (a - b).square().sum() / b.square().sum()
        expected = expected + 0.05 * (there[:, :3] - z[:, :3]).square().mean()
        wanted = int(z[0, 3:].argmax())
        expected = expected - 0.02 * (here[0, 3 + wanted].log() + there[0, 3 + wanted].log())
        torch.testing.assert_close(found[i : i + 1], expected, rtol=1e-4, atol=1e-4)


def test_its_features_are_those_of_the_discriminator() -> None:
    model = build()
    phase, images = model.phases()[-1], torch.rand(4, 3, 16, 16) * 2 - 1
    draw = Draw(0, "encoder", np.arange(4), 0, CPU)

    def loss() -> torch.Tensor:
        return phase.loss(Batch(images), draw).total.detach()

    before = loss()
    torch.testing.assert_close(loss(), before)
    with torch.no_grad():
        for parameter in model.discriminator.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert not torch.allclose(loss(), before)


def test_without_a_share_of_the_run_there_is_no_encoder() -> None:
    model = build(share=0.0)
    assert set(model.exported_parts()) == {"generator"}
    assert [phase.name for phase in model.phases()] == ["discriminator", "generator"]


def test_distances_are_per_image_and_zero_for_equals() -> None:
    a = torch.rand(5, 3, 16, 16)
    b = a.roll(1, 0)
    assert pixel_distance(a, b).shape == (5,)
    assert not pixel_distance(a, a).any()
    assert torch.allclose(pixel_distance(a[:1], b[:1]), pixel_distance(a, b)[:1])
    rows = torch.randn(5, 7)
    assert torch.allclose(feature_distance(2 * rows, rows), torch.ones(5))
