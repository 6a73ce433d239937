"""Properties of every pair of generator and discriminator."""

from typing import Any, cast

import pytest
import torch
from conftest import run_python
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks import PAIRS, Discriminator

SIZES = [
    (16, 16),
    (32, 32),
    (16, 64),
    (36, 36),
    (48, 64),
    (60, 20),
    (128, 100),
    (508, 20),
    (512, 512),
]
LATENT = 8
WIDTH = 16


def build(
    name: str, shape: ImageShape, classes: int = 0, width: int = WIDTH, seed: int = 0
) -> tuple[nn.Module, nn.Module]:
    """A small pair whose last layers are not at zero, so that every path carries something."""
    torch.manual_seed(seed)
    pair = PAIRS.get(name)
    g = pair.generator(shape, width, LATENT, classes)
    d = pair.discriminator(shape, width, classes)
    return g, d


def _waken(*networks: nn.Module) -> None:
    """Give weights that start at zero a value."""
    for network in networks:
        for parameter in network.parameters():
            if not parameter.detach().any():
                nn.init.normal_(parameter, std=0.1)


def _labels(classes: int, count: int) -> torch.Tensor | None:
    return torch.arange(count) % classes if classes else None


@pytest.mark.parametrize("name", list(PAIRS))
@pytest.mark.parametrize(
    ("channels", "every"), [(1, 5), (3, 5), (4, 5), pytest.param(3, 1, marks=pytest.mark.slow)]
)
def test_every_allowed_shape_goes_through(name: str, channels: int, every: int) -> None:
    with torch.device("meta"):
        for size in SIZES[::every]:
            for classes in (0, 3):
                g, d = build(name, ImageShape(*size, channels), classes)
                labels = _labels(classes, 2)
                images = g(torch.empty(2, LATENT), labels)
                assert images.shape == (2, channels, *size)
                assert d(images, labels).shape == (2,)
                features = cast("Discriminator", d).features(images)
                assert features.ndim == 2
                assert len(features) == 2


