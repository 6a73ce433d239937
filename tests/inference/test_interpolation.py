"""Interpolation: slerp keeps norms and speed; paths have the right frames and method."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import gentool_command
from PIL import Image

from gentool.checkpoint import load_model
from gentool.inference.blocks import decode_blocks, encode_blocks, prior_blocks
from gentool.inference.interpolation import lerp, path, slerp


def _pair(seed: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, size, generator=generator, dtype=torch.float64)
    return a, b


@pytest.mark.parametrize("seed", range(5))
def test_slerp_keeps_equal_norms_and_mixes_unequal_ones_evenly(seed: int) -> None:
    a, b = _pair(seed)
    for t in torch.linspace(0, 1, 11).tolist():
        expected = (1 - t) * a.norm() + t * b.norm()
        assert slerp(a, b, t).norm().item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_slerp_turns_by_equal_angles(seed: int) -> None:
    a, b = _pair(seed)
    frames = torch.stack([slerp(a, b, k / 8) for k in range(9)])
    unit = frames / frames.norm(dim=1, keepdim=True)
    angles = torch.arccos((unit[:-1] * unit[1:]).sum(dim=1))
    whole = torch.arccos((unit[0] * unit[-1]).sum())
    torch.testing.assert_close(angles, (whole / 8).expand(8))


@pytest.mark.parametrize("between", [lerp, slerp])
def test_ends_are_exact(
    between: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor],
) -> None:
    a, b = _pair(0)
    torch.testing.assert_close(between(a, b, 0.0), a)
    torch.testing.assert_close(between(a, b, 1.0), b)


def test_opposite_vectors_turn_without_shrinking() -> None:
    a, _ = _pair(0)
    for t in (0.0, 0.25, 0.5, 1.0):
        assert slerp(a, -a, t).norm().item() == pytest.approx(a.norm().item())
    torch.testing.assert_close(slerp(a, -a, 1.0), -a)


def test_parallel_and_zero_vectors_are_finite() -> None:
    a, b = _pair(0)
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), 1.5 * a)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    torch.testing.assert_close(slerp(torch.zeros_like(b), b, 0.5), 0.5 * b)


def test_a_straight_line_between_draws_falls_inside_the_sphere() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 10_000, generator=generator)
    assert (lerp(a, b, 0.5).norm() / a.norm()).item() == pytest.approx(math.sqrt(0.5), abs=0.02)


@pytest.mark.parametrize("method", ["lerp", "slerp"])
@pytest.mark.parametrize(("keys", "steps"), [(2, 1), (2, 16), (4, 5)])
def test_a_path_passes_its_keys(method: str, keys: int, steps: int) -> None:
    latents = torch.randn(keys, 3, 4, generator=torch.Generator().manual_seed(0))
    open_path = path(latents, steps, method, loop=False)
    assert open_path.shape == ((keys - 1) * steps + 1, 3, 4)
    torch.testing.assert_close(open_path[::steps], latents)
    loop = path(latents, steps, method, loop=True)
    assert loop.shape == (keys * steps, 3, 4)
    torch.testing.assert_close(loop[::steps], latents)
    assert not torch.allclose(loop[-1], loop[0]) or steps == 1  # the loop closes by repeating


# --- what suits which key frames ----------------------------------------------------------------


def interpolated(out: Path, *words: object) -> list[Path]:
    """Frames that the command makes, as files."""
    done = gentool_command("interpolate", *words, "--steps", 2, "-o", out)
    assert done.code == 0, done.err
    return [Path(line) for line in done.lines]


def method_of(frame: Path) -> object:
    """As the recipe has it."""
    with Image.open(frame) as image:
        return json.loads(image.info["gentool"])["method"]


@pytest.mark.parametrize("name", ["vae", "vae-gan", "hvae"])
def test_from_a_posterior_mean_the_way_is_a_line_and_between_draws_an_arc(
    name: str, trained: Callable[[str], Path], image_folder: Path, tmp_path: Path
) -> None:
    run = trained(name)
    photos = [image_folder / "bar" / "001.png", image_folder / "disc" / "002.png"]
    words = (run, *photos, "--seeds", "1,2", "--loop")
    frames = interpolated(tmp_path / "frames", *words)
    assert method_of(frames[0]) == ["lerp", "lerp", "slerp", "lerp"]
    loaded = load_model(run)
    means = encode_blocks(loaded.model, np.stack([np.array(Image.open(p)) for p in photos]))
    draws = prior_blocks(loaded.model, [(1, 0), (2, 0)])
    halfway = torch.stack([lerp(means[0], means[1], 0.5), lerp(means[1], draws[0], 0.5)])
    arc = draws.clone()
    numbers = draws.shape[1] - loaded.model.latent_classes  # shares of classes follow
    arc[0, :numbers] = slerp(draws[0, :numbers], draws[1, :numbers], 0.5)
    arc[0, numbers:] = draws[:, numbers:].mean(dim=0)
    wanted = decode_blocks(loaded.model, torch.cat([halfway, arc[:1]]))
    for frame, image in zip(frames[1::2], wanted, strict=False):
        np.testing.assert_array_equal(np.array(Image.open(frame)), image)


def test_kept_latents_remember_whether_they_are_means(
    vae: Path, image_folder: Path, tmp_path: Path
) -> None:
    photos = [image_folder / "bar" / "001.png", image_folder / "disc" / "002.png"]
    for more, method in (((), "lerp"), (("--draw",), "slerp")):
        kept = tmp_path / f"{method}.safetensors"
        done = gentool_command(
            "reconstruct", vae, *photos, *more, "--save-latents", kept,
            "-o", tmp_path / f"{method}.png",
        )  # fmt: skip
        assert done.code == 0, done.err
        assert method_of(interpolated(tmp_path / method, vae, kept)[0]) == method


def test_photos_in_a_spherical_prior_without_posteriors_go_by_arcs(
    gan: Path, image_folder: Path, tmp_path: Path
) -> None:
    photos = [image_folder / "bar" / "001.png", image_folder / "disc" / "002.png"]
    assert method_of(interpolated(tmp_path / "gan", gan, *photos)[0]) == "slerp"
