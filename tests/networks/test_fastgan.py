"""Networks of FastGAN: gates, patches, and the inputs of the decoders."""

import pytest
import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.fastgan import Discriminator, Excitation, Generator, quadrant


def test_gates_span_four_doublings_or_all_there_are() -> None:
    with torch.device("meta"):
        spans = {s: Generator(ImageShape(s, s, 3), 8, 8) for s in (16, 32, 64, 256)}
    assert [(g.span, len(g.gates)) for g in spans.values()] == [(2, 1), (3, 1), (4, 1), (4, 3)]


def test_the_published_widths() -> None:
    with torch.device("meta"):
        g, d = (
            Generator(ImageShape(256, 256, 3), 64, 256),
            Discriminator(ImageShape(512, 512, 3), 64),
        )
    outs = [m.out_channels // 2 for m in g.stages.modules() if isinstance(m, nn.Conv2d)]
    assert outs == [512, 512, 256, 128, 128, 128, 64, 64, 32]
    downs = [m.halve for m in d.downs.modules() if hasattr(m, "halve")]
    assert [m.out_channels for m in downs if isinstance(m, nn.Conv2d)] == [64, 128, 256, 512, 1024]


def test_gates_scale_channels_by_a_coarse_map() -> None:
    torch.manual_seed(0)
    gate = Excitation(3, 5)
    x = torch.randn(2, 3, 8, 16)
    gates = gate(x)
    assert gates.shape == (2, 5, 1, 1)
    assert ((gates > 0) & (gates < 1)).all()
    blocks = x.view(2, 3, 4, 2, 4, 4).mean(dim=(3, 5))
    torch.testing.assert_close(gates, gate.body(blocks))
    assert gate(torch.randn(2, 3, 6, 5)).shape == (2, 5, 1, 1)


def test_the_finest_map_is_gated() -> None:
    torch.manual_seed(0)
    g = Generator(ImageShape(32, 32, 3), 8, 8, spectral=False).eval()
    z = torch.randn(2, 8)
    before = g(z)
    last = [m for m in g.gates.modules() if isinstance(m, nn.Conv2d)][-1]
    assert last.bias is not None
    nn.init.constant_(last.bias, -100.0)  # all gates shut: nothing but the last bias is left
    shut = g(z)
    assert not torch.allclose(before, shut)
    assert (shut[..., 8, 8] - shut[..., 20, 9]).abs().max() < 1e-6


def test_the_logit_is_the_mean_patchs() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 3), 4, spectral=False)
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(d(images[1:2])[0], d(images)[1])
    torch.testing.assert_close(d.head.linear(d.features(images)).squeeze(1), d(images))


def test_quadrants_are_the_four_corners() -> None:
    x = torch.randn(4, 2, 9, 12)
    out = quadrant(x, torch.arange(4))
    expected = [x[0, :, :4, :6], x[1, :, :4, -6:], x[2, :, -4:, :6], x[3, :, -4:, -6:]]
    assert torch.equal(out, torch.stack(expected))


@pytest.mark.parametrize(
    ("size", "whole", "quarter"),
    [
        ((16, 16), (16, 16), (8, 8)),
        ((32, 32), (32, 32), (16, 16)),
        ((48, 64), (48, 64), (24, 32)),
        ((36, 100), (36, 100), (18, 50)),
        ((256, 256), (128, 128), (128, 128)),
        ((512, 512), (128, 128), (128, 128)),
    ],
)
def test_decoders_meet_their_targets(
    size: tuple[int, int], whole: tuple[int, int], quarter: tuple[int, int]
) -> None:
    with torch.device("meta"):
        d = Discriminator(ImageShape(*size, 3), 8)
        pairs = d.reconstructions(torch.empty(2, 3, *size), torch.zeros(2, dtype=torch.int64))
    for (decoded, target), expected in zip(pairs, (whole, quarter), strict=True):
        assert decoded.shape == target.shape == (2, 3, *expected)


def test_targets_are_the_image_and_its_quarter() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(32, 32, 3), 4)
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    (_, whole), (_, quarter) = d.reconstructions(images, torch.tensor([0, 1, 3]))
    assert torch.equal(whole, images)
    expected = [images[0, :, :16, :16], images[1, :, :16, 16:], images[2, :, 16:, 16:]]
    assert torch.equal(quarter, torch.stack(expected))


def test_the_decoders_learn_their_images() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 1), 4)
    images = torch.rand(4, 1, 2, 2).mul(2).sub(1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    optimiser = torch.optim.Adam(d.parameters(), 5e-3)

    def error() -> torch.Tensor:
        pairs = d.reconstructions(images, torch.arange(4))
        return torch.stack([(a - b).abs().mean() for a, b in pairs]).sum()

    first = error().item()
    for _ in range(60):
        optimiser.zero_grad()
        error().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert error().item() < 0.5 * first
