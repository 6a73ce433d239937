"""Pretrained feature extractors, the table of all extractors, and which may be used when.

``inception``: Inception-v3 of the original FID through torch-fidelity (extra ``fid``), from its
own weights file. ``dinov2``: ViT-B/14, from a safetensors file of the published weights, or, only
when asked to download, through torch-fidelity and the code that its authors publish.

Weights are never unpickled: torch is told to read nothing but tensors.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from gentool.core.errors import DataError, GentoolError, ModelFileError, UsageError
from gentool.core.registry import unknown_name
from gentool.core.safetensors_io import read_foreign
from gentool.metrics.extractors import Extractor
from gentool.metrics.vit import VisionTransformer

EXTRACTORS = ("labels", "random", "inception", "dinov2")
PRETRAINED = ("inception", "dinov2")
_SIDE = 224  # of the images that DINOv2 sees here, as in torch-fidelity
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_UNUSED = {"mask_token"}  # in the published file, for training alone


class InceptionExtractor(Extractor):
    """The 2,048 pooled features that FID is defined by, in torch-fidelity's exact port.

    Args:
        weights: The library's file of weights, or None to let it fetch its own.
    """

    name, score = "inception", "FID"

    def __init__(self, weights: Path | None) -> None:
        super().__init__(_from_library("inception-v3-compat", "2048", weights))

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)[0]  # type: ignore[no-any-return]


class DownloadedDinoExtractor(Extractor):
    """DINOv2 through torch-fidelity, which fetches the code and the weights and runs them."""

    name, score = "dinov2", "FD-dinov2"

    def __init__(self) -> None:
        super().__init__(_from_library("dinov2-vit-b-14", "dinov2", None))

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)[0]  # type: ignore[no-any-return]


class DinoExtractor(Extractor):
    """DINOv2's class token, from a safetensors file.

    Args:
        weights: The published weights of ViT-B/14.

    Raises:
        UsageError: not a safetensors file, or not of these weights.
    """

    name, score = "dinov2", "FD-dinov2"

    def __init__(self, weights: Path) -> None:
        network = VisionTransformer()
        try:
            tensors = {k: v for k, v in read_foreign(weights).items() if k not in _UNUSED}
            network.load_state_dict(tensors)
        except (ModelFileError, RuntimeError) as error:
            raise UsageError(
                f"{weights} does not hold the weights of DINOv2 ViT-B/14 as safetensors: "
                f"{_first_line(error)}"
            ) from error
        super().__init__(network)

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        scaled = interpolate(
            images.float(), (_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True
        )
        mean, deviation = (
            torch.tensor(v, device=images.device).view(3, 1, 1) for v in (_MEAN, _DEVIATION)
        )
        return self.network((scaled / 255 - mean) / deviation)  # type: ignore[no-any-return]


def load_pretrained(name: str, weights: Path | None) -> Extractor:
    """The extractor called ``inception`` or ``dinov2``; without weights they are fetched.

    Raises:
        GentoolError: torch-fidelity is missing.
        UsageError: the file does not hold those weights.
    """
    if name == "inception":
        return InceptionExtractor(weights)
    return DownloadedDinoExtractor() if weights is None else DinoExtractor(weights)


def _from_library(name: str, layer: str, weights: Path | None) -> nn.Module:
    try:
        from torch_fidelity.utils import create_feature_extractor
    except ImportError as error:
        raise GentoolError(
            "these features need torch-fidelity. Install it: pip install 'gentool[fid]'"
        ) from error
    options: dict[str, Any] = {}
    if weights is not None:
        options["feature_extractor_weights_path"] = str(weights)
    try:
        with _tensors_only():
            network: nn.Module = create_feature_extractor(
                name, [layer], cuda=False, verbose=False, **options
            )
    except OSError as error:
        raise GentoolError(f"cannot fetch the weights of {name}: {error}") from error
    except Exception as error:  # whatever a foreign file makes the unpickler or torch say
        if weights is None:
            raise
        raise UsageError(
            f"{weights} does not hold the weights of {name}: {_first_line(error)}"
        ) from error
    return network


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Let torch.load read nothing but tensors, whatever its caller asks for."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def check_extractor(name: str, *, labelled: bool, weights: Path | None, download: bool) -> None:
    """Whether ``name`` can be used here.

    Raises:
        UsageError: no such extractor, or one whose weights are neither given nor asked for.
        DataError: ``labels`` without classes.
    """
    if name not in EXTRACTORS:
        raise unknown_name("feature extractor", name, list(EXTRACTORS), "gentool evaluate --help")
    if name == "labels" and not labelled:
        raise DataError("the labels features need class folders. Use --features random")
    if name in PRETRAINED and weights is None and not download:
        raise UsageError(
            f"the {name} features need pretrained weights: give --weights FILE, or --download to "
            "fetch them"
        )
    if weights is not None and not weights.is_file():
        raise UsageError(f"no weights at {weights}")
