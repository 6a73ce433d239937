"""Gradient accumulation: a batch that does not fit into memory is processed in parts.

A loss has one value per image, and the noise of an image depends only on the image's index, so
the sum of the parts' gradients equals the gradient of the whole batch except for rounding.
Whatever is computed over a batch is computed over each part instead: batch normalisation, the
minibatch standard deviation, free bits, regularisers that compare images, and running statistics
(adaptive augmentation, LeCam, path lengths). The exception is a codebook, which collects the
statistics of all parts and is updated once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gentool.core.distributed import OthersOutOfMemory, Ranks
from gentool.models.base import LossTerms, moving_buffers

_WORDS = ("DefaultCPUAllocator", "MPS backend out of memory", "CUDA out of memory")

PartLoss = Callable[[int, int], LossTerms]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that torch, or another rank, ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError | OthersOutOfMemory) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
    )


class Parts:
    """Gradients of a run's batches, in parts whose size is halved when memory runs out.

    Args:
        model: The model; its moving buffers are restored before a step is repeated.
        batch: Images per step, over all ranks.
        tell: Called with a message when the size of the parts changes.
        ranks: The ranks; each has the same number of parts, and their gradients are summed.

    Attributes:
        size: Images per part, over all ranks.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batch: int,
        tell: Callable[[str], None],
        ranks: Ranks,
    ) -> None:
        self.size = batch
        self._batch, self._tell, self._ranks = batch, tell, ranks
        first, last = ranks.share(batch)
        self._rows = last - first
        self._buffers = list(moving_buffers(model).values())
        self._before = [buffer.clone() for buffer in self._buffers]

    def state(self) -> dict[str, Any]:
        """Return what the state file keeps: images per part, 0 for the whole batch."""
        return {"part": self.size if self.size < self._batch else 0}

    def load(self, header: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises:
            ValueError: a size that no part can have.
        """
        part = header.get("part", 0)
        if type(part) is not int or part < 0:
            raise ValueError("part")
        self.size = min(part or self._batch, self._batch)

    def backward(
        self,
        loss: PartLoss,
        clear: Callable[[], None],
        weights: Sequence[torch.nn.Parameter],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compute the gradients of a batch's mean loss; halve the parts until they fit into memory.

        Args:
            loss: (first, last) -> loss of the images in rows [first, last) of this rank's batch.
            clear: Clears all gradients.
            weights: The parameters whose gradients are computed.

        Returns:
            The mean loss and the means of its named terms over the batch of all ranks, scalars.

        Raises:
            RuntimeError: not even one image per rank fits, or another error occurred.
        """
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)
        while True:
            clear()
            try:
                return self._accumulate(loss, weights)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if not isinstance(error, OthersOutOfMemory):
                    self._ranks.tell_out_of_memory()
                if self._count() == self._batch // self._ranks.count:
                    raise
            clear()  # outside of the except block, whose traceback keeps activations in memory
            self._halve()

    def _count(self) -> int:
        """Return the number of parts of a batch; each part has an image on every rank."""
        return min(math.ceil(self._batch / self.size), self._batch // self._ranks.count)

    def _accumulate(
        self, loss: PartLoss, weights: Sequence[torch.nn.Parameter]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        total, means = torch.zeros((), device=weights[0].device), dict[str, torch.Tensor]()
        count = self._count()
        for number in range(count):
            first, last = (self._rows * k // count for k in (number, number + 1))
            terms = loss(first, last)
            share = (last - first) / self._batch  # exactly 1.0 for a whole batch: no rounding
            part = terms.total.mean() * share
            part.backward()  # type: ignore[no-untyped-call]
            total = total + part.detach()
            for name, values in terms.parts.items():
                means[name] = means.get(name, 0) + values.detach().mean() * share
        gradients = [w.grad for w in weights if w.grad is not None]
        self._ranks.sum([*gradients, total, *means.values()])
        return total, means or {"loss": total}

    def _halve(self) -> None:
        self.size = (self.size + 1) // 2
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._tell(
            f"out of memory: a batch of {self._batch} is now split into parts of {self.size} "
            "images. The result is the same up to rounding, but batch normalisation and other "
            "statistics of a batch use the parts"
        )
