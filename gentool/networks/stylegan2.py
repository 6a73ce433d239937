"""The networks of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958).

The mapping network of the generator, a perceptron, maps z to w. For each convolution of the
synthesis network, w gives the scales of the input channels (the style), and the weights are
demodulated so that the output keeps unit variance (section 2.2). Noise is added after every
convolution, and the image is the sum of images from all grids (skip generator). The discriminator
is residual; near its end it gets the standard deviation over the batch. Weights are initialised
with N(0, 1) and scaled in every forward pass, so that one learning rate suits all layers (Karras et
al. 2018, arXiv:1710.10196, section 4.1).

At 256x256 with width 512 (beyond 32x32, half the channels of the paper's 1024x1024 networks), w of
length 512 and 8 mapping layers, generator / discriminator have 24.77 M / 24.00 M parameters; this
is the baseline in the table of R3GAN.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

from gentool.core.distributed import batch_variance
from gentool.core.images import ImageShape
from gentool.networks.convnet import pyramid
from gentool.networks.parts import ClassInput, check_labels, class_vectors, fill_normal, tapering
from gentool.networks.resampling import Size, blur, enlarge, extend

Noise = Callable[..., torch.Tensor]  # (purpose, *shape) -> N(0, 1) of shape (B, *shape)

_LEAK = 0.2
_EPSILON = 1e-8
_SLOW = 0.01  # learning rate of the mapping network / that of the other layers


def _activate(x: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU times sqrt(2), which nearly keeps the second moment of N(0, 1)."""
    return math.sqrt(2) * leaky_relu(x, _LEAK)


def _normalise(z: torch.Tensor) -> torch.Tensor:
    """Scale each row of z (B, L) to second moment 1."""
    return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + _EPSILON)


class Dense(nn.Module):
    """Linear layer x W^T / sqrt(inputs) + b with W ~ N(0, 1).

    Args:
        inputs: Length of the input vector.
        outputs: Length of the output vector.
        bias: Initial value of b.
        speed: Factor of the learning rate of this layer.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, speed: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(fill_normal(torch.empty(outputs, inputs), 1 / speed))
        self.bias = nn.Parameter(torch.full((outputs,), bias / speed))
        self.gain, self.speed = speed / math.sqrt(inputs), speed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs) to (B, outputs)."""
        return linear(x, self.weight * self.gain, self.bias * self.speed)


