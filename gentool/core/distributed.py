"""Training in several processes: ``torchrun --nproc-per-node 4 -m gentool train gan --data X``.

Each process (rank) computes some rows of the global batch. Images, latents and noise are functions
of the sample index, so the global batch does not depend on the number of processes. Gradients are
summed in one all-reduce per phase; the loss of a rank is weighted by its fraction of the batch.
This uses plain ``torch.distributed`` without a module wrapper, so that a model may have several
networks and may use double backward.

Statistics over a batch (batch normalisation, minibatch deviation, the images' variance, running
means, codebooks) are computed over all ranks, and are differentiable where they enter a loss. So
one process and several give the same result except for rounding, and all ranks hold the same
weights: if a value is not finite on one rank, it is not finite on all. The exception is
regularisers that compare images: they see only the rows of one rank.

The back-end is gloo on a CPU and nccl on CUDA. Only the first rank writes files and prints. If a
process ends early, the collective operations of the other ranks fail at once, and these processes
exit; with ``torchrun --max-restarts`` all processes start again from the last state.
"""

import contextlib
import datetime
import itertools
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from gentool.core.errors import DeviceError, Stopped, UsageError

# Parts of the messages of errors that mean a lost connection.
_GROUPS = itertools.count()  # of processes that this process has joined
_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "Gloo", "NCCL", "Socket")
_Value = TypeVar("_Value", bool, float)
_STARTING = datetime.timedelta(minutes=5)  # timeout until all ranks have joined
_PATIENCE = datetime.timedelta(hours=6)  # long: the others wait while the first prepares images


class OthersOutOfMemory(RuntimeError):
    """Another rank ran out of memory, so this rank must repeat the step, too."""


class Ranks:
    """The rank of this process and the operations between ranks.

    Without a process group there is one rank. ``share`` and ``only_first_speaks`` do not
    communicate. All ranks must call the other methods in the same order, except
    ``tell_out_of_memory``, which one rank calls in place of an all-reduce.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    def __init__(self) -> None:
        here = dist.is_initialized()
        self.rank = dist.get_rank() if here else 0
        self.count = dist.get_world_size() if here else 1

    @property
    def first(self) -> bool:
        """Whether this process is the first rank, which writes the files."""
        return self.rank == 0

    def share(self, batch: int) -> tuple[int, int]:
        """Return the first and last (exclusive) row of the global batch for this rank.

        Raises:
            UsageError: There are more processes than images in the batch.
        """
        if batch < self.count:
            raise UsageError(
                f"--batch {batch} is too small for {self.count} processes. "
                f"Use --batch {self.count} or more"
            )
        return batch * self.rank // self.count, batch * (self.rank + 1) // self.count

    @torch.no_grad()
    def sum(self, tensors: list[Tensor]) -> None:
        """Sum tensors over ranks, in place and in one all-reduce.

        Raises:
            OthersOutOfMemory: Another rank ran out of memory before this sum.
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
        """Make the other ranks raise ``OthersOutOfMemory`` in the all-reduce where they wait."""
        if self.count > 1:
            _meet(out_of_memory=True)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether it is true on any rank."""
        if self.count == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return tuple(map(bool, raised.tolist()))

    def agree(self, value: _Value) -> _Value:
        """Return the first rank's value on all ranks, after all of them have called this."""
        if self.count == 1:
            return value
        held = torch.tensor(float(value) if self.first else 0.0, dtype=torch.float64)
        dist.all_reduce(held)
        return type(value)(held.item())

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        self.any(False)

    @contextlib.contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Run the block on the first rank, and then on the others."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @contextlib.contextmanager
    def of_first(self, kind: type[Exception]) -> Iterator[None]:
        """Raise an error of this kind on all ranks if the block raises it on one of them.

        It is meant for blocks in which only the first rank works.
        """
        fault: Exception | None = None
        try:
            yield
        except kind as error:
            fault = error
        (anywhere,) = self.any(fault is not None)
        if anywhere:
            raise fault or kind(
                "another process failed; the output of the first process gives the reason"
            )

    @contextlib.contextmanager
    def only_first_speaks(self) -> Iterator[None]:
        """Discard what the other ranks print to stderr inside the block; exceptions pass."""
        with contextlib.ExitStack() as stack:
            if not self.first:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started; without torchrun there is one rank.

    Raises:
        DeviceError: There are more processes than GPUs, or the device cannot be shared.
        Stopped: Another process has ended; the run can continue from its last state.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
        yield Ranks()
        return
    if device.type == "mps":
        raise DeviceError("an Apple GPU serves only one process. Use --device cpu, or one process")
    if device.type == "cuda":
        number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= count:
            raise DeviceError(
                f"there are more processes than GPUs ({count}). Use --nproc-per-node {count}"
            )
        torch.cuda.set_device(number)
    # gloo beside nccl: flags and agreed values are CPU tensors, so that no rank waits for a GPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, count = next(rendezvous("env://", timeout=_STARTING))
        # After a restart torchrun's store still holds the addresses of processes that have ended,
        # so each attempt uses its own prefix, and so does each group of one process.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt {attempt}, group {next(_GROUPS)}", store)
        dist.init_process_group(
            backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE
        )
        yield Ranks()
        Ranks().wait()  # the first rank may still be saving, and an exit with an error ends all
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            message = "another process of this run has ended; the last saved state is complete"
            raise Stopped(message, interrupted=False, wanted=False) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _meet(*, out_of_memory: bool = False) -> None:
    """Check, before a collective operation, that no rank has run out of memory.

    Raises:
        OthersOutOfMemory: Another rank has.
    """
    flag = torch.tensor(int(out_of_memory))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    if flag.item() and not out_of_memory:
        raise OthersOutOfMemory("another process ran out of memory")


