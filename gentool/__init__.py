"""gentool turns a folder of images into a generative model.

From Python, with the names, defaults, files and errors of the command line::

    import gentool

    run = gentool.train("vae", data="photos/", minutes=10)
    model = gentool.load("runs/vae-photos")
    images = model.sample(64, seed=0)  # uint8 (64, H, W, C)

Public names are loaded when they are first used (PEP 562), so importing this package is quick.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gentool.core.version import __version__ as __version__

if TYPE_CHECKING:
    from gentool.api.evaluation import evaluate
    from gentool.api.model import Model, load
    from gentool.api.training import Run, train
    from gentool.core.errors import GentoolError
    from gentool.data import open_dataset

__all__ = ["GentoolError", "Model", "Run", "evaluate", "load", "open_dataset", "train"]

_HOMES = {
    "GentoolError": "gentool.core.errors",
    "Model": "gentool.api.model",
    "Run": "gentool.api.training",
    "evaluate": "gentool.api.evaluation",
    "load": "gentool.api.model",
    "open_dataset": "gentool.data",
    "train": "gentool.api.training",
}
# name of before -> (its module, what to use now)
_OLD = {
    "load_model": ("gentool.checkpoint", "gentool.load"),
    "sample_images": ("gentool.inference.sampling", "gentool.load(...).sample"),
}


def __getattr__(name: str) -> Any:
    if name in _OLD:
        home, now = _OLD[name]
        warnings.warn(f"gentool.{name} is deprecated; use {now}", DeprecationWarning, stacklevel=2)
    elif name in _HOMES:
        home = _HOMES[name]
    else:
        raise AttributeError(f"module 'gentool' has no attribute '{name}'")
    return getattr(import_module(home), name)