class Convolution(nn.Module):
    """A convolution with W ~ N(0, 1), scaled by 1 / sqrt(fan_in).

    With ``halve`` the input is blurred and the stride is 2.
    """

    def __init__(
        self, before: int, after: int, size: int, bias: bool = True, halve: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(fill_normal(torch.empty(after, before, size, size)))
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None
        self.gain, self.size, self.halve = 1 / math.sqrt(before * size**2), size, halve

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, before, H, W) to (B, after, H, W), or to half of (H, W), rounded down."""
        weight = self.weight * self.gain
        if not self.halve:
            return conv2d(x, weight, self.bias, padding=self.size // 2)
        return conv2d(blur(x, 1 + self.size // 2), weight, self.bias, stride=2)


class ModulatedConvolution(nn.Module):
    """Convolution with weights W_oik s_i d_o, modulated by the style s and demodulated by d.

    s = A w + b with b = 1 at first, d_o = (sum_ik (W_oik s_i)^2)^-1/2 (Eq. 1 to 3). Instead of the
    weights for each image, the channels before and after one convolution for all images are scaled,
    which gives the same result.

    Args:
        before: Input channels.
        after: Output channels.
        latent_size: Length of w.
        size: Side of the kernel.
        demodulate: Whether to demodulate; if not, d = 1, as in the layers that give the image.
        enlarge: Whether to double the grid.
    """

    def __init__(
        self,
        before: int,
        after: int,
        latent_size: int,
        size: int = 3,
        demodulate: bool = True,
        enlarge: bool = False,
    ) -> None:
        super().__init__()
        self.style = Dense(latent_size, before, bias=1.0)
        self.weight = nn.Parameter(fill_normal(torch.empty(after, before, size, size)))
        self.gain, self.size = 1 / math.sqrt(before * size**2), size
        self.demodulate, self.enlarge = demodulate, enlarge

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """Map (B, before, H, W) and w (B, L) to (B, after, H, W), or (B, after, 2 H, 2 W)."""
        style, weight = self.style(w), self.weight * self.gain
        x = x * style[:, :, None, None]
        if self.enlarge:
            # Three quarters of the values on the doubled grid are zeros, hence the factor 4.
            x = 4 * blur(conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1)
        else:
            x = conv2d(x, weight, padding=self.size // 2)
        if not self.demodulate:
            return x
        power = linear(style.square(), weight.square().sum(dim=(2, 3)))
        return x * torch.rsqrt(power + _EPSILON)[:, :, None, None]


class StyledLayer(nn.Module):
    """Modulated convolution, noise, bias and leaky ReLU.

    If the caller gives no noise, the buffer ``constant`` is used, which is drawn at construction.
    ``strength``, one learned factor of the noise per layer, starts at zero.
    """

    constant: torch.Tensor

    def __init__(
        self, before: int, after: int, latent_size: int, size: Size, enlarge: bool, name: str
    ) -> None:
        super().__init__()
        self.size, self.name = size, name
        self.conv = ModulatedConvolution(before, after, latent_size, enlarge=enlarge)
        self.bias = nn.Parameter(torch.zeros(after))
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("constant", fill_normal(torch.empty(1, 1, *size)))

    def forward(self, x: torch.Tensor, w: torch.Tensor, noise: Noise | None) -> torch.Tensor:
        """Map (B, before, h, w) and w (B, L) to (B, after, *size)."""
        x = extend(self.conv(x, w), self.size)
        drawn = self.constant if noise is None else noise(self.name, 1, *self.size)
        return _activate(x + drawn * self.strength + self.bias[:, None, None])


class Synthesis(nn.Module):
    """w (B, L), or one w per layer (B, layers, L) -> maps (B, C, H, W), unbounded.

    ``layers`` is twice the number of grids: the first convolution of a grid has the same w as the
    image of the grid before it, and the second convolution has its own.
    """

    def __init__(self, shape: ImageShape, width: int, latent_size: int) -> None:
        super().__init__()
        self.sizes: list[Size] = pyramid(shape)[::-1]
        channels = tapering(width, len(self.sizes))
        self.layers = 2 * len(self.sizes)
        self.base = nn.Parameter(fill_normal(torch.empty(channels[0], *self.sizes[0])))
        before = [channels[0], *channels]
        self.first = nn.ModuleList()
        self.second = nn.ModuleList()
        self.to_image = nn.ModuleList()
        self.bias = nn.ParameterList()
        for k, (a, b) in enumerate(pairwise(before)):
            size = self.sizes[k]
            if k > 0:
                self.first.append(StyledLayer(a, b, latent_size, size, True, f"noise-{2 * k - 1}"))
            self.second.append(StyledLayer(b, b, latent_size, size, False, f"noise-{2 * k}"))
            self.to_image.append(
                ModulatedConvolution(b, shape.channels, latent_size, 1, demodulate=False)
            )
            self.bias.append(nn.Parameter(torch.zeros(shape.channels)))

    def forward(self, w: torch.Tensor, noise: Noise | None = None) -> torch.Tensor:
        """Return maps; ``noise`` returns (B, *shape) for a name, and None is the constant noise."""
        # Contiguous, so that styles from the mapping and from a file are rounded equally.
        each = [v.contiguous() for v in w.unbind(1)] if w.ndim == 3 else [w] * self.layers
        x = self.base.expand(w.shape[0], -1, -1, -1)  # not len(), which fixes the size in an export
        total: torch.Tensor | None = None
        for k, size in enumerate(self.sizes):
            if k > 0:
                x = self.first[k - 1](x, each[2 * k - 1], noise)
            x = self.second[k](x, each[2 * k], noise)
            image = self.to_image[k](x, each[2 * k + 1]) + self.bias[k][:, None, None]
            total = image if total is None else enlarge(total, size) + image
        assert total is not None
        return total


class Generator(nn.Module):
    """Latents (B, L), labels (B,) -> maps (B, C, H, W), unbounded.

    Args:
        shape: Shape of the images.
        width: Channels of grids up to 32x32; 512 in the paper.
        latent_size: L, length of z and of w.
        classes: Number of classes; 0 for an unconditional generator. With classes, the mapping
            network takes a class vector beside z.
        depth: Layers of the mapping network.

    Attributes:
        mean_w: Mean of w for each class, (classes or 1, L); see ``measure_mean``.
        layers: Number of layers that take a w of their own.
    """

    mean_w: torch.Tensor

    def __init__(
        self, shape: ImageShape, width: int, latent_size: int, classes: int = 0, *, depth: int = 8
    ) -> None:
        super().__init__()
        self.input = ClassInput(latent_size, classes)
        inputs = [self.input.size, *[latent_size] * (depth - 1)]
        self.dense = nn.ModuleList(Dense(n, latent_size, speed=_SLOW) for n in inputs)
        self.synthesis = Synthesis(shape, width, latent_size)
        self.layers = self.synthesis.layers
        self.register_buffer("mean_w", torch.zeros(max(classes, 1), latent_size))

    def mapping(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return w (B, L), float32, of z (B, L) ~ N(0, I); the length of z makes no difference."""
        w = _normalise(self.input(_normalise(latents), labels))
        for layer in self.dense:
            w = _activate(layer(w))
        return w.to(torch.promote_types(w.dtype, torch.float32))

    @torch.no_grad()
    def measure_mean(self, latents: torch.Tensor) -> None:
        """Set ``mean_w`` to the mean of w over latents (N, L), for each class."""
        for kind, mean in enumerate(self.mean_w):
            labels = torch.full((len(latents),), kind, device=latents.device)
            mean.copy_(self.mapping(latents, labels if self.input.classes else None).mean(dim=0))

    def truncate(
        self, w: torch.Tensor, psi: float, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return mean + psi (w - mean) for w (B, L); with psi < 1 fewer samples are unusual.

        Karras et al. 2019 (arXiv:1812.04948), section 2.1 and appendix B. Each class has its own
        mean; class weights (B, classes) have the weighted mean.
        """
        mean = self.mean_w
        if self.input.classes:
            labels = check_labels(labels, self.input.classes)
            mean = labels @ mean if labels.ndim == 2 else mean[labels]
        return torch.lerp(mean.expand_as(w), w, psi)

    def mix(
        self, coarse: torch.Tensor, fine: torch.Tensor, crossover: torch.Tensor
    ) -> torch.Tensor:
        """Return one w per layer, (B, layers, L), from ``coarse`` and ``fine`` (B, L).

        Layers from ``crossover``, int64 (B,), on are ``fine``; the layers before it are ``coarse``.
        """
        layer = torch.arange(self.layers, device=coarse.device)
        late = (layer >= crossover[:, None])[:, :, None]
        return torch.where(late, fine[:, None], coarse[:, None])

    def style_weights(self) -> torch.Tensor:
        """Return the matrices A of the affine layers that compute the styles, stacked, (F, L)."""
        layers = [m.style for m in self.modules() if isinstance(m, ModulatedConvolution)]
        return torch.cat([layer.weight * layer.gain for layer in layers])

    def forward(
        self,
        latents: torch.Tensor,
        labels: torch.Tensor | None = None,
        *,
        noise: Noise | None = None,
    ) -> torch.Tensor:
        """Return maps of latents, without mixing or truncation; see ``mix`` and ``truncate``."""
        return self.synthesis(self.mapping(latents, labels), noise)  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """Residual block that halves the grid: (two 3x3 convolutions + 1x1 convolution) / sqrt(2)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = Convolution(before, before, 3)
        self.conv2 = Convolution(before, after, 3, halve=True)
        self.skip = Convolution(before, after, 1, bias=False, halve=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, before, H, W) to (B, after, H / 2, W / 2), rounded down."""
        y = _activate(self.conv2(_activate(self.conv1(x))))
        return (y + self.skip(x)) / math.sqrt(2)  # type: ignore[no-any-return]


def append_deviation(x: torch.Tensor) -> torch.Tensor:
    """Append a channel: the standard deviation over the batch, averaged over channels and pixels.

    Karras et al. 2018, section 3, but over the whole batch and not over groups of four, so that the
    order of the images makes no difference. A logit depends on the other images of the batch: real
    and generated images must be in separate batches of the size that is used in training.

    Args:
        x: (B, C, H, W).

    Returns:
        (B, C + 1, H, W).
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    deviation = (batch_variance(wide) + _EPSILON).sqrt().mean()
    channel = deviation.to(x.dtype).expand(len(x), 1, *x.shape[2:])
    return torch.cat([x, channel], dim=1)


class Discriminator(nn.Module):
    """Images (B, C, H, W), labels (B,) -> logits (B,), with a projection if there are classes.

    Args:
        shape: Shape of the images.
        width: As in ``Generator``.
        classes: Number of classes; 0 for an unconditional discriminator.
        deviation: Whether to append the standard deviation over the batch; see
            ``append_deviation``.
    """

    def __init__(
        self, shape: ImageShape, width: int, classes: int = 0, *, deviation: bool = True
    ) -> None:
        super().__init__()
        self.classes, self.deviation = classes, deviation
        sizes = pyramid(shape)
        channels = tapering(width, len(sizes))[::-1]
        last = channels[-1]
        self.from_image = Convolution(shape.channels, channels[0], 1)
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(channels)))
        self.conv = Convolution(last + deviation, last, 3)
        self.dense = Dense(last * math.prod(sizes[-1]), last)
        self.out = Dense(last, 1)
        if classes:
            self.vectors = class_vectors(classes, last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the penultimate vector (B, width)."""
        x = self.blocks(_activate(self.from_image(images)))
        if self.deviation:
            x = append_deviation(x)
        return _activate(self.dense(_activate(self.conv(x)).flatten(1)))

    def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (B,), float32."""
        features = self.features(images)
        logits = self.out(features).squeeze(1).float()
        if not self.classes:
            return logits  # type: ignore[no-any-return]
        vectors = self.vectors(check_labels(labels, self.classes))
        shares = (vectors * features).float().sum(dim=1)
        return logits + shares / math.sqrt(features.shape[1])  # type: ignore[no-any-return]
