"""Feature extractors: uint8 images -> float32 features (N, D), with a name and a hash.

``random``: a fixed convolutional network with weights from a fixed seed, for any data.
``labels``: a small classifier that is trained once on the classes of the data; the evaluation
keeps it in the cache folder. The pretrained extractors are in ``pretrained``. Only a Frechet
distance in Inception's features may be called FID; the names of other scores name the extractor.

The input of every extractor is RGB (grey repeated, alpha laid on white). It runs in eval mode and
float32, so that the features of an image do not depend on the other images in a batch.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, relu

from gentool.core.half_cosine import half_cosine
from gentool.core.images import Pixels, pad_rows
from gentool.core.rng import data_order, derive_seed, normal

BLOCK = 64  # images per batch; the last is padded, so features do not depend on the batch size
_SIDE = 32  # larger images are resized to this short side for the random and labels networks


def check_evaluating(module: nn.Module) -> None:
    """Refuse a module in training mode, whose scores would depend on chance and on the batch.

    Raises:
        ValueError: The module or a part of it is in training mode.
    """
    if any(part.training for part in module.modules()):
        raise ValueError(
            f"{type(module).__name__} is in training mode, so scores would be wrong. Call "
            "its eval() first"
        )


class Extractor(ABC):
    """Base class of networks that compute features of images.

    Args:
        network: Network that computes the features; set to eval mode, on the CPU.

    Attributes:
        name: Name of the extractor.
        score: Name of a Frechet distance in these features, such as ``FID``.
        hash: Hash of the weights; two scores are comparable only if it is the same.
    """

    name: str
    score: str

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)
        self.hash = hash_weights(network)
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> "Extractor":
        """Move the network to ``device``; return the extractor."""
        self.device = torch.device(device)
        self.network.to(self.device)
        return self

    @abstractmethod
    def _features(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (B, D) of RGB images (B, 3, H, W), uint8."""

    @torch.inference_mode()
    def blocks(self, pixels: Pixels) -> Iterator[torch.Tensor]:
        """Yield features of uint8 images (N, H, W, C) in batches (up to 64, D), float32, on CPU.

        Raises:
            ValueError: The network is in training mode.
        """
        check_evaluating(self.network)
        for start in range(0, len(pixels), BLOCK):
            rows = as_rgb(np.asarray(pixels[start : start + BLOCK]))
            padded = torch.from_numpy(pad_rows(rows, BLOCK))
            images = padded.permute(0, 3, 1, 2).to(self.device)
            with torch.backends.cudnn.flags(allow_tf32=False):
                features = self._features(images)
            yield features[: len(rows)].float().cpu()

    def features(self, pixels: Pixels) -> torch.Tensor:
        """Return features (N, D), float32 on the CPU, of uint8 images (N, H, W, C)."""
        return torch.cat(list(self.blocks(pixels)))


def as_rgb(pixels: Pixels) -> Pixels:
    """Convert uint8 (N, H, W, C) to RGB (N, H, W, 3): grey repeated, alpha laid on white."""
    if pixels.shape[3] == 1:
        return np.repeat(pixels, 3, axis=3)
    if pixels.shape[3] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        laid = pixels[..., :3] * alpha + 255 * (1 - alpha)
        return np.round(laid).astype(np.uint8)
    return pixels


def _to_small(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 (B, 3, H, W) to float32 in [-1, 1], at most 32 pixels on the short side."""
    scaled = images.float() / 127.5 - 1
    short = min(images.shape[2:])
    if short <= _SIDE:
        return scaled
    size = [round(side * _SIDE / short) for side in images.shape[2:]]
    return interpolate(scaled, size, mode="bilinear", antialias=True, align_corners=False)


def hash_weights(module: nn.Module) -> str:
    """Return 12 hex digits of the SHA-256 of the names and tensors of a module on the CPU."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


class RandomExtractor(Extractor):
    """Four strided convolutions with fixed random weights.

    The features are the mean and standard deviation of each channel after each layer. They
    respond to sharpness and colours but not to objects: they suit the progress of one run, but
    are weak for comparing model families.
    """

    name, score = "random", "FD-random"
    _WIDTHS = (3, 16, 32, 64, 64)

    def __init__(self) -> None:
        layers = []
        for level, (before, after) in enumerate(pairwise(self._WIDTHS)):
            layer = nn.Conv2d(before, after, 3, 2, 1, bias=False)
            noise = normal(0, f"extractor/random/v1/{level}", np.arange(after), before * 9)
            weight = torch.from_numpy(noise).view(after, before, 3, 3)
            layer.weight = nn.Parameter(weight * math.sqrt(2 / (9 * before)), requires_grad=False)
            layers.append(layer)
        super().__init__(nn.ModuleList(layers))

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        x, found = _to_small(images), []
        assert isinstance(self.network, nn.ModuleList)
        for layer in self.network:
            x = relu(layer(x))
            found += [x.mean(dim=(2, 3)), x.std(dim=(2, 3), correction=0)]
        return torch.cat(found, dim=1)


class Classifier(nn.Module):
    """A small convolutional network with group normalisation; its pooled layer is the feature."""

    def __init__(self, classes: int) -> None:
        super().__init__()

        def block(before: int, after: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(8, after), nn.ReLU()
            )

        self.body = nn.Sequential(
            block(3, 32, 1), block(32, 64, 2), block(64, 64, 1), block(64, 128, 2),
            block(128, 128, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(128, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, classes) of images (B, 3, H, W) in [-1, 1]."""
        return self.head(self.body(images))  # type: ignore[no-any-return]


class LabelsExtractor(Extractor):
    """Features (N, 128) of a classifier that was trained on the classes of the data."""

    name, score = "labels", "FD-labels"

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(classifier.body)

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(_to_small(images))  # type: ignore[no-any-return]


_TRAIN_BATCH, _TRAIN_LR = 128, 2e-3
_EPOCHS, _FEWEST, _MOST = 40, 6_400, 150_000  # epochs; least and most images seen in training


def train_classifier(
    pixels: Pixels, labels: Any, classes: int, seed: int, images: int | None = None
) -> Classifier:
    """Train the classifier with Adam, a cosine schedule and random shifts; deterministic.

    Args:
        pixels: uint8 (N, H, W, C).
        labels: int64 (N,).
        classes: Number of classes.
        seed: Seed of the weights, the order of the images and the shifts.
        images: Images seen in training; None means 40 epochs, clipped to [6,400, 150,000].

    Returns:
        The classifier in eval mode, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "classifier"))
        network = Classifier(classes)
    network.train()
    optimiser = torch.optim.Adam(network.parameters(), lr=_TRAIN_LR, fused=True)
    budget = images or min(max(_EPOCHS * len(pixels), _FEWEST), _MOST)  # more would overfit
    steps = max(1, budget // _TRAIN_BATCH)
    for step in range(steps):
        order = data_order(seed, step * _TRAIN_BATCH, _TRAIN_BATCH, len(pixels))
        batch = torch.from_numpy(as_rgb(pixels[order])).permute(0, 3, 1, 2)
        small = _to_small(batch)
        shift = int(derive_seed(seed, "shift", step) % 25)
        small = torch.roll(small, (shift // 5 - 2, shift % 5 - 2), dims=(2, 3))
        for group in optimiser.param_groups:
            group["lr"] = _TRAIN_LR * half_cosine(step, steps)
        optimiser.zero_grad(set_to_none=True)
        loss = cross_entropy(network(small), torch.from_numpy(labels[order]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval()
