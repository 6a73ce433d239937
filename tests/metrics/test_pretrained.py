"""Pretrained extractors, with weights of the real format: loading, features, damaged files."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gentool.core.errors import UsageError
from gentool.metrics.pretrained import load_pretrained
from gentool.metrics.vit import Block, VisionTransformer

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights in the form that torch-fidelity publishes."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Unloaded(library.FeatureExtractorInceptionV3):  # type: ignore[misc, name-defined]
        def load_state_dict(self, *_: Any, **__: Any) -> None:
            """Keep the random weights."""

    folder = tmp_path_factory.mktemp("weights")
    torch.save({}, folder / "none.pth")
    torch.manual_seed(0)
    network = Unloaded("random", ["2048"], feature_extractor_weights_path=folder / "none.pth")
    path = folder / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def test_inception_gives_the_features_of_torch_fidelity(inception_weights: Path) -> None:
    from torch_fidelity.utils import create_feature_extractor

    extractor = load_pretrained("inception", inception_weights)
    assert (extractor.name, extractor.score, len(extractor.hash)) == ("inception", "FID", 12)
    found = extractor.features(IMAGES)
    peer = create_feature_extractor(
        "inception-v3-compat", ["2048"], cuda=False, verbose=False,
        feature_extractor_weights_path=str(inception_weights),
    )  # fmt: skip
    own = peer(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))[0]
    assert found.shape == (3, 2048)
    torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-5)


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.path, "it ran")


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_a_weights_file_never_runs_code(form: str, tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    sprung = tmp_path / "sprung"
    lie = tmp_path / "inception.pth"
    if form == "zip":
        torch.save({"weight": _Trap(sprung)}, lie)
        with zipfile.ZipFile(lie) as archive:
            assert any(b"it ran" in archive.read(name) for name in archive.namelist())
    else:
        lie.write_bytes(pickle.dumps(_Trap(sprung)))
    with pytest.raises(UsageError, match="the weights of inception"):
        load_pretrained("inception", lie)
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["inception", "dinov2"])
def test_foreign_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch_fidelity")
    path = tmp_path / "weights"
    for content in (b"", b"<html>", bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="the weights of") as caught:
            load_pretrained(name, path)
        assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"cls_token": torch.zeros(1, 1, 384)}, path)
    with pytest.raises(UsageError, match="DINOv2 ViT-B/14"):
        load_pretrained("dinov2", path)


def test_dinov2_loads_the_published_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = VisionTransformer()
    assert sum(p.numel() for p in network.parameters()) == 86_579_712  # less the mask token: 86.6 M
    path = tmp_path / "dino.safetensors"
    save_file({**network.state_dict(), "mask_token": torch.zeros(1, 768)}, path)
    extractor = load_pretrained("dinov2", path)
    assert extractor.score == "FD-dinov2"
    alone = extractor.features(IMAGES)
    assert alone.shape == (3, 768)
    torch.testing.assert_close(alone.norm(dim=1), torch.full((3,), 768**0.5), rtol=1e-3, atol=0)


def test_a_block_is_that_of_torch() -> None:
    """With layer scale at one, a pre-norm transformer layer as torch has it."""
    torch.manual_seed(0)
    ours = Block(32, 4)
    peer = nn.TransformerEncoderLayer(
        32, 4, 128, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    pairs = {
        "self_attn.in_proj_weight": "attn.qkv.weight", "self_attn.in_proj_bias": "attn.qkv.bias",
        "self_attn.out_proj.weight": "attn.proj.weight",
        "self_attn.out_proj.bias": "attn.proj.bias",
        "linear1.weight": "mlp.fc1.weight", "linear1.bias": "mlp.fc1.bias",
        "linear2.weight": "mlp.fc2.weight", "linear2.bias": "mlp.fc2.bias",
        "norm1.weight": "norm1.weight", "norm1.bias": "norm1.bias",
        "norm2.weight": "norm2.weight", "norm2.bias": "norm2.bias",
    }  # fmt: skip
    state = ours.state_dict()
    peer.load_state_dict({theirs: state[own] for theirs, own in pairs.items()})
    x = torch.randn(2, 7, 32)
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-5, atol=1e-5)


def test_position_embeddings_are_resized_only_when_they_must_be() -> None:
    network = VisionTransformer(width=16, depth=1, heads=2, patch=4, grid=5)
    nn.init.normal_(network.pos_embed)
    same = network.positions(torch.zeros(1, 3, 20, 20))
    assert same is network.pos_embed
    other = network.positions(torch.zeros(1, 3, 12, 16))
    assert other.shape == (1, 1 + 3 * 4, 16)
    assert torch.equal(other[:, 0], network.pos_embed[:, 0])
