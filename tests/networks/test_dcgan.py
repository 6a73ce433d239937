"""The plain pair is the pyramids of convnet, weights and all."""

import torch

from gentool.images import ImageShape
from gentool.networks.convnet import Decoder, Encoder
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
