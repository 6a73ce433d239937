"""Parts of StyleGAN2 against loops, identities, and the published counts."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from gentool.core.images import ImageShape
from gentool.networks.resampling import blur
from gentool.networks.stylegan2 import (
    Convolution,
    Dense,
    Discriminator,
    Generator,
    ModulatedConvolution,
    StyledLayer,
    append_deviation,
)


def _count(network: nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def _generator() -> Generator:
    torch.manual_seed(0)
    g = Generator(ImageShape(32, 32, 3), 16, 8).eval()
    for parameter in g.parameters():
        if parameter.ndim == 0:
            nn.init.constant_(parameter, 0.3)  # strengths of the noise
    g.mean_w.normal_()
    return g


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        faces = ImageShape(256, 256, 3)
        # The unconditional baseline of R3GAN's table; buffers are not counted.
        assert round(_count(Generator(faces, 512, 512)), 2) == 24.77
        assert round(_count(Discriminator(faces, 512)), 2) == 24.00


def _naive(conv: ModulatedConvolution, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Each image with a convolution of its own, its weights made in loops."""
    out = []
    for row, code in zip(x, w, strict=True):
        style = conv.style(code[None])[0]
        weight = conv.weight * conv.gain
        own = torch.empty_like(weight)
        for o in range(weight.shape[0]):
            own[o] = torch.stack([weight[o, i] * style[i] for i in range(weight.shape[1])])
            if conv.demodulate:
                own[o] = own[o] / math.sqrt(own[o].pow(2).sum().item() + 1e-8)
        if not conv.enlarge:
            out.append(conv2d(row[None], own, padding=conv.size // 2)[0])
            continue
        wide = torch.zeros(len(row), 2 * row.shape[1] - 1, 2 * row.shape[2] - 1).double()
        wide[:, ::2, ::2] = row  # zeros between the values, a convolution, and the filter of blur
        full = conv2d(wide[None], own.flip(2, 3), padding=2)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]).double() / 4
        kernel = (taps[:, None] * taps).expand(len(own), 1, 4, 4)
        out.append(conv2d(full, kernel, groups=len(own), padding=1)[0])
    return torch.stack(out)


@pytest.mark.parametrize(
    ("size", "demodulate", "enlarge"),
    [(3, True, False), (3, False, False), (1, False, False), (3, True, True), (3, False, True)],
)
def test_modulated_convolution_is_one_convolution_per_image(
    size: int, demodulate: bool, enlarge: bool
) -> None:
    torch.manual_seed(0)
    conv = ModulatedConvolution(4, 5, 6, size, demodulate, enlarge).double()
    nn.init.normal_(conv.style.bias)
    x, w = torch.randn(3, 4, 6, 7).double(), torch.randn(3, 6).double()
    with torch.no_grad():
        torch.testing.assert_close(conv(x, w), _naive(conv, x, w))


def test_demodulation_gives_unit_variance_whatever_the_style() -> None:
    torch.manual_seed(0)
    conv = ModulatedConvolution(32, 48, 8)
    x, w = torch.randn(2, 32, 64, 64), 5 * torch.randn(2, 8)
    deviation = conv(x, w)[:, :, 1:-1, 1:-1].std(dim=(2, 3))
    torch.testing.assert_close(deviation, torch.ones(2, 48), atol=0.06, rtol=0)
    # A style's scale is of no account.
    nn.init.zeros_(conv.style.weight)
    a = conv(x, w)
    conv.style.bias.data.mul_(7)
    torch.testing.assert_close(conv(x, w), a, rtol=1e-4, atol=1e-4)


def test_blur_is_the_binomial_filter() -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel = (taps[:, None] * taps)[None, None].double()
    x = torch.randn(2, 1, 7, 9, dtype=torch.float64)
    for padding, change in ((1, -1), (2, 1)):
        expected = conv2d(x, kernel, padding=padding)
        assert expected.shape[2] == 7 + change
        torch.testing.assert_close(blur(x, padding), expected)
    assert torch.autograd.gradgradcheck(lambda t: blur(t, 2).sin(), x.requires_grad_(True))


def test_enlarging_and_halving_keep_a_flat_picture_flat() -> None:
    x = torch.ones(1, 1, 8, 8)
    up = ModulatedConvolution(1, 1, 1, 3, demodulate=False, enlarge=True)
    with torch.no_grad():
        up.weight.fill_(1 / 9 / up.gain)
        flat = up(x, torch.zeros(1, 1))
    assert flat.shape == (1, 1, 16, 16)
    torch.testing.assert_close(flat[..., 3:-3, 3:-3], torch.ones(1, 1, 10, 10))
    for size in (1, 3):
        down = Convolution(1, 1, size, bias=False, halve=True)
        with torch.no_grad():
            down.weight.fill_(1 / size**2 / down.gain)
            assert down(x).shape == (1, 1, 4, 4)
            torch.testing.assert_close(down(x)[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))
            assert down(torch.ones(1, 1, 9, 13)).shape == (1, 1, 4, 6)


def test_runtime_scales_make_rows_of_unit_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 64)
    for speed in (1.0, 0.01):
        dense = Dense(64, 32, bias=0.5, speed=speed)
        out = dense(x)
        assert abs(out.std().item() - 1) < 0.1
        assert abs(out.mean().item() - 0.5) < 0.1


# --- w --------------------------------------------------------------------------------------


