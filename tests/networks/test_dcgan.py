"""The dcgan networks equal those of ``convnet``, including their weights."""

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from gentool.core.images import ImageShape
from gentool.networks.convnet import DOUBLINGS, Decoder, Doubling, Encoder, doubled
from gentool.networks.dcgan import PROJECTION_SCALE, Discriminator, Generator


def test_without_classes_it_is_convnets_pyramids_to_the_bit() -> None:
    shape = ImageShape(20, 32, 3)
    torch.manual_seed(0)
    decoder, encoder = Decoder(shape, 8, 6, 3, "batch"), Encoder(shape, 8, 1)
    torch.manual_seed(0)
    g, d = Generator(shape, 8, 6), Discriminator(shape, 8)
    assert list(g.state_dict()) == [f"net.{key}" for key in decoder.state_dict()]
    assert list(d.state_dict()) == list(encoder.state_dict())
    z = torch.randn(4, 6)
    images = decoder(z)
    assert torch.equal(g(z), images)
    assert torch.equal(d(images), encoder(images).squeeze(1))


def test_projection_is_the_inner_product_with_the_class() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 3), 8, 4)
    images, labels = torch.randn(3, 3, 16, 16), torch.tensor([3, 0, 3])
    features = d.features(images)
    for i, label in enumerate(labels):
        both = d.head.weight[0] + PROJECTION_SCALE * d.vectors.weight[label]
        expected = features[i] @ both + d.head.bias[0]
        torch.testing.assert_close(d(images, labels)[i], expected)


def test_doubling_is_repetition_and_a_3x3_convolution() -> None:
    layer = Doubling(5, 4).double()
    maps = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    kernel = layer.weight.transpose(0, 1).flip(2, 3)  # as of a convolution, (4, 5, 3, 3)
    repeated = interpolate(maps, scale_factor=2, mode="nearest")
    torch.testing.assert_close(layer(maps), conv2d(repeated, kernel, layer.bias, padding=1))
    assert Doubling(5, 4, (1, 0))(maps.float()).shape == (2, 4, 13, 14)


@pytest.mark.parametrize("how", DOUBLINGS)
def test_an_even_map_stays_even_where_values_are_repeated(how: str) -> None:
    torch.manual_seed(0)
    grown = doubled(how, 3, 2, (0, 0))(torch.ones(1, 3, 8, 8))[:, :, 2:-2, 2:-2]
    spread = grown.std(dim=(2, 3)).max().item()
    assert (spread < 1e-6) == (how == "repeated")


@pytest.mark.parametrize("how", DOUBLINGS)
def test_both_ways_of_growing_fit_any_shape(how: str) -> None:
    shape = ImageShape(36, 20, 3)
    assert Generator(shape, 8, 6, doubling=how)(torch.randn(2, 6)).shape == (2, 3, 36, 20)