def _all_reduce(x: Tensor) -> None:
    """Sum x over ranks, in place. Allocate before the call, so that no rank fails half-way."""
    _meet()
    dist.all_reduce(x)


class _SumOverRanks(torch.autograd.Function):
    """The sum of x over ranks. Its gradient and its second derivative are such sums, too."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """Return the sum of x over ranks."""
        total = x.clone(memory_format=torch.contiguous_format)
        _all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        """Sum the gradient over ranks, because every rank's loss depends on this rank's x."""
        return _SumOverRanks.apply(slope)  # type: ignore[no-any-return]


def sum_over_ranks(x: Tensor) -> Tensor:
    """Return the sum of x over ranks, differentiable; without a process group return x."""
    return _SumOverRanks.apply(x) if dist.is_initialized() else x


@torch.no_grad()
def rows_of_all_ranks(x: Tensor) -> Tensor:
    """Return the rows of x (B, ...) of all ranks in rank order; B may differ between ranks."""
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
    """Return the first rank's x, which must have the same shape on all ranks."""
    if not dist.is_initialized():
        return x
    held = x.clone() if dist.get_rank() == 0 else torch.zeros_like(x)
    _all_reduce(held)
    return held


def batch_mean(x: Tensor) -> Tensor:
    """Return the mean of x (B, ...) over the global batch, differentiable."""
    if not dist.is_initialized():
        return x.mean(dim=0)
    total = x.sum(dim=0)
    joint = sum_over_ranks(torch.cat([total.flatten(), total.new_tensor([len(x)])]))
    return joint[:-1].view_as(total) / joint[-1]


def batch_moments(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, float]:
    """Return mean, variance and count n over ``dims`` of the global batch; differentiable.

    The variance is divided by n, not n - 1.
    """
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
    """Return the variance of x (B, ...) over the global batch; differentiable.

    It is divided by the global batch size B, not by B - 1.
    """
    return batch_moments(x, (0,))[1] if dist.is_initialized() else x.var(dim=0, correction=0)


def _spread(value: Tensor, x: Tensor, dims: tuple[int, ...]) -> Tensor:
    return value.reshape([1 if d in dims else n for d, n in enumerate(x.shape)])


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015) with the statistics of the global batch.

    Unlike ``nn.SyncBatchNorm``, it works on a CPU and can be differentiated twice.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, H, W); the shape and dtype stay the same."""
        if not self.training:
            return super().forward(x)
        dims = (0, 2, 3)
        wide = x.float()
        mean, variance, count = batch_moments(wide, dims)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                # With momentum None the running statistics are plain means over all batches.
                rate = self.momentum or 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(variance * count / max(count - 1, 1), rate)
        scale = (variance + self.eps).rsqrt()
        y = (wide - _spread(mean, x, dims)) * _spread(scale, x, dims)
        if self.affine:
            y = y * _spread(self.weight, x, dims) + _spread(self.bias, x, dims)
        return y.to(x.dtype)


def share_statistics(model: nn.Module) -> None:
    """Make batch normalisation use the global batch, in place, if there is a process group."""
    if dist.is_initialized():
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm2d