def test_mixing_identities() -> None:
    g = _generator()
    with torch.no_grad():
        a, b = g.mapping(torch.randn(3, 8)), g.mapping(torch.randn(3, 8))
        whole = g.synthesis(a)
        assert g.layers == 8
        never = g.mix(a, b, torch.full((3,), g.layers))
        at_once = g.mix(a, b, torch.zeros(3, dtype=torch.int64))
        assert torch.equal(g.synthesis(never), whole)
        assert torch.equal(g.synthesis(at_once), g.synthesis(b))
        assert torch.equal(g.synthesis(g.mix(a, a, torch.tensor([1, 4, 6]))), whole)
        each = g.mix(a, b, torch.tensor([0, 3, 8]))
        assert torch.equal(each[1, 2], a[1])
        assert torch.equal(each[1, 3], b[1])
        assert torch.equal(g.synthesis(each)[2], whole[2])
        assert not torch.equal(g.synthesis(each)[1], whole[1])


def test_a_layers_w_touches_no_coarser_grid() -> None:
    """Fine styles leave the features of coarse grids alone."""
    g = _generator()
    seen: list[torch.Tensor] = []
    layer = g.synthesis.second[1]
    layer.register_forward_hook(lambda m, i, o: seen.append(o))
    a, b = g.mapping(torch.randn(1, 8)), g.mapping(torch.randn(1, 8))
    for crossover in (8, 3, 2):
        g.synthesis(g.mix(a, b, torch.tensor([crossover])))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_truncation_identities() -> None:
    g = _generator()
    z = torch.randn(4, 8)
    with torch.no_grad():
        w = g.mapping(z)
        assert torch.equal(g.truncate(w, 0.0), g.mean_w.expand(4, -1))
        torch.testing.assert_close(g.truncate(w, 0.5), (w + g.mean_w) / 2)
        assert torch.equal(g.truncate(w, 1.0), w)


def test_each_class_has_its_own_mean_and_a_blend_the_blend_of_them() -> None:
    torch.manual_seed(0)
    g = Generator(ImageShape(16, 16, 3), 16, 8, classes=3)
    z = torch.randn(64, 8)
    g.measure_mean(z)
    with torch.no_grad():
        for kind in range(3):
            labels = torch.full((64,), kind)
            w = g.mapping(z, labels)
            torch.testing.assert_close(g.mean_w[kind], w.mean(dim=0))
            torch.testing.assert_close(
                g.truncate(w, 0.25, labels), g.truncate(w, 0.25, torch.eye(3)[labels])
            )
        shares = torch.tensor([[0.5, 0.5, 0.0]])
        blend = g.truncate(g.mapping(z[:1], shares), 0.0, shares)
        torch.testing.assert_close(blend[0], g.mean_w[:2].mean(dim=0))
    assert "mean_w" in g.state_dict()


def test_styles_of_a_file_make_the_same_image_to_the_bit() -> None:
    g = _generator()
    with torch.no_grad():
        w = g.mapping(torch.randn(5, 8))
        stored = w[:, None].repeat(1, g.layers, 1)
        assert torch.equal(g.synthesis(stored), g.synthesis(w))


def test_only_the_direction_of_z_counts() -> None:
    g = _generator()
    z = torch.randn(2, 8)
    torch.testing.assert_close(g.mapping(3 * z), g.mapping(z))


# --- noise ----------------------------------------------------------------------------------


def test_noise_is_an_argument_and_none_stands_for_the_constant() -> None:
    g = _generator()
    z = torch.randn(3, 8)
    layers = {m.name: m for m in g.modules() if isinstance(m, StyledLayer)}
    assert sorted(layers) == sorted(f"noise-{k}" for k in range(7))
    asked: list[tuple[str, tuple[int, ...]]] = []

    def constant(name: str, *shape: int) -> torch.Tensor:
        asked.append((name, shape))
        return layers[name].constant.expand(3, -1, -1, -1)

    assert torch.equal(g(z, noise=constant), g(z))
    assert asked[0] == ("noise-0", (1, 4, 4))
    assert asked[-1] == ("noise-6", (1, 32, 32))
    other = g(z, noise=lambda name, *shape: torch.randn(3, *shape))
    assert not torch.allclose(other, g(z))


def test_noise_is_silent_at_the_start() -> None:
    torch.manual_seed(0)
    g = Generator(ImageShape(16, 16, 3), 8, 8).eval()
    z = torch.randn(2, 8)
    assert torch.equal(g(z, noise=lambda name, *shape: torch.randn(2, *shape)), g(z))


# --- the discriminator's view of the batch --------------------------------------------------


def test_deviation_does_not_depend_on_the_order() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 3), 16)
    images = torch.randn(6, 3, 16, 16)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(d(images[order]), d(images)[order])
    x = torch.randn(5, 3, 2, 2)
    naive = sum(
        ((x[:, c, i, j] - x[:, c, i, j].mean()) ** 2).mean().sqrt()
        for c in range(3) for i in range(2) for j in range(2)
    ) / 12  # fmt: skip
    out = append_deviation(x)
    torch.testing.assert_close(out[:, 3], torch.full((5, 2, 2), float(naive)))
    assert torch.equal(out[:, :3], x)


def test_a_batch_of_one_and_no_deviation() -> None:
    torch.manual_seed(0)
    shape = ImageShape(16, 16, 3)
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    Discriminator(shape, 8)(image).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    d = Discriminator(shape, 8, deviation=False)
    images = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(d(images[1:2])[0], d(images)[1])
