"""Training in several processes: ``torchrun --nproc-per-node 4 -m gentool train gan --data X``.

Each process (rank) computes a share of the global batch; images, latents and noise are functions
of the sample's number, so the batch does not depend on how many processes there are. Gradients
are summed in one all-reduce per phase, each loss weighted by its share. Plain
``torch.distributed``, no wrapper: several networks and double backward stay as they are.

Statistics over a batch (batch normalisation, minibatch deviation, the images' variance, running
means, codebooks) are taken over all ranks, and differentiated through where they enter a loss. So
one process and several agree but for rounding, and all ranks hold the same weights: what is not
finite for one is not finite for all. Regularisers that compare images see a rank's share.

gloo on a CPU, nccl on CUDA. Only the first rank writes files and speaks. If a process goes, the
collective operations of the others fail at once and they leave; with ``torchrun --max-restarts``
all begin again from the last state.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from gentool.core.errors import DeviceError, Stopped, UsageError

_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "Gloo", "NCCL", "Socket")
_Value = TypeVar("_Value", bool, float)
_STARTING = datetime.timedelta(minutes=5)
_PATIENCE = datetime.timedelta(hours=6)  # images are prepared by the first rank alone


class OthersOutOfMemory(RuntimeError):
    """Another rank ran out of memory, so this step begins anew here, too."""


class Ranks:
    """This process among those of the run; alone where there is no process group.

    All methods but ``share`` must be called by all ranks, in the same order.
    """

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
                f"--batch {batch} cannot be shared by {self.count} processes. "
                f"Use --batch {self.count} or more"
            )
        return batch * self.rank // self.count, batch * (self.rank + 1) // self.count

    @torch.no_grad()
    def sum(self, tensors: list[Tensor]) -> None:
        """Sum tensors over ranks, in place and in one all-reduce.

        Raises:
            OthersOutOfMemory: another rank has not come so far.
        """
        if self.count == 1 or not tensors:
            return
        device = tensors[0].device
        flat = torch.cat([t.flatten().to(device) for t in tensors])
        _all_reduce(flat)
        parts = torch.split(flat, [t.numel() for t in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def tell_out_of_memory(self) -> None:
        """Make the others raise ``OthersOutOfMemory`` where they wait for this rank."""
        if self.count > 1:
            _meet(out_of_memory=True)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any rank raises it."""
        if self.count == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return tuple(map(bool, raised.tolist()))

    def agree(self, value: _Value) -> _Value:
        """The first rank's value; returns when all have come."""
        if self.count == 1:
            return value
        held = torch.tensor(float(value) if self.first else 0.0, dtype=torch.float64)
        dist.all_reduce(held)
        return type(value)(held.item())

    def wait(self) -> None:
        """Return when all ranks have come."""
        self.any(False)

    @contextlib.contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first rank runs the block, and then the others do."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @contextlib.contextmanager
    def of_first(self, kind: type[Exception]) -> Iterator[None]:
        """An error of this kind in the first rank's block is raised in all."""
        fault: Exception | None = None
        try:
            yield
        except kind as error:
            fault = error
        (anywhere,) = self.any(fault is not None)
        if anywhere:
            raise fault or kind("the first process's numbers")

    @contextlib.contextmanager
    def only_first_speaks(self) -> Iterator[None]:
        """The other ranks' messages inside the block go nowhere; their errors go on."""
        with contextlib.ExitStack() as stack:
            if not self.first:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started; alone without it.

    Raises:
        DeviceError: more processes than GPUs, or a device that cannot be shared.
        Stopped: another process has gone; the run goes on from its last state.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
        yield Ranks()
        return
    if device.type == "mps":
        raise DeviceError("several processes cannot share an Apple GPU. Use --device cpu, or one")
    if device.type == "cuda":
        number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= count:
            raise DeviceError(f"more processes than GPUs ({count}). Use --nproc-per-node {count}")
        torch.cuda.set_device(number)
    # What is agreed lies on the CPU, where nobody waits for a GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, count = next(rendezvous("env://", timeout=_STARTING))
        # torchrun keeps the store, in which the addresses of those that have gone still stand.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt {attempt}", store)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE
        )
        yield Ranks()
        Ranks().wait()  # torchrun ends all when one ends badly; the first may still be saving
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            message = "another process of this run has gone; the last state is whole"
            raise Stopped(message, interrupted=False, wanted=False) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(*, out_of_memory: bool = False) -> None:
    """All ranks come to the same collective operation, or learn that one of them cannot."""
    flag = torch.tensor(int(out_of_memory))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    if flag.item() and not out_of_memory:
        raise OthersOutOfMemory("another process ran out of memory")


def _all_reduce(x: Tensor) -> None:
    """Sum over ranks, in place. Memory is taken before, so that no rank fails half-way."""
    _meet()
    dist.all_reduce(x)


class _SumOverRanks(torch.autograd.Function):
    """y = sum of x over ranks; so is its gradient, and that one's."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """The sum."""
        total = x.clone(memory_format=torch.contiguous_format)
        _all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        """Every rank's loss depends on this rank's x."""
        return _SumOverRanks.apply(slope)  # type: ignore[no-any-return]


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of x over ranks, differentiable; x where there is one."""
    return _SumOverRanks.apply(x) if dist.is_initialized() else x


@torch.no_grad()
def rows_of_all_ranks(x: Tensor) -> Tensor:
    """The rows of x (B, ...) of all ranks, the first rank's first; B need not be the same."""
    if not dist.is_initialized():
        return x
    rank = dist.get_rank()
    sizes = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=x.device)
    sizes[rank] = len(x)
    _all_reduce(sizes)
    end = int(sizes[: rank + 1].sum())
    joint = x.new_zeros(int(sizes.sum()), *x.shape[1:])
    joint[end - len(x) : end] = x
    _all_reduce(joint)
    return joint


@torch.no_grad()
def of_first_rank(x: Tensor) -> Tensor:
    """The first rank's x, which has the same shape in all."""
    if not dist.is_initialized():
        return x
    held = x.clone() if dist.get_rank() == 0 else torch.zeros_like(x)
    _all_reduce(held)
    return held


def batch_mean(x: Tensor) -> Tensor:
    """The mean of x (B, ...) over the global batch."""
    if not dist.is_initialized():
        return x.mean(dim=0)
    total = x.sum(dim=0)
    joint = sum_over_ranks(torch.cat([total.flatten(), total.new_tensor([len(x)])]))
    return joint[:-1].view_as(total) / joint[-1]


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
