"""Batches for training: prepared images as tensors on the device.

The images of a step are a function of (seed, images seen), so a resumed run needs no saved state
from this module. A small data set is kept in GPU memory. Streamed images are decoded one batch
ahead, in a thread.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from gentool.core.devices import memory_format, to_device
from gentool.core.images import Pixels, to_unit
from gentool.core.rng import Draw, data_order
from gentool.data import Dataset, Rows, Subset
from gentool.models.augmentation import open_augmentation
from gentool.models.base import Batch

_RESIDENT_SHARE = 0.25  # largest fraction of the free GPU memory for the images
# Most images and most pixels in a batch of ``fixed``; larger batches do not fit into CPU caches.
_FIXED_BATCH, _FIXED_PIXELS = 256, 2**18
_FIT_IMAGES = 1024, 8192  # fewest and most images that a density is fitted to


class Feeder:
    """Makes the batches of one run.

    Args:
        images: The training images; an image may occur more than once.
        seed: Seed of the order.
        batch: Images per batch.
        device: Device of the batches.
        augment: Names of augmentations, joined by +, or ``none``.
        stride: Distance between the starts of two batches, in images; more than ``batch`` if
            other ranks take the images between. 0 means ``batch``.
    """

    def __init__(
        self,
        images: Subset,
        seed: int,
        batch: int,
        device: torch.device,
        augment: str = "none",
        stride: int = 0,
    ) -> None:
        dataset = images.dataset
        self._dataset, self._rows, self._seed, self._size = dataset, images.rows, seed, batch
        self._stride = stride or batch
        self._device, self._format = device, memory_format(device)
        self._augment = None if augment == "none" else open_augmentation(augment)
        self._resident = _on_device(dataset, device)
        self._ahead: dict[int, Future[Pixels]] = {}
        self._pool = ThreadPoolExecutor(1) if dataset.streamed else None
        self._last: tuple[int, Batch] | None = None

    def batch(self, start: int) -> Batch:
        """Return the batch whose first image is at position ``start`` of the endless shuffle."""
        # Cached, since generator and discriminator use the same images in a step.
        if self._last is None or self._last[0] != start:
            order = self._order(start)
            indices = np.arange(start, start + self._size, dtype=np.int64)
            draw = Draw(self._seed, "data", indices, 0, self._device)
            pixels = self._window(self._pixels(start, order), draw)
            self._last = start, self._changed(self._as_batch(pixels, order), draw)
        return self._last[1]

    def fixed(self, count: int) -> Iterator[Batch]:
        """Yield the first ``count`` images of the shuffle, or all if fewer; not augmented."""
        chosen = self._rows[data_order(self._seed, 0, min(len(self._rows), count), len(self._rows))]
        shape = self._dataset.shape
        size = min(_FIXED_BATCH, max(_FIXED_PIXELS // (shape.height * shape.width), 1))
        for start in range(0, len(chosen), size):
            order = chosen[start : start + size]
            pixels = torch.from_numpy(self._dataset.images[order])
            yield self._as_batch(pixels, order)

    def to_begin(self) -> Iterator[Batch]:
        """Yield the images for ``Model.begin``, for parts that are initialised from images."""
        return self.fixed(_FIT_IMAGES[1])

    def to_fit(self, seen: int) -> Iterator[Batch]:
        """Yield the images that a density is fitted to after ``seen`` images of training."""
        return self.fixed(self.fit_count(seen))

    def fit_count(self, seen: int) -> int:
        """Return the number of images that ``to_fit`` yields.

        It is ``seen``, so that the fits of a short run on large images do not cost more than its
        training, but at least 1,024, since fewer do not determine a density, and at most 8,192.
        It is never more than the number of training rows.
        """
        fewest, most = _FIT_IMAGES
        return min(max(seen, fewest), most, len(self._rows))

    def _window(self, pixels: torch.Tensor, draw: Draw) -> torch.Tensor:
        """Crop each stored image, uint8 (B, H + h, W + w, C), to a random window (H, W)."""
        height, width = self._dataset.shape.height, self._dataset.shape.width
        spare = (pixels.shape[1] - height, pixels.shape[2] - width)
        if spare == (0, 0):
            return pixels
        here = replace(draw, device=torch.device("cpu"))  # to read them would wait for the device
        places = here.uniform("window", 2) * torch.tensor([spare[0] + 1, spare[1] + 1])
        windows = [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(pixels, places.long().tolist(), strict=True)
        ]
        return torch.stack(windows)

    def _changed(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with augmented images, clamped to [-1, 1]."""
        if self._augment is None:
            return batch
        numbers = draw.uniform("augment", self._augment.size)
        images = self._augment(batch.images, numbers).clamp(-1, 1)
        return Batch(images.contiguous(memory_format=self._format), batch.labels)

    def _order(self, start: int) -> Rows:
        return self._rows[data_order(self._seed, start, self._size, len(self._rows))]

    def _pixels(self, start: int, order: Rows) -> torch.Tensor:
        if self._pool is None:
            return self._read(order)
        ready = self._ahead.pop(start, None)
        self._ahead.clear()
        following = start + self._stride
        found = ready.result() if ready is not None else self._dataset.stored[order]
        self._ahead[following] = self._pool.submit(
            self._dataset.stored.__getitem__, self._order(following)
        )
        return torch.from_numpy(found)

    def _read(self, order: Rows) -> torch.Tensor:
        if self._resident is not None:
            return self._resident[to_device(torch.from_numpy(order), self._device)]
        return torch.from_numpy(self._dataset.stored[order])

    def _as_batch(self, pixels: torch.Tensor, order: Rows) -> Batch:
        images = to_unit(to_device(pixels, self._device))
        labels = self._dataset.labels
        chosen = None
        if labels is not None:
            chosen = to_device(torch.from_numpy(labels[order]), self._device)
        return Batch(images.contiguous(memory_format=self._format), chosen)


def _on_device(dataset: Dataset, device: torch.device) -> torch.Tensor | None:
    """Return all stored pixels on a CUDA device, or None if they take too much of its memory.

    The result is also None for other devices and for streamed images.
    """
    if device.type != "cuda" or dataset.streamed:
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if len(dataset) * dataset.preprocessing.stored_shape.dims > _RESIDENT_SHARE * free:
        return None
    return torch.from_numpy(np.ascontiguousarray(dataset.stored[:])).to(device)
