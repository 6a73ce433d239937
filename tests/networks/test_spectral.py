"""Spectral normalisation: singular value 1, exact resume, no update in eval mode."""

import copy
import pickle

import pytest
import torch
from torch import nn

from gentool.core.images import ImageShape
from gentool.networks.dcgan import Discriminator
from gentool.networks.spectral import SpectralNorm, add_spectral_norm


def _layers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Conv2d(3, 5, 3), nn.ConvTranspose2d(4, 6, 4), nn.Linear(7, 2), nn.Embedding(4, 9)]


@pytest.mark.parametrize("layer", _layers(), ids=lambda m: type(m).__name__)
def test_the_largest_singular_value_is_one(layer: nn.Module) -> None:
    add_spectral_norm(layer)
    for _ in range(200):
        weight = layer.weight  # each reading in training mode is one more iteration
    assert isinstance(weight, torch.Tensor)
    rows = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    values = torch.linalg.svdvals(weight.movedim(rows, 0).flatten(1))
    assert values[0].item() == pytest.approx(1, abs=1e-4)
    torch_norm = nn.utils.parametrizations.spectral_norm(_same(layer), n_power_iterations=200)
    torch.testing.assert_close(weight, torch_norm.weight, rtol=1e-3, atol=1e-4)


def _same(layer: nn.Module) -> nn.Module:
    """The layer as it was before its parametrisation."""
    plain = next(m for m in _layers() if isinstance(layer, type(m)))
    assert isinstance(plain.weight, torch.Tensor)
    return plain


def test_the_first_pass_is_near_norm_one_already() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 64, 3)
    add_spectral_norm(conv)
    value = torch.linalg.svdvals(conv.weight.flatten(1))[0].item()
    assert value == pytest.approx(1, abs=0.05)


def test_the_gradient_is_that_of_w_over_sigma() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    norm = SpectralNorm(weight)
    for _ in range(500):
        norm(weight)
    norm.eval()
    assert torch.autograd.gradcheck(norm, weight)
    assert torch.autograd.gradgradcheck(norm, weight)
    (gradient,) = torch.autograd.grad(norm(weight).sin().sum(), weight)
    naive = weight / torch.linalg.matrix_norm(weight, 2)
    (expected,) = torch.autograd.grad(naive.sin().sum(), weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_state_is_saved_and_goes_on_exactly() -> None:
    def make() -> Discriminator:
        torch.manual_seed(0)
        return Discriminator(ImageShape(16, 16, 3), 8, spectral=True)

    images = torch.randn(10, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    first, second = make(), make()
    assert any(key.endswith(".u") for key in first.state_dict())
    for rows in images[:5]:
        first(rows)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for rows in images[5:]:
        assert torch.equal(first(rows), second(rows))


def test_eval_mode_changes_no_state() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 3), 8, spectral=True)
    images = torch.randn(2, 3, 16, 16)
    before = copy.deepcopy(d.state_dict())
    d(images)
    assert any(not torch.equal(v, before[k]) for k, v in d.state_dict().items())
    d.eval()
    before = copy.deepcopy(d.state_dict())
    first = d(images)
    assert torch.equal(first, d(images))
    assert all(torch.equal(v, before[k]) for k, v in d.state_dict().items())


def test_two_passes_before_one_backward() -> None:
    torch.manual_seed(0)
    d = Discriminator(ImageShape(16, 16, 3), 8, 2, spectral=True)
    labels = torch.tensor([0, 1])
    loss = d(torch.randn(2, 3, 16, 16), labels) - d(torch.randn(2, 3, 16, 16), labels)
    loss.sum().backward()
    assert all(p.grad is not None for p in d.parameters())


def test_half_precision_leaves_the_iteration_alone() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3)
    add_spectral_norm(conv)
    twin = copy.deepcopy(conv)
    for _ in range(20):
        with torch.autocast("cpu", torch.bfloat16):
            conv(torch.randn(1, 8, 4, 4))
        twin(torch.randn(1, 8, 4, 4))
    for key, value in conv.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key])


def test_a_pickle_goes_on_as_if_it_had_never_been_one() -> None:
    torch.manual_seed(0)
    network = Discriminator(ImageShape(16, 16, 3), 4, 2, spectral=True)
    again = pickle.loads(pickle.dumps(network))
    both = copy.deepcopy(again), pickle.loads(pickle.dumps(again)), network, again
    images, labels = torch.randn(3, 3, 16, 16), torch.tensor([0, 1, 1])
    for _ in range(2):  # each pass changes the singular vectors
        first, *others = (n(images, labels) for n in both)
        assert all(torch.equal(first, other) for other in others)
    assert list(again.state_dict()) == list(network.state_dict())
    again.load_state_dict(network.state_dict())
