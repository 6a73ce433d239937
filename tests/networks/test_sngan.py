"""The residual pair: published sizes, class-conditional normalisation, sums over positions."""

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.sngan import ConditionalNorm, Discriminator, DownBlock, Generator, UpBlock


def _count(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def _outputs(g: Generator) -> list[int]:
    return [b.conv2.out_channels for b in g.blocks if isinstance(b, UpBlock)]


def test_parameters_are_those_of_the_cifar_architecture() -> None:
    shape = ImageShape(32, 32, 3)
    with torch.device("meta"):
        g, d = Generator(shape, 256, 128), Discriminator(shape, 256)
        g64 = Generator(ImageShape(64, 64, 3), 256, 128)
    # Figures of public reimplementations of the table: 4.28 M and 1.05 M.
    assert round(_count(g), 2) == 4.28
    assert round(_count(d), 2) == 1.05
    assert _outputs(g) == [256, 256, 256]
    assert _outputs(g64) == [256, 256, 256, 128]
    downs = [b for b in d.blocks if isinstance(b, DownBlock)]
    assert [b.conv2.out_channels for b in downs] == [128] * 4
    assert [b.halve for b in downs] == [True, True, False, False]


def test_conditional_normalisation_is_that_of_the_class() -> None:
    torch.manual_seed(0)
    norm = ConditionalNorm(5, 3)
    nn.init.normal_(norm.gain)
    nn.init.normal_(norm.bias)
    x, labels = torch.randn(4, 5, 3, 3), torch.tensor([0, 2, 2, 1])
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    deviation = (x.var(dim=(0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    out = norm(x, labels)
    for i, label in enumerate(labels):
        expected = (x[i] - mean[0]) / deviation[0] * norm.gain[label][:, None, None]
        expected = expected + norm.bias[label][:, None, None]
        torch.testing.assert_close(out[i], expected, rtol=1e-4, atol=1e-5)


def test_a_new_class_starts_like_every_other() -> None:
    torch.manual_seed(0)
    g = Generator(ImageShape(16, 16, 3), 16, 8, 3)
    z = torch.randn(4, 8)
    a, b = g(z, torch.tensor([0, 1, 2, 0])), g(z, torch.tensor([2, 2, 0, 1]))
    torch.testing.assert_close(a, b)


def test_logits_of_an_image_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 3), 16).eval()
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(d(images[1:2])[0], d(images)[1])
