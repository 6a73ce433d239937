"""Check that a device computes the networks correctly, against float64 on the CPU.

Some back-ends have given wrong gradients without an error (pytorch #175189, #177116 on Apple
GPUs). So every network is run twice at a tiny size with the same weights and inputs: in float32
on the device, as in training, and in float64 on the CPU. The check compares the outputs and the
gradients of the first input and of all weights; for discriminators the loss includes a penalty on
the gradient (double backward). ``gentool doctor`` runs it.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gentool.core.devices import memory_format
from gentool.core.images import ImageShape
from gentool.networks import PAIRS
from gentool.networks.convnet import Decoder, Encoder
from gentool.networks.grids import GridDecoder, GridEncoder, grids
from gentool.networks.resnet import ResidualDecoder, ResidualEncoder
from gentool.networks.velocity import VelocityNet

TOLERANCE = 1e-3  # errors are 1e-6 to 1e-5 in float32, and 0.1 or more with a wrong kernel
_SHAPE, _WIDTH, _LATENT_SIZE, _CLASSES, _BATCH = ImageShape(16, 16, 3), 8, 8, 2, 4
_SIDE = 8  # of the grid
_SMALL = 1e-2  # an error is relative to at least this fraction of the norm of the largest tensor
# Rounding may move a value across the kink of a leaky ReLU, which gives an error of 1e-3 in about
# one draw in twelve; a wrong kernel is wrong in every draw. So a network passes if one draw does.
_DRAWS = 3
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Comparison:
    """The largest error of a device for one network.

    Attributes:
        name: Name of the network, such as ``style generator``.
        error: Largest ||a - b|| / ||b|| of the output and all gradients; NaN if one is NaN or
            ``problem`` is set. For small b, 1e-2 of the largest ||b|| replaces ||b||.
        worst: Name of the tensor with this error.
        problem: Error message of the device if it could not compute the network; else empty.
    """

    name: str
    error: float
    worst: str
    problem: str = ""

    @property
    def right(self) -> bool:
        """Whether the device computes this network correctly."""
        return not self.problem and self.error <= TOLERANCE


@dataclass(frozen=True)
class _Case:
    """A network, its inputs, and whether a penalty on its gradient is added to the loss."""

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    penalised: bool = False


def compare_networks(device: torch.device) -> Iterator[Comparison]:
    """Yield the comparison of every network; the state of torch's global generator is restored."""
    for case in _cases():
        for seed in range(_DRAWS):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network, inputs = _awake(case.build()).train(), case.inputs()
            found = compare(case.name, network, inputs, device, penalised=case.penalised)
            if found.right:
                break
        yield found


def compare(
    name: str, network: nn.Module, inputs: Inputs, device: torch.device, *, penalised: bool
) -> Comparison:
    """Compare a network in float32 on ``device`` with the same network in float64 on the CPU.

    Args:
        name: Name of the network, for the result.
        network: In float32 on the CPU; called as ``network(*inputs)`` and moved to ``device``.
        inputs: Tensors on the CPU; for the reference, floats become float64.
        device: Device under test.
        penalised: Whether to add half of the squared gradient by the first input to the loss (as
            R1 does: Mescheder et al. 2018, arXiv:1801.04406, Eq. 9).
    """
    exact = copy.deepcopy(network).double()
    wanted = _results(exact, tuple(_double(x) for x in inputs), penalised)
    try:
        tested = network.to(device).to(memory_format=memory_format(device))
        with _full_precision():
            found = _results(tested, tuple(_placed(x, device) for x in inputs), penalised)
        found = {key: value.cpu().double() for key, value in found.items()}
    except RuntimeError as error:
        return Comparison(name, math.nan, "", str(error).splitlines()[0])
    floor = _SMALL * max(float(value.norm()) for value in wanted.values())
    errors = {
        key: float((found[key] - value).norm()) / max(float(value.norm()), floor)
        for key, value in wanted.items()
    }
    worst = max(errors, key=lambda key: math.inf if math.isnan(errors[key]) else errors[key])
    return Comparison(name, errors[worst], worst)


