"""``gentool.load``: a trained model that samples, encodes, decodes and interpolates."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import nn

from gentool.checkpoint import LoadedModel, load_model
from gentool.core.errors import UsageError
from gentool.core.images import Pixels
from gentool.core.registry import unknown_name
from gentool.core.rng import MAX_SEED
from gentool.core.signals import StopFlag
from gentool.inference.blocks import decode_blocks, encode_blocks
from gentool.inference.held_out import without_blobs
from gentool.inference.interpolation import METHODS, interpolate
from gentool.inference.latents import Latents, decode, draw, natural_space, to_styles
from gentool.inference.reconstruction import find_latents
from gentool.inference.sampling import sample_images


def load(path: str | Path, device: str | torch.device = "auto") -> "Model":
    """Open a model file, or the model in a run folder.

    Args:
        path: The file or run folder.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        ModelFileError: it is no gentool model file, is damaged, or does not hold what its header
            describes.
        UsageError: no such kind of device.
        DeviceError: this machine does not have that device.
    """
    return Model(load_model(path, device))


class Decoder(nn.Module):
    """The decoder of a model alone, for ``torch.jit.trace`` and ``torch.export``.

    It maps latents (N, ...) to images (N, C, H, W), float32 in [-1, 1].
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Return images (N, C, H, W) of latents (N, ...)."""
        images: torch.Tensor = self.model.decode(latents)  # type: ignore[operator]
        return images


@dataclass(frozen=True)
class Model:
    """A trained model.

    Images are uint8 arrays (N, H, W, C) with C = 1 (grey), 3 (RGB) or 4 (RGBA). Results are the
    same, byte for byte, as those of the command line. The object pickles and deep-copies.

    Attributes:
        loaded: The model file as it was opened.
    """

    loaded: LoadedModel

    def sample(
        self,
        count: int = 16,
        seed: int = 0,
        *,
        start: int = 0,
        class_name: str | None = None,
        **drawing: float,
    ) -> Pixels:
        """Draw new images.

        Args:
            count: How many; 0 gives an empty array.
            seed: From 0 to 2^63 - 1.
            start: Index of the first image of this seed.
            class_name: One of the classes of a conditional model; None draws a class for each
                image.
            drawing: ``truncation``, ``temperature``, ``top_k``, ``top_p`` or ``keep_top``, for
                the models that have them.

        Returns:
            uint8 (count, H, W, C). Image k is the same whatever ``count`` and ``start`` are.

        Raises:
            UsageError: a number out of its bounds, no such class, a way of drawing that the model
                does not have, or more images than fit into memory.
        """
        loaded = self.loaded
        if drawing:  # the choices belong to this call, and not to the object
            loaded = replace(loaded, model=copy.copy(loaded.model))
            loaded.model.draw_with(**drawing)
        return sample_images(loaded, count, seed, start=start, class_name=class_name)

    def encode(self, images: Pixels) -> torch.Tensor:
        """Return latents (N, ...) of images, on the model's device; no gradients.

        A model with a posterior gives its mean.

        Args:
            images: uint8 (N, H, W, C) of the model's shape.

        Raises:
            NoEncoder: the model has no encoder.
            UsageError: images of another shape or dtype.
        """
        return encode_blocks(self.loaded.model, self._checked(images)).clone()  # may have gradients

    @overload
    def decode(self, latents: torch.Tensor) -> Pixels: ...

    @overload
    def decode(self, latents: torch.Tensor, *, as_tensor: Literal[False]) -> Pixels: ...

    @overload
    def decode(self, latents: torch.Tensor, *, as_tensor: Literal[True]) -> torch.Tensor: ...

    def decode(self, latents: torch.Tensor, *, as_tensor: bool = False) -> Pixels | torch.Tensor:
        """Return the images of latents.

        Args:
            latents: Shape (N, ...), as ``encode`` returns them.
            as_tensor: Return a tensor through which gradients flow back to the latents.

        Returns:
            uint8 (N, H, W, C), or float32 (N, C, H, W) in [-1, 1] as a tensor.
        """
        model = self.loaded.model
        latents = latents.to(model.device)
        return model.decode(latents) if as_tensor else decode_blocks(model, latents)

    def reconstruct(self, images: Pixels, *, steps: int | None = None, seed: int = 0) -> Pixels:
        """Return what the model makes of images.

        Args:
            images: uint8 (N, H, W, C) of the model's shape.
            steps: Gradient steps of a search for better latents; 0 for the encoder alone; None for
                the model's default.
            seed: Seed of the random starts of a search without an encoder.

        Returns:
            uint8 (N, H, W, C).

        Raises:
            UsageError: images of another shape, or ``steps`` is 0 and there is no encoder.
            Stopped: Ctrl-C or another signal came.
        """
        with StopFlag() as stop:
            latents = find_latents(self.loaded, self._checked(images), steps, seed, stop)
        return decode(self.loaded.model, latents)

    def interpolate(
        self,
        keys: Sequence[int] | Pixels = (0, 1, 2, 3),
        steps: int = 16,
        *,
        method: str | None = None,
        class_name: str | None = None,
        loop: bool = False,
    ) -> Pixels:
        """Return the frames of a path through latent space.

        Args:
            keys: Seeds, or images uint8 (N, H, W, C) of the model's shape; at least two.
            steps: Frames from one key to the next.
            method: ``slerp`` (an arc), ``lerp`` (a line), or None for what suits the keys.
            class_name: One class for all keys that are seeds.
            loop: Go back to the first key.

        Returns:
            uint8 ((N - 1) * steps + 1, H, W, C), or (N * steps, H, W, C) for a loop.

        Raises:
            UsageError: fewer than two keys, no such class, or images of another shape.
        """
        if len(keys) < 2:
            raise UsageError(f"a path needs at least two key frames, not {len(keys)}")
        if steps < 1:
            raise UsageError(f"steps is {steps}; allowed: 1 or more")
        if method not in (None, *METHODS):
            raise unknown_name("method", str(method), list(METHODS), "help(gentool.Model)")
        found = self._keys(keys, class_name)
        return np.stack(list(interpolate(self.loaded, found, steps, method, loop=loop)))

    def _keys(self, keys: Sequence[int] | Pixels, class_name: str | None) -> Latents:
        """Return the points of seeds or of images, in the space of the model's paths."""
        model = self.loaded.model
        if isinstance(keys, np.ndarray) and keys.ndim > 1:
            with StopFlag() as stop:
                found = find_latents(self.loaded, self._checked(keys), None, 0, stop)
        else:
            label = None if class_name is None else self.loaded.class_number(class_name)
            if wrong := [seed for seed in keys if not 0 <= int(seed) <= MAX_SEED]:
                raise UsageError(f"seed is {wrong[0]!s:.20}; allowed: 0 to {MAX_SEED:,}")
            found = draw(model, [(int(seed), 0) for seed in keys], label)
        return to_styles(model, found) if natural_space(model) == "w" else found

    @property
    def decoder(self) -> Decoder:
        """The decoder alone, as a module from latents to images."""
        return Decoder(self.loaded.model)

    def info(self) -> dict[str, Any]:
        """Return what the model file says of itself: model, options, classes, training."""
        return {"file": str(self.loaded.path), "sha256": self.loaded.sha256,
                **without_blobs(self.loaded.header)}  # fmt: skip

    def _checked(self, images: Pixels) -> Pixels:
        """Return images that have the model's shape.

        Raises:
            UsageError: they have another shape or dtype.
        """
        shape = self.loaded.model.shape
        wanted = (shape.height, shape.width, shape.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
            raise UsageError(
                f"images are {images.dtype} {list(images.shape)}; this model takes uint8 "
                f"[N, {', '.join(map(str, wanted))}]"
            )
        return images
