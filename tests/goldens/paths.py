"""Hashes of what every model family makes in a fixed sequence of short commands.

The commands are ``train`` (stopped half-way, then continued), ``sample``, ``reconstruct`` and
``interpolate``. Only the command line is used, so that the same file works with every version. As
a program it records what the installed gentool makes on this machine::

    python tests/goldens/paths.py recorded.json

To compare two versions on another kind of machine, run it with each version (``PYTHONPATH`` names
a checkout) and the same file: the second run prints what differs.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
import numpy as np
import torch
from conftest import SIDE, TINY, Finished, draw, gentool_command
from PIL import Image
from safetensors import safe_open

HERE = Path(__file__).parent
TOYS = HERE / "toys.zip"  # 96 images in two class folders
RECORDED = HERE / "recorded.json"
FAMILIES = (
    "gan", "dcgan", "sngan", "wgan-gp", "r3gan", "stylegan2", "fastgan", "vae", "vae-gan", "hvae",
    "vampvae", "beta-vae", "iwae", "autoencoder", "wae", "rae", "fsq", "vqvae",
)  # fmt: skip
OLD = HERE / "old"  # files that the code of 2026-11-28 wrote
OLD_MODELS = ("gan", "stylegan2", "vae", "hvae", "autoencoder", "vqvae")
OLD_RUNS = ("gan", "beta-vae")  # stopped after 32 of 64 images


def kind_of_machine() -> str:
    """What bytes depend on beside the code: torch, processor, instructions and threads."""
    vendor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        rows = (line.partition(":") for line in cpuinfo.read_text(errors="replace").splitlines())
        vendor = next((value.strip() for key, _, value in rows if "vendor" in key), vendor)
    capability = torch.backends.cpu.get_cpu_capability()
    release = torch.__version__.partition("+")[0]
    return f"torch {release}, {vendor} {capability}, {torch.get_num_threads()} threads"


def hash_of_model(path: Path) -> str:
    """Names, kinds and bytes of all tensors of a file; what its header says has no part."""
    digest = hashlib.sha256()
    with safe_open(path, "pt") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def hash_of_pictures(folder: Path) -> str:
    """The pixels of all pictures of a folder, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.png")):
        with Image.open(path) as image:
            digest.update(f"{image.size} {image.mode}".encode())
            digest.update(np.asarray(image).tobytes())
    return digest.hexdigest()[:16]


def run(code: int, *arguments: object) -> Finished:
    """A command that has to end with an exit code."""
    done = gentool_command(*arguments)
    assert done.code == code, done.err
    return done


def train(name: str, out: Path, images: int, *more: object, code: int = 0) -> None:
    """A tiny training."""
    run(code, "train", name, "--data", TOYS, "--out", out, "--images", images, *TINY, *more)


def use(run_folder: Path, place: Path) -> dict[str, str]:
    """Hashes of what a model makes."""
    for number in range(2):
        (place / "photos").mkdir(exist_ok=True)
        Image.fromarray(draw(number, SIDE)).save(place / "photos" / f"{number}.png")
    commands = {
        "sample": ("sample", run_folder, "-n", 4),
        "reconstruct": ("reconstruct", run_folder, place / "photos", "--steps", 2),
        "interpolate": ("interpolate", run_folder, "--seeds", "1,2", "--steps", 2),
    }
    found = {}
    for verb, words in commands.items():
        run(0, *words, "-o", place / verb)
        found[verb] = hash_of_pictures(place / verb)
    return found


def follow(name: str, place: Path) -> dict[str, str]:
    """Hashes of all that a family makes."""
    out = place / "run"
    train(name, out, 160, "--stop-after", 80, code=75)  # some families take 80 images a step
    train(name, out, 160)
    return {"train": hash_of_model(out / "model.safetensors"), **use(out, place)}


def follow_old_model(name: str, place: Path) -> dict[str, str]:
    """Hashes of what a file of before makes."""
    return use(OLD / f"{name}.safetensors", place)


def follow_old_run(name: str, place: Path) -> dict[str, str]:
    """Hash of what a run of before becomes when it goes on."""
    out = place / "run"
    shutil.copytree(OLD / f"{name}-run", out)
    train(name, out, 64)
    return {"train": hash_of_model(out / "model.safetensors")}


Follow = Callable[[str, Path], dict[str, str]]
PATHS: dict[str, tuple[Follow, str]] = {
    **{name: (follow, name) for name in FAMILIES},
    **{f"old model {name}": (follow_old_model, name) for name in OLD_MODELS},
    **{f"old run {name}": (follow_old_run, name) for name in OLD_RUNS},
}


def make(path: str) -> dict[str, str]:
    """Hashes of one path, in a folder of its own."""
    function, name = PATHS[path]
    with tempfile.TemporaryDirectory() as place:
        return function(name, Path(place))


def main() -> None:
    """Record every path, and say what differs from what was recorded for such a machine."""
    target = Path(sys.argv[1])
    known = json.loads(target.read_text()) if target.exists() else {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GENTOOL_CACHE"] = cache
        before, now = known.get(kind_of_machine(), {}), {}
        for path in PATHS:
            now[path] = make(path)
            same = before.get(path) in (None, now[path])
            print(path, "" if same else f"was {before[path]}", now[path], flush=True)
    target.write_text(json.dumps({**known, kind_of_machine(): now}, indent=1) + "\n")


if __name__ == "__main__":
    main()
