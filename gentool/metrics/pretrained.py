"""Pretrained feature extractors, the names of all extractors, and a check of their requirements.

``inception``: the Inception-v3 of the original FID, in the port of torch-fidelity (extra ``fid``)
with its weights file. ``dinov2``: the ViT-B/14 of DINOv2, from a safetensors file of the published
weights; or, only if a download is requested, through torch-fidelity and the code that the authors
of DINOv2 publish.

Weights cannot run code when they are read: torch.load is restricted to tensors.
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
_SIDE = 224  # of the input images of DINOv2, as in torch-fidelity
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_UNUSED = {"mask_token"}  # in the published file, but used only in training


class InceptionExtractor(Extractor):
    """The 2,048 pooled features of the original FID, in the exact port of torch-fidelity.

    Args:
        weights: Weights file of torch-fidelity, or None to let torch-fidelity download it.

    Raises:
        GentoolError: torch-fidelity is missing, or the weights cannot be downloaded.
        UsageError: The file does not hold these weights.
    """

    name, score = "inception", "FID"

    def __init__(self, weights: Path | None) -> None:
        super().__init__(_from_library("inception-v3-compat", "2048", weights))

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)[0]  # type: ignore[no-any-return]


class DownloadedDinoExtractor(Extractor):
    """The class token of DINOv2 from torch-fidelity, which downloads code and weights.

    Raises:
        GentoolError: torch-fidelity is missing, or the download failed.
    """

    name, score = "dinov2", "FD-dinov2"

    def __init__(self) -> None:
        super().__init__(_from_library("dinov2-vit-b-14", "dinov2", None))

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)[0]  # type: ignore[no-any-return]


class DinoExtractor(Extractor):
    """The class token (768 features) of DINOv2, with weights from a safetensors file.

    Args:
        weights: Safetensors file of the published weights of ViT-B/14.

    Raises:
        UsageError: It is not a safetensors file, or does not hold these weights.
    """

    name, score = "dinov2", "FD-dinov2"

    def __init__(self, weights: Path) -> None:
        network = VisionTransformer()
        try:
            tensors = {k: v for k, v in read_foreign(weights).items() if k not in _UNUSED}
            network.load_state_dict(tensors)
        except (ModelFileError, RuntimeError) as error:
            raise UsageError(
                f"{weights} does not contain the weights of DINOv2 ViT-B/14 as safetensors: "
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
    """Return the extractor ``inception`` or ``dinov2``; if ``weights`` is None, download them.

    Raises:
        GentoolError: torch-fidelity is missing, or the weights cannot be downloaded.
        UsageError: The file does not hold these weights.
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
        raise GentoolError(f"cannot download the weights of {name}: {error}") from error
    except Exception as error:  # torch raises many types of errors on files of other programs
        if weights is None:
            raise
        raise UsageError(
            f"{weights} does not contain the weights of {name}: {_first_line(error)}"
        ) from error
    return network


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Make torch.load read only tensors inside the block, even if its caller allows more."""
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
    """Check that the extractor ``name`` can be used.

    Args:
        name: Name of the extractor.
        labelled: Whether the images have classes.
        weights: Weights file of a pretrained extractor, or None.
        download: Whether weights may be downloaded.

    Raises:
        UsageError: ``name`` is unknown, its weights are neither given nor may be downloaded, or
            there is no file ``weights``.
        DataError: ``name`` is ``labels`` and the images have no classes.
    """
    if name not in EXTRACTORS:
        raise unknown_name("feature extractor", name, list(EXTRACTORS), "gentool evaluate --help")
    if name == "labels" and not labelled:
        raise DataError("--features labels needs images in class folders. Use --features random")
    if name in PRETRAINED and weights is None and not download:
        raise UsageError(
            f"--features {name} needs pretrained weights. Give --weights FILE, or --download to "
            "download them"
        )
    if weights is not None and not weights.is_file():
        raise UsageError(f"there is no file of weights at {weights}")
