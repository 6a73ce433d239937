"""Training in several processes: ``torchrun --nproc-per-node 4 -m gentool train gan --data X``.

Each process (rank) computes a share of the global batch; images, latents and noise are functions
of the sample's number, so the batch does not depend on how many processes there are. Gradients
are summed in one all-reduce per phase, each loss weighted by its share. Plain
``torch.distributed``, no wrapper: several networks and double backward stay as they are.

Statistics over a batch that enter a loss (batch normalisation, minibatch deviation, the images'
variance) are taken over all ranks and differentiated through, so one process and several agree
but for rounding. Running means (LeCam, ADA, path lengths, mean w) are averaged over ranks after
each phase: the same where they are linear in the batch. ADA's step of p is a sign and is not.

gloo on a CPU, nccl on CUDA. Only the first rank writes files and speaks. If a process goes, the
collective operations of the others fail at once and they leave; with ``torchrun --max-restarts``
all begin again from the last state.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gentool.errors import Stopped, UsageError

_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "Gloo", "NCCL", "Socket")


def is_first() -> bool:
    """Whether this process writes and speaks: there is one, or it is rank 0 under torchrun."""
    return int(os.environ.get("RANK", "0")) == 0 or "WORLD_SIZE" not in os.environ


class Ranks:
    """This process among those of the run; alone where there is no process group."""

    def __init__(self) -> None:
        here = dist.is_initialized()
        self.rank = dist.get_rank() if here else 0
        self.count = dist.get_world_size() if here else 1

    @property
    def first(self) -> bool:
        """Whether it is this process that writes."""
        return self.rank == 0

    def share(self, batch: int) -> tuple[int, int]:
        """First and last (exclusive) row of the global batch that this rank computes.

        Raises:
            UsageError: there are more processes than images.
        """
        if batch < self.count:
            raise UsageError(
                f"--batch {batch} cannot be shared by {self.count} processes; "
                f"use --batch {self.count} or more"
            )
        return batch * self.rank // self.count, batch * (self.rank + 1) // self.count

    def sum_gradients(self, weights: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over ranks, in one all-reduce."""
        if self.count > 1:
            _reduce_flat([p.grad for p in weights if p.grad is not None])

    @torch.no_grad()
    def average_buffers(self, model: nn.Module, share: float) -> None:
        """Running statistics of floating type become their mean over ranks, by share."""
        if self.count == 1:
            return
        buffers = [b for b in model.buffers() if b.is_floating_point() and b.numel()]
        for buffer in buffers:
            buffer.mul_(share)
        _reduce_flat(buffers)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any rank raises its flag; all get the same answer."""
        if self.count == 1:
            return flag
        flags = torch.tensor(float(flag), device=device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def agree(self, value: float, device: torch.device) -> float:
        """The first rank's value."""
        if self.count == 1:
            return value
        held = torch.tensor(value, dtype=torch.float64, device=device)
        dist.broadcast(held, 0)
        return float(held.item())


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started; alone without it.

    Raises:
        Stopped: another process has gone; the run goes on from its last state.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks()
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            message = "another process of this run has gone; the last state is whole"
            raise Stopped(message, interrupted=False) from error
        raise
    finally:
        dist.destroy_process_group()


def _reduce_flat(tensors: list[Tensor]) -> None:
    """Sum tensors over ranks in place."""
    if not tensors:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    parts = torch.split(flat, [t.numel() for t in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


class _SumOverRanks(torch.autograd.Function):
    """y = sum of x over ranks; so is its gradient, and that one's."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """The sum."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        """Every rank's loss depends on this rank's x."""
        return _SumOverRanks.apply(slope)  # type: ignore[no-any-return]


def batch_moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, float]:
    """Mean and variance (over n, not n - 1) over dims, and n, of the global batch."""
    several = dist.is_initialized()
    count = float(torch.tensor([x.shape[d] for d in dims]).prod())
    total = x.sum(dims)
    if several:
        joint = _SumOverRanks.apply(torch.cat([total.flatten(), total.new_tensor([count])]))
        total, count = joint[:-1].view_as(total), float(joint[-1].detach())
    mean = total / count
    squares = (x - _spread(mean, x, dims)).square().sum(dims)
    if several:
        squares = _SumOverRanks.apply(squares)
    return mean, squares / count, count


def batch_variance(x: Tensor) -> Tensor:
    """The variance of x (B, ...) over the global batch, over B and not B - 1; differentiable."""
    return batch_moments(x, (0,))[1] if dist.is_initialized() else x.var(dim=0, correction=0)


def _spread(value: Tensor, x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return value.reshape([1 if d in dims else n for d, n in enumerate(x.shape)])


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015) with the statistics of the global batch.

    Unlike ``nn.SyncBatchNorm`` it works on a CPU and can be differentiated twice.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training:
            return super().forward(x)
        dims = (0, 2, 3)
        wide = x.float()
        mean, variance, count = batch_moments(wide, dims)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                # Without momentum it is a plain mean over all batches.
                rate = self.momentum or 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(variance * count / max(count - 1, 1), rate)
        scale = (variance + self.eps).rsqrt()
        y = (wide - _spread(mean, x, dims)) * _spread(scale, x, dims)
        if self.affine:
            y = y * _spread(self.weight, x, dims) + _spread(self.bias, x, dims)
        return y.to(x.dtype)


def share_statistics(model: nn.Module) -> None:
    """Make batch normalisation see the global batch, in place, where there are several ranks."""
    if dist.is_initialized():
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm2d
