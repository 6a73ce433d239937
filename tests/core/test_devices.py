"""Which precision and which kind of copy a device gets."""

import pytest
import torch

from gentool.core.devices import select_precision, to_device


@pytest.mark.parametrize(
    ("own", "wanted"), [(True, torch.bfloat16), (False, torch.float32)], ids=["own", "emulated"]
)
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    own: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return own or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert select_precision(torch.device("cuda")) == wanted


def test_a_tensor_that_is_there_already_is_not_copied() -> None:
    tensor = torch.arange(6.0)
    assert to_device(tensor, torch.device("cpu")) is tensor
