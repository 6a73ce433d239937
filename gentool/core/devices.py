"""Selection of the device and the precision, and the limits of each device.

Apple GPUs have no float64, and with channels_last they give wrong gradients without an error
(pytorch #175189). On a CPU, bfloat16 is faster only if the processor has instructions for it.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from gentool.core.errors import DeviceError, UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


def select_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; ``auto`` prefers cuda, then mps, then cpu.

    Raises:
        UsageError: ``name`` is not a kind of device.
        DeviceError: This machine does not have that device.
    """
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise UsageError(f"there is no device '{name}'. Choose from {', '.join(DEVICES)}, cuda:1")
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if kind == "auto":
        return torch.device(next(k for k, found in present.items() if found))
    if not present[kind]:
        here = ", ".join(k for k, found in present.items() if found)
        raise DeviceError(
            f"there is no {kind} device on this machine (found: {here}). Leave --device out"
        )
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device '{name}'. Write cpu, cuda, cuda:0 or mps") from error
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise DeviceError(f"there is no {name} on this machine; it has cuda:0 to cuda:{count - 1}")
    return device


def select_precision(device: torch.device, name: str = "auto") -> torch.dtype:
    """Return the dtype for autocast; weights and losses stay float32.

    ``auto`` depends only on what the hardware supports. It does not measure speed, so that the
    same command gives the same file.

    Raises:
        UsageError: ``name`` is not a precision.
    """
    if name not in PRECISIONS:
        raise UsageError(f"there is no precision '{name}'. Choose from {', '.join(PRECISIONS)}")
    if name != "auto":
        return torch.float32 if name == "float32" else torch.bfloat16
    if device.type == "cuda":
        # GPUs before compute capability 8.0 only emulate it, and cuDNN has no convolutions for it.
        own = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if own else torch.float32
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Return whether Linux lists bfloat16 instructions (AVX-512 or AMX) for this processor."""
    try:
        flags = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def memory_format(device: torch.device) -> torch.memory_format:
    """Return channels_last, which is faster; on Apple GPUs, where it is wrong, contiguous."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on ``device``, without waiting for it where this is safe.

    On CUDA a tensor of the CPU is copied from pinned memory, which torch keeps until the copy is
    over. On other devices a copy without waiting could read memory that is already released: on
    Apple GPUs this gives wrong numbers without an error (pytorch #189690).
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Allow only deterministic algorithms inside the block; this is slower on a GPU.

    An operation without a deterministic algorithm raises RuntimeError. On a CPU, the results of
    gentool are the same bit for bit without this.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first call
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