def try_precision(device: torch.device, precision: torch.dtype) -> str | None:
    """Run a small network forward and backward under autocast; return None or what is wrong.

    The gradient may differ from that of float32 on the CPU by 8 eps + 1e-3 of its norm, where eps
    is the machine epsilon of the precision.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(512, 1)
        )
        images = torch.randn(_BATCH, *_chw(), device="cpu")
    try:
        wanted = _gradient(copy.deepcopy(network), images, torch.float32)
        found = _gradient(network.to(device), images.to(device), precision)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    error_share = float((found - wanted).norm() / wanted.norm())
    allowed = 8 * torch.finfo(precision).eps + TOLERANCE
    return (
        None
        if error_share <= allowed
        else f"the gradient differs by {error_share:.2g} of its length"
    )


def try_precisions(device: torch.device) -> dict[str, str | None]:
    """Return the results of ``try_precision`` for float32, bfloat16 and float16, by name."""
    return {str(p).removeprefix("torch."): try_precision(device, p) for p in _PRECISIONS}


def _gradient(network: nn.Module, images: Tensor, precision: torch.dtype) -> Tensor:
    """Return all gradients of a loss as one vector, float32 on the CPU."""
    half = precision != torch.float32
    with _full_precision(), torch.autocast(images.device.type, precision, enabled=half):
        loss = network(images).float().square().mean()
    loss.backward()
    grads = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return torch.cat(grads).float().cpu()


def _chw() -> tuple[int, int, int]:
    return _SHAPE.channels, _SHAPE.height, _SHAPE.width


def _images() -> Tensor:
    return torch.rand(_BATCH, *_chw()) * 2 - 1


def _latents() -> Tensor:
    return torch.randn(_BATCH, _LATENT_SIZE)


def _places() -> tuple[int, int]:
    return grids(_SHAPE, _SIDE)[-1]


def _maps() -> Tensor:
    return torch.randn(_BATCH, _LATENT_SIZE, *_places())


def _labels() -> Tensor:
    return torch.arange(_BATCH) % _CLASSES


def _cases() -> Iterator[_Case]:
    channels = _SHAPE.channels
    for name in PAIRS:
        pair = PAIRS.get(name)
        yield _Case(
            f"{name} generator",
            lambda pair=pair: pair.generator(_SHAPE, _WIDTH, _LATENT_SIZE, _CLASSES),  # type: ignore[misc]
            lambda: (_latents(), _labels()),
        )
        yield _Case(
            f"{name} discriminator",
            lambda pair=pair: pair.discriminator(_SHAPE, _WIDTH, _CLASSES),  # type: ignore[misc]
            lambda: (_images(), _labels()),
            penalised=True,
        )
    yield _Case(
        "convolutional encoder",
        lambda: Encoder(_SHAPE, _WIDTH, _LATENT_SIZE, "group"),
        lambda: (_images(),),
    )
    yield _Case(
        "convolutional decoder",
        lambda: Decoder(_SHAPE, _WIDTH, _LATENT_SIZE, channels, "batch"),
        lambda: (_latents(),),
    )
    yield _Case(
        "residual encoder",
        lambda: ResidualEncoder(_SHAPE, _WIDTH, _LATENT_SIZE),
        lambda: (_images(),),
    )
    yield _Case(
        "residual decoder",
        lambda: ResidualDecoder(_SHAPE, _WIDTH, _LATENT_SIZE, channels),
        lambda: (_latents(),),
    )
    yield _Case(
        "grid encoder",
        lambda: GridEncoder(_SHAPE, _WIDTH, _LATENT_SIZE, _SIDE),
        lambda: (_images(),),
    )
    yield _Case(
        "grid decoder",
        lambda: GridDecoder(_SHAPE, _WIDTH, _LATENT_SIZE, channels, _SIDE),
        lambda: (_maps(),),
    )
    yield _Case(
        "velocity of latents",
        lambda: VelocityNet(_LATENT_SIZE, _places(), _WIDTH, _CLASSES),
        lambda: (_maps(), torch.linspace(0.1, 1.5, _BATCH), _labels()),
    )


def _results(network: nn.Module, inputs: Inputs, penalised: bool) -> dict[str, Tensor]:
    """Return the output and the gradients of the first input and of every weight, by name."""
    first = inputs[0].requires_grad_()
    output = network(first, *inputs[1:])
    # Weight the outputs unequally, so that errors do not cancel in the sum.
    ramp = torch.linspace(0.5, 1.5, output.numel(), dtype=output.dtype, device=output.device)
    loss = (output.flatten() * ramp).sum()
    if penalised:
        (slope,) = torch.autograd.grad(output.sum(), first, create_graph=True)
        loss = loss + 0.5 * slope.square().sum()
    loss.backward()
    grads = {k: p.grad for k, p in network.named_parameters() if p.grad is not None}
    assert first.grad is not None
    return {"output": output.detach(), "gradient of the input": first.grad} | {
        f"gradient of {k}": grad for k, grad in grads.items()
    }


@torch.no_grad()
def _awake(network: nn.Module) -> nn.Module:
    """Replace weights that are all zero, in place: behind them all gradients would be zero."""
    for weight in network.parameters():
        if not weight.any():
            weight.normal_(0.0, 0.1)
    return network


def _double(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


def _placed(x: Tensor, device: torch.device) -> Tensor:
    x = x.detach().clone().to(device)
    return x.contiguous(memory_format=memory_format(device)) if x.ndim == 4 else x


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Turn off TensorFloat-32 inside the block, because its rounding would hide small errors."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
