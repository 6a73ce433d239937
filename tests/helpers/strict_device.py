"""A stand-in for a GPU: tensors without values that refuse what a GPU does badly or not at all.

Tensors of torch's device ``meta`` have a shape and a dtype, but no values. Inside
``StrictDevice``, an operation on them fails where a GPU would wait for the host, read memory that
may be released, or lack the dtype:

- the value of a tensor is read, or the shape of a result depends on values;
- a tensor is copied without waiting, which is safe only from pinned memory (``core/devices.py``);
- a result is float64, which Apple GPUs do not have;
- tensors of the host and of the device meet in one operation (numbers, tensors of shape (), may).
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")

_READS = {
    "aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::masked_select",
    "aten::nonzero", "aten::unique_dim", "aten::_unique2", "aten::bincount",
}  # fmt: skip
_COPIES = {"aten::_to_copy", "aten::copy_"}


class RefusedByDevice(Exception):
    """A GPU would wait, read released memory or fail here."""


class StrictDevice(TorchDispatchMode):
    """Fails at operations on the device ``meta`` that a GPU does badly or not at all.

    Args:
        reads: Names of operations that may wait for the device.

    Attributes:
        copied: Number of copies from the host.
    """

    def __init__(self, reads: frozenset[str] = frozenset()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.copied = 0
        self._refused = _READS - reads
        self._autocast = torch.autocast

    def __enter__(self) -> Self:
        """Begin to check; the device has no autocast, so that switching it off does nothing."""
        torch.autocast = _no_autocast  # type: ignore[assignment, misc]
        return super().__enter__()  # type: ignore[no-untyped-call, no-any-return]

    def __exit__(self, *error: object) -> None:
        """Stop checking."""
        torch.autocast = self._autocast  # type: ignore[misc]
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check one operation, then run it."""
        kwargs = kwargs or {}
        name = func.name().partition(".")[0]
        given = list(_tensors((args, kwargs)))
        on_device = [t for t in given if t.is_meta]
        if on_device and name in self._refused:
            raise RefusedByDevice(f"{name} waits for the device")
        if on_device and name == "aten::index":
            for index in _tensors(args[1]):
                if index.dtype in (torch.bool, torch.uint8):
                    raise RefusedByDevice(f"{name} by a mask waits for the device")
        if name in _COPIES:
            self._check_copy(name, given, args, kwargs)
        elif on_device and any(not t.is_meta and t.dim() for t in given):
            raise RefusedByDevice(f"{name} gets a tensor of the host")
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            if tensor.is_meta and tensor.dtype == torch.float64:
                raise RefusedByDevice(f"{name} gives float64")
        return result

    def _check_copy(self, name: str, given: Any, args: Any, kwargs: Any) -> None:
        if name == "aten::copy_":
            target, source = given[0].is_meta, given[1].is_meta
            waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        else:
            source = given[0].is_meta
            target = torch.device(kwargs.get("device") or given[0].device).type == "meta"
            waits = not kwargs.get("non_blocking", False)
        if source and not target:
            raise RefusedByDevice(f"{name} reads values of the device")
        if target and not source:
            self.copied += 1
            if not waits:
                raise RefusedByDevice(f"{name} does not wait, and the memory is not pinned")


@contextlib.contextmanager
def _no_autocast(device_type: str, *args: Any, enabled: bool = True, **more: Any) -> Iterator[None]:
    assert device_type != META.type or not enabled
    yield


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
