"""Named settings, as tables of plain data; no torch.

A preset names a model and the settings that were found to work on each kind of device. A row
reads: what, on a CPU, on a GPU. ``gentool train NAME`` starts from these; flags, environment
and config file go over them.
"""

from dataclasses import dataclass

from gentool.config import Scalar
from gentool.registry import unknown_name


@dataclass(frozen=True)
class Preset:
    """One row: the model, and per kind of device its settings and model options."""

    model: str
    cpu: dict[str, Scalar]
    gpu: dict[str, Scalar]

    def settings(self, device_kind: str) -> dict[str, Scalar]:
        """Settings for ``cpu``, ``cuda`` or ``mps``."""
        return self.cpu if device_kind == "cpu" else self.gpu


def _row(images: int, batch: int, lr: float, width: int) -> dict[str, Scalar]:
    return {"images": images, "batch": batch, "lr": lr, "width": width}


# fmt: off
PRESETS: dict[str, Preset] = {
    #                                      images  batch     lr width              images  batch     lr width
    "gan":         Preset("gan",         _row(400_000, 64, 5e-4, 48), _row(3_000_000, 128, 5e-4, 128)),
    "vae":         Preset("vae",         _row(200_000, 64, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128)),
    "autoencoder": Preset("autoencoder", _row(200_000, 64, 1e-3, 48), _row(2_000_000, 128, 1e-3, 128)),
}
# fmt: on

LARGEST_SIDE = {"cpu": 64, "gpu": 128}  # largest side chosen unasked, per kind of device


def get_preset(name: str) -> Preset:
    """The preset called ``name``, or an error with the nearest name."""
    if name not in PRESETS:
        raise unknown_name("model", name, list(PRESETS), "gentool list")
    return PRESETS[name]


def largest_side(device_kind: str) -> int:
    """The largest side that ``train`` chooses unasked."""
    return LARGEST_SIDE["cpu" if device_kind == "cpu" else "gpu"]
