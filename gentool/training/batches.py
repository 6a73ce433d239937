"""Batches for training: from prepared images to tensors on the device, by the run's counter.

Which images a step sees is a function of (seed, images seen), so nothing here has a state that
a resumed run would need. Small sets live on the GPU; sets that are streamed are decoded one
batch ahead, in a thread.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.core.devices import memory_format
from gentool.core.images import Pixels, to_unit
from gentool.core.rng import Draw, data_order
from gentool.data import Dataset
from gentool.models.base import Batch
from gentool.models.gan.augmentation import open_augmentation

_RESIDENT_SHARE = 0.25  # of the free GPU memory that the images may take
_FIXED_BATCH, _FIXED_PIXELS = 256, 2**18  # at most, and in a batch; larger ones leave the caches
_FIT_IMAGES = 1024, 8192  # that a density is fitted to, at least and at most

Order = NDArray[np.int64]


class Feeder:
    """Batches of one run.

    Args:
        dataset: Prepared images.
        rows: Numbers of those to train on; a number may stand there more than once.
        seed: Of the order.
        batch: Images per batch.
        device: Where the batches are wanted.
        augment: Names of augmentations, joined by +, or ``none``.
        stride: Images from one batch to the next; more than ``batch`` where other processes
            take the rest. 0 stands for ``batch``.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Order,
        seed: int,
        batch: int,
        device: torch.device,
        augment: str = "none",
        stride: int = 0,
    ) -> None:
        self._dataset, self._rows, self._seed, self._size = dataset, rows, seed, batch
        self._stride = stride or batch
        self._device, self._format = device, memory_format(device)
        self._augment = None if augment == "none" else open_augmentation(augment)
        self._resident = _on_device(dataset, device)
        self._ahead: dict[int, Future[Pixels]] = {}
        self._pool = None if isinstance(dataset.images, np.ndarray) else ThreadPoolExecutor(1)
        self._last: tuple[int, Batch] | None = None

    def batch(self, start: int) -> Batch:
        """The batch whose first image is number ``start`` of the endless shuffle."""
        if self._last is None or self._last[0] != start:  # both players see the same images
            order = self._order(start)
            indices = np.arange(start, start + self._size, dtype=np.int64)
            draw = Draw(self._seed, "data", indices, 0, self._device)
            pixels = self._window(self._pixels(start, order), draw)
            self._last = start, self._changed(self._as_batch(pixels, order), draw)
        return self._last[1]

    def fixed(self, count: int) -> Iterator[Batch]:
        """Unchanged, the first ``count`` images of the shuffle, fewer if there are not as many."""
        chosen = self._rows[data_order(self._seed, 0, min(len(self._rows), count), len(self._rows))]
        shape = self._dataset.shape
        size = min(_FIXED_BATCH, max(_FIXED_PIXELS // (shape.height * shape.width), 1))
        for start in range(0, len(chosen), size):
            order = chosen[start : start + size]
            pixels = torch.from_numpy(self._dataset.images[order])
            yield self._as_batch(pixels, order)

    def to_begin(self) -> Iterator[Batch]:
        """What a part that begins at images, and counts classes among them, may look at."""
        return self.fixed(_FIT_IMAGES[1])

    def to_fit(self, seen: int) -> Iterator[Batch]:
        """What a density is fitted to, in a run that has seen so many images."""
        return self.fixed(self.fit_count(seen))

    def fit_count(self, seen: int) -> int:
        """How many those are.

        No more than were seen, so that the fits of a short run on large images do not cost more
        than its training; some, though, since few say nothing of a density.
        """
        fewest, most = _FIT_IMAGES
        return min(max(seen, fewest), most, len(self._rows))

    def _window(self, pixels: torch.Tensor, draw: Draw) -> torch.Tensor:
        """A window of the wanted shape, anywhere in what is stored, per image."""
        height, width = self._dataset.shape.height, self._dataset.shape.width
        spare = (pixels.shape[1] - height, pixels.shape[2] - width)
        if spare == (0, 0):
            return pixels
        places = draw.uniform("window", 2).cpu() * torch.tensor([spare[0] + 1, spare[1] + 1])
        windows = [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(pixels, places.long().tolist(), strict=True)
        ]
        return torch.stack(windows)

    def _changed(self, batch: Batch, draw: Draw) -> Batch:
        """The batch augmented, back within [-1, 1]."""
        if self._augment is None:
            return batch
        numbers = draw.uniform("augment", self._augment.size)
        images = self._augment(batch.images, numbers).clamp(-1, 1)
        return Batch(images.contiguous(memory_format=self._format), batch.labels)

    def _order(self, start: int) -> Order:
        return self._rows[data_order(self._seed, start, self._size, len(self._rows))]

    def _pixels(self, start: int, order: Order) -> torch.Tensor:
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

    def _read(self, order: Order) -> torch.Tensor:
        if self._resident is not None:
            return self._resident[torch.from_numpy(order).to(self._device)]
        return torch.from_numpy(self._dataset.stored[order])

    def _as_batch(self, pixels: torch.Tensor, order: Order) -> Batch:
        images = to_unit(pixels.to(self._device, non_blocking=True))
        labels = self._dataset.labels
        chosen = None if labels is None else torch.from_numpy(labels[order]).to(self._device)
        return Batch(images.contiguous(memory_format=self._format), chosen)


def _on_device(dataset: Dataset, device: torch.device) -> torch.Tensor | None:
    """All pixels on a CUDA device where they fit well, else None."""
    if device.type != "cuda" or not isinstance(dataset.stored, np.ndarray):
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if dataset.stored.nbytes > _RESIDENT_SHARE * free:
        return None
    return torch.from_numpy(np.ascontiguousarray(dataset.stored)).to(device)
