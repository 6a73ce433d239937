"""Steps that do not fit into memory: the batch is taken in parts whose gradients add up.

Losses are one value per image and the noise of an image depends on its number alone, so parts
give the gradient of the whole batch, up to rounding. What looks at a batch as a batch sees the
parts instead: batch normalisation, the minibatch standard deviation, free bits, regularisers that
compare images, and running statistics (adaptive augmentation, LeCam, path lengths). A codebook
gathers what the parts say, and moves once.
"""

import math
from collections.abc import Callable, Sequence

import torch

from gentool.core.distributed import OthersOutOfMemory, Ranks
from gentool.models.base import LossTerms, moving_buffers

_WORDS = ("DefaultCPUAllocator", "MPS backend out of memory", "CUDA out of memory")

PartLoss = Callable[[int, int], LossTerms]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of memory, on any device."""
    return isinstance(error, torch.OutOfMemoryError | OthersOutOfMemory) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
    )


class Parts:
    """How a run's batches are taken.

    Args:
        model: Its moving buffers are put back when a step begins anew.
        batch: Images per step, of all processes.
        part: Images per part to begin with, likewise; 0 for all.
        aloud: Told what happens, in words.
        ranks: The processes, which take as many parts each and add up their gradients.

    Attributes:
        size: Images per part.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batch: int,
        part: int,
        aloud: Callable[[str], None],
        ranks: Ranks,
    ) -> None:
        self.size = min(part or batch, batch)
        self._batch, self._aloud, self._ranks = batch, aloud, ranks
        first, last = ranks.share(batch)
        self._rows = last - first
        self._buffers = list(moving_buffers(model).values())
        self._before = [buffer.clone() for buffer in self._buffers]

    def backward(
        self,
        loss: PartLoss,
        clear: Callable[[], None],
        weights: Sequence[torch.nn.Parameter],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The gradients of a batch's mean loss, in parts as small as memory asks for.

        Args:
            loss: (first, last) -> the loss of these images of this process's share of the batch.
            clear: Drops all gradients.
            weights: Whose gradients they are.

        Returns:
            The mean loss and the means of its named parts, scalars.

        Raises:
            RuntimeError: not even one image fits, or something else went wrong.
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
            clear()  # outside of the except, whose traceback holds on to activations
            self._halve()

    def _count(self) -> int:
        """Parts of a batch: no process may have one without an image."""
        return min(math.ceil(self._batch / self.size), self._batch // self._ranks.count)

    def _accumulate(
        self, loss: PartLoss, weights: Sequence[torch.nn.Parameter]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        total, means = torch.zeros(()), dict[str, torch.Tensor]()
        count = self._count()
        for number in range(count):
            first, last = (self._rows * k // count for k in (number, number + 1))
            terms = loss(first, last)
            share = (last - first) / self._batch  # 1.0 for a whole batch, which changes no bit
            part = terms.total.mean() * share
            part.backward()  # type: ignore[no-untyped-call]
            total = total.to(part.device) + part.detach()
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
        self._aloud(
            f"out of memory: a batch of {self._batch} is now taken in parts of {self.size} images, "
            "with the same result up to rounding; batch normalisation and other statistics over "
            "a batch see the parts"
        )
