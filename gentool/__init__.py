"""gentool turns a folder of images into a generative model.

Two lines from Python, the same as ``gentool train`` and ``gentool sample`` do::

    from gentool import load_model, sample_images
    images = sample_images(load_model("model.safetensors"), count=64, seed=0)

Public names are loaded on first use (PEP 562), so importing this package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gentool.core.version import __version__ as __version__

if TYPE_CHECKING:
    from gentool.checkpoint import load_model
    from gentool.core.errors import GentoolError
    from gentool.data import open_dataset
    from gentool.inference.sampling import sample_images
    from gentool.training.loop import train

__all__ = ["GentoolError", "load_model", "open_dataset", "sample_images", "train"]

_HOMES = {
    "GentoolError": "gentool.core.errors",
    "load_model": "gentool.checkpoint",
    "open_dataset": "gentool.data",
    "sample_images": "gentool.inference.sampling",
    "train": "gentool.training.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gentool' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
