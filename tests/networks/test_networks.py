"""Convolutional networks fit any image shape, and the code of an image depends only on it."""

import pytest
import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.convnet import Decoder, Encoder, pyramid
from gentool.networks.resnet import ResidualDecoder, ResidualEncoder

SIDES = range(16, 65, 4)
ODD = [(16, 512), (508, 20), (508, 508), (100, 36), (512, 512)]
SIZES = [(h, w) for h in SIDES for w in SIDES] + ODD


def _pairs(shape: ImageShape) -> list[tuple[nn.Module, nn.Module]]:
    return [
        (Encoder(shape, 4, 6, "group"), Decoder(shape, 4, 6, shape.channels, "batch")),
        (ResidualEncoder(shape, 4, 6), ResidualDecoder(shape, 4, 6, shape.channels)),
    ]


@pytest.mark.parametrize(
    ("channels", "every"), [(1, 7), (3, 7), (4, 7), pytest.param(3, 1, marks=pytest.mark.slow)]
)
def test_every_allowed_shape_goes_through(channels: int, every: int) -> None:
    with torch.device("meta"):
        for size in SIZES[::every]:
            shape = ImageShape(*size, channels)
            for encoder, decoder in _pairs(shape):
                images = decoder(torch.empty(2, 6))
                assert images.shape == (2, channels, *size)
                assert encoder(images).shape == (2, 6)


def test_the_base_grid_follows_the_image() -> None:
    assert pyramid(ImageShape(32, 32, 3)) == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert pyramid(ImageShape(48, 64, 3))[-1] == (6, 8)
    assert pyramid(ImageShape(36, 36, 3)) == [(36, 36), (18, 18), (9, 9), (4, 4)]
    for size in SIZES:
        assert 4 <= min(pyramid(ImageShape(*size, 1))[-1]) < 8


def test_width_scales_the_networks() -> None:
    shape = ImageShape(32, 32, 3)

    def weights(width: int) -> int:
        parts = (Encoder(shape, width, 6), Decoder(shape, width, 6, 3),
                 ResidualEncoder(shape, width, 6), ResidualDecoder(shape, width, 6, 3))  # fmt: skip
        return sum(p.numel() for part in parts for p in part.parameters())

    assert 3 < weights(64) / weights(32) < 4.5


def test_a_code_does_not_depend_on_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    images = torch.randn(5, 3, 16, 16)
    for encoder, _ in _pairs(ImageShape(16, 16, 3)):
        encoder.train()
        together = encoder(images)
        torch.testing.assert_close(encoder(images[2:3])[0], together[2], rtol=1e-4, atol=1e-5)


def test_residual_blocks_begin_as_their_skip_path() -> None:
    encoder = ResidualEncoder(ImageShape(16, 16, 3), 8, 4)
    block = encoder.body[1]
    x = torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(block(x), x)
