"""Networks of R3GAN: the block against loops, the published counts, the initial state."""

from typing import cast

import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.r3gan import Discriminator, Generator, R3Block


def _count(network: nn.Module) -> float:
    """Parameters in millions."""
    return sum(p.numel() for p in network.parameters()) / 1e6


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        cifar, faces = ImageShape(32, 32, 3), ImageShape(256, 256, 3)
        # CIFAR-10 with its ten classes, class vectors included.
        assert round(_count(Generator(cifar, 768, 64, 10)), 1) == 20.8
        assert round(_count(Discriminator(cifar, 768, 10)), 1) == 21.3
        # FFHQ-256, unconditional.
        assert round(_count(Generator(faces, 768, 64)), 2) == 23.06
        assert round(_count(Discriminator(faces, 768)), 2) == 23.01


def _leaky(x: float) -> float:
    return x if x > 0 else 0.2 * x


def _naive_block(block: R3Block, x: torch.Tensor) -> torch.Tensor:
    """The block's formula in loops, for one image (C, H, W)."""
    w1, b1 = block.expand.weight[:, :, 0, 0].tolist(), block.expand.bias.tolist()  # type: ignore[union-attr]
    w2, b2 = block.spatial.weight.tolist(), block.spatial.bias.tolist()  # type: ignore[union-attr]
    w3 = block.project.weight[:, :, 0, 0].tolist()
    channels, height, width = x.shape
    inner, values, out = 2 * channels, x.tolist(), x.clone()
    cells = [(i, j) for i in range(height) for j in range(width)]
    first = {
        (k, i, j): _leaky(sum(w1[k][c] * values[c][i][j] for c in range(channels)) + b1[k])
        for k in range(inner) for i, j in cells
    }  # fmt: skip
    for i, j in cells:
        second = []
        for k in range(inner):
            start = k // 16 * 16  # of this channel's group
            total = b2[k]
            for m in range(16):
                for di in (-1, 0, 1):
                    for dj in (-1, 0, 1):
                        near = first.get((start + m, i + di, j + dj), 0.0)
                        total += w2[k][m][di + 1][dj + 1] * near
            second.append(_leaky(total))
        for c in range(channels):
            out[c, i, j] += sum(w3[c][k] * second[k] for k in range(inner))
    return out


def test_the_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = R3Block(16, 4).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([_naive_block(block, row) for row in x])
        torch.testing.assert_close(block(x), expected)


def test_blocks_begin_as_their_skip_path_with_fixed_up_scales() -> None:
    torch.manual_seed(0)
    block = R3Block(64, 8)
    x = torch.randn(2, 64, 5, 5)
    assert torch.equal(block(x), x)
    scale = (2 / 1.04) ** 0.5 * 8**-0.25
    assert abs(block.expand.weight.std().item() / (scale / 64**0.5) - 1) < 0.05
    assert abs(block.spatial.weight.std().item() / (scale / (16 * 9) ** 0.5) - 1) < 0.05


def test_logits_of_an_image_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 3), 16)
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(d(images[1:2])[0], d(images)[1])


def test_flat_and_blocks_shape_the_pyramid() -> None:
    with torch.device("meta"):
        g = Generator(ImageShape(32, 32, 3), 256, 64, flat=1, blocks=1)
    stages = [cast("nn.Sequential", stage) for stage in g.stages]
    assert [cast("R3Block", s[0]).expand.in_channels for s in stages] == [256, 128, 64, 32]
    assert [len(stage) for stage in stages] == [1, 1, 1, 1]