@pytest.mark.parametrize("name", list(PAIRS))
@pytest.mark.parametrize("classes", [0, 3])
def test_gradients_are_finite_at_the_start(name: str, classes: int) -> None:
    g, d = build(name, ImageShape(32, 32, 3), classes)
    labels = _labels(classes, 4)
    logits = d(g(torch.randn(4, LATENT), labels), labels)
    assert logits.dtype == torch.float32
    logits.square().sum().backward()
    for network in (g, d):
        for key, parameter in network.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), key
        assert any(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("name", list(PAIRS))
def test_the_first_images_are_of_moderate_size(name: str) -> None:
    g, d = build(name, ImageShape(32, 32, 3), width=32)
    images = g(torch.randn(16, LATENT))
    assert 0.01 < images.std() < 10
    assert d(images).abs().max() < 100


@pytest.mark.parametrize("name", list(PAIRS))
@pytest.mark.parametrize("size", [(16, 16), (20, 36)])
def test_a_penalty_on_the_gradient_can_be_trained(name: str, size: tuple[int, int]) -> None:
    _, d = build(name, ImageShape(*size, 3), width=8)
    _waken(d)
    d.double().eval()  # spectral norms stand still, so that it is one function
    images = torch.randn(3, 3, *size, dtype=torch.float64)

    def penalty() -> torch.Tensor:
        leaf = images.clone().requires_grad_(True)
        logits = d(leaf, None)
        (gradient,) = torch.autograd.grad(logits.double().sum(), leaf, create_graph=True)
        return gradient.square().sum()

    parameters = [p for p in d.parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    checked = 0
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        assert gradient.isfinite().all()
        direction, step = torch.randn_like(parameter), 1e-8

        def at(shift: float, p: nn.Parameter = parameter, v: torch.Tensor = direction) -> float:
            with torch.no_grad():
                p.add_(v, alpha=shift)
            value = penalty().item()
            with torch.no_grad():
                p.add_(v, alpha=-shift)
            return value

        expected = (at(step) - at(-step)) / (2 * step)
        # A tiny step: where a leaky slope breaks within it, the penalty itself jumps.
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-3, abs=1e-3)
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("name", list(PAIRS))
def test_classes_change_images_and_logits(name: str) -> None:
    g, d = build(name, ImageShape(16, 16, 3), 3)
    _waken(g, d)
    g.eval()
    z = torch.randn(1, LATENT).expand(2, -1)
    images = g(z, torch.tensor([0, 1]))
    assert not torch.allclose(images[0], images[1])
    same = images[:1].expand(2, -1, -1, -1)
    logits = d(same, torch.tensor([0, 1]))
    assert logits[0] != logits[1]
    for network, rows in ((g, z), (d, same)):
        with pytest.raises(ValueError, match="3 classes needs labels"):
            network(rows)


@pytest.mark.parametrize("name", list(PAIRS))
def test_channels_last_is_the_same_function(name: str) -> None:
    g, d = build(name, ImageShape(20, 32, 3))
    _waken(g, d)
    z, x = torch.randn(3, LATENT), torch.randn(3, 3, 20, 32)
    state = {k: v.clone() for k, v in d.state_dict().items()}
    plain = g(z), d(x)
    d.load_state_dict(state)
    g, d = (cast("Any", n).to(memory_format=torch.channels_last) for n in (g, d))
    last = g(z), d(x.to(memory_format=torch.channels_last))
    for a, b in zip(plain, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", list(PAIRS))
def test_half_precision_is_near_and_can_be_penalised(name: str) -> None:
    g, d = build(name, ImageShape(16, 16, 3), 2)
    _waken(g, d)
    labels, z = torch.tensor([0, 1, 1]), torch.randn(3, LATENT)
    state = {k: v.clone() for k, v in d.state_dict().items()}
    images = g(z, labels).detach()
    full = d(images, labels)
    d.load_state_dict(state)
    with torch.autocast("cpu", torch.bfloat16):
        near = g(z, labels)
        leaf = images.clone().requires_grad_(True)
        half = d(leaf, labels)
        (gradient,) = torch.autograd.grad(half.sum(), leaf, create_graph=True)
        penalty = gradient.square().sum()
    (half.sum() + penalty).backward()
    assert half.dtype == torch.float32
    torch.testing.assert_close(near.float(), images, rtol=0.1, atol=0.1 * images.std().item())
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1 * max(full.std().item(), 0.1))
    assert all(p.grad.isfinite().all() for p in d.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", list(PAIRS))
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    def run() -> list[torch.Tensor]:
        g, d = build(name, ImageShape(16, 16, 3), seed=5)
        generator = torch.Generator().manual_seed(1)
        logits = d(g(torch.randn(4, LATENT, generator=generator)))
        logits.sum().backward()
        return [logits.detach(), *(p.grad for p in g.parameters() if p.grad is not None)]

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", list(PAIRS))
def test_saved_tensors_bring_a_network_built_without_memory_to_life(name: str) -> None:
    shape = ImageShape(16, 16, 3)
    g, d = build(name, shape, 2)
    z, labels = torch.randn(3, LATENT), torch.tensor([0, 1, 0])
    d(g(z, labels), labels)  # running statistics and singular vectors move
    with torch.device("meta"):
        twins = build(name, shape, 2)
    for network, twin in zip((g, d), twins, strict=True):
        twin.load_state_dict(network.state_dict(), assign=True)
        network.eval()
        twin.eval()
    images = g(z, labels)
    assert torch.equal(twins[0](z, labels), images)
    assert torch.equal(twins[1](images, labels), d(images, labels))


@pytest.mark.parametrize("name", list(PAIRS))
def test_the_global_randomness_is_left_alone(name: str) -> None:
    g, d = build(name, ImageShape(16, 16, 3))
    z = torch.randn(2, LATENT)
    before = torch.random.get_rng_state()
    d(g(z))
    assert torch.equal(before, torch.random.get_rng_state())


def test_building_on_the_meta_device_imports_no_sympy() -> None:
    code = (
        "import sys, torch\n"
        "from gentool.core.images import ImageShape\n"
        "from gentool.networks import PAIRS\n"
        "with torch.device('meta'):\n"
        "    for name in PAIRS:\n"
        "        pair = PAIRS.get(name)\n"
        "        pair.generator(ImageShape(32, 32, 3), 16, 8, 3)\n"
        "        pair.discriminator(ImageShape(32, 32, 3), 16, 3)\n"
        "assert 'sympy' not in sys.modules\n"
    )
    assert run_python("-c", code).code == 0


def test_listing_the_pairs_imports_no_torch() -> None:
    code = (
        "import sys; from gentool.networks import PAIRS; PAIRS.describe(); "
        "assert 'torch' not in sys.modules"
    )
    assert run_python("-c", code).code == 0
