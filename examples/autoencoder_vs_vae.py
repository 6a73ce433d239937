"""Why the variational autoencoder exists: two models, the same networks, two-dimensional codes.

An autoencoder (Hinton and Salakhutdinov 2006) squeezes an image x into a code z and learns to
get x back. Nothing tells it where its codes should lie, so nobody knows which z to decode for a
new image: they may lie anywhere, at any scale, with holes between them. A variational
autoencoder (Kingma and Welling 2014, arXiv:1312.6114) maximises

    ELBO(x) = log p(x|z) - KL(q(z|x) || N(0, I)),

whose second term makes the codes of all images together nearly fill N(0, I): a draw from
N(0, I) is then a code like any other, and decodes to a digit, or in the holes that are left to
a blend of two.

The picture shows where the codes lie, and what the same draws from N(0, I) become in both
models: the autoencoder makes some of the digits only, those whose codes happen to lie around
the origin; the VAE makes all. Top right: a mixture of Gaussians fitted to the finished
autoencoder's codes, by which ``gentool sample`` makes a generator of it after all (Ghosh et al.
2020, arXiv:1903.12436). Bottom right: the VAE's decoder at points of the plane that are equally
likely under N(0, I), as in the paper's figure 4. Under each sheet stand the digits found among
many draws, each draw being called what its nearest image of the data is.

    python examples/autoencoder_vs_vae.py --out autoencoder_vs_vae.png
    python examples/autoencoder_vs_vae.py --images 10000

The runs stay in --runs: the same command again only draws, a larger --images goes on, and all
verbs work on them (gentool sample runs/autoencoder_vs_vae/vae -n 64).

Needs matplotlib (pip install 'gentool[examples]'); takes about two minutes on two CPU cores.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.checkpoint import load_model
from gentool.core.errors import GentoolError, exit_code_of
from gentool.core.images import Pixels
from gentool.core.options import from_json
from gentool.core.sheets import grid
from gentool.core.signals import StopFlag
from gentool.data import Dataset, open_dataset
from gentool.evaluation.quick_score import Score
from gentool.inference.blocks import decode_blocks, encode_blocks, prior_blocks
from gentool.models import MODELS
from gentool.models.base import Model
from gentool.models.priors import draw_normal
from gentool.training.loop import train
from gentool.training.settings import Settings
from gentool.training.setup import Setup

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(
        "this example draws with matplotlib: pip install 'gentool[examples]'"
    ) from error

SIDE = 10  # a sheet of samples is SIDE x SIDE
CODES = 3000  # images whose codes are drawn, and that samples are compared with
SAMPLES = 1000  # draws in which we look for each digit
RARE = 0.02  # a digit counts as made when this share of the draws look like it; 0.1 is even
CPU = torch.device("cpu")
NETWORKS: dict[str, object] = {"width": 16, "latent_size": 2, "ema_images": 2000}
OPTIONS = {
    "autoencoder": NETWORKS,
    "vae": {**NETWORKS, "likelihood": "bernoulli", "binarise": True, "prior": "normal"},
}
BATCH, RATE = 64, 2e-3


class Progress:
    """Told by ``train`` how it goes; one line on stderr now and then."""

    def __init__(self, name: str) -> None:
        self.name, self._share, self._said = name, 0.0, 0.0

    def resumed(self, images: int) -> None:
        """A run goes on."""
        print(f"{self.name}: going on at {images:,} images", file=sys.stderr)

    def progress(self, images: int, share: float) -> None:
        """After every step."""
        self._share = share

    def logged(self, record: dict[str, float]) -> None:
        """A line of the log: every tenth of the run is told."""
        if self._share < min(self._said + 0.1, 1.0):
            return
        self._said = self._share
        losses = "  ".join(f"{k} {record[k]:.4g}" for k in ("mse", "elbo", "kl") if k in record)
        print(f"{self.name}: {record['images']:,.0f} images  {losses}", file=sys.stderr)

    def scored(self, images: int, score: Score) -> None:
        """Nothing is scored here."""

    def saved(self, images: int) -> None:
        """Saves are not shown."""

    def warned(self, message: str) -> None:
        """Something to know."""
        print(f"{self.name}: {message}", file=sys.stderr)


@dataclass(frozen=True)
class Sheet:
    """Images decoded from latents, and which digits are among them."""

    title: str
    images: Pixels
    note: str


def train_model(name: str, dataset: Dataset, arguments: argparse.Namespace) -> Model:
    """Train, or go on with, one model; the averaged weights that its file holds."""
    settings = Settings(
        out=str(arguments.runs / name),
        size=f"{dataset.shape.height}x{dataset.shape.width}",
        mode=dataset.shape.mode,
        images=arguments.images,
        batch=BATCH,
        lr=RATE,
        seed=arguments.seed,
        device="cpu",
        precision="float32",
    )
    config = from_json(MODELS.get(name).Config, OPTIONS[name])
    setup = Setup(name, config, settings, started=time.monotonic())
    with StopFlag() as stop:
        result = train(dataset.split(0), setup, Progress(name), stop)
    return load_model(result.model_path).model


def equally_likely(side: int) -> torch.Tensor:
    """Points (side^2, 2) that cut N(0, I) into equal shares, top left first."""
    quantiles = torch.special.ndtri((torch.arange(side) + 0.5) / side)
    return torch.cartesian_prod(-quantiles, quantiles).flip(1)


def kinds_among(images: Pixels, data: Dataset) -> str:
    """Which digits the images show, by the label of the nearest image of the data."""
    x, y = (flatten(images), flatten(data.images[:CODES]))
    assert data.labels is not None
    labels = data.labels[torch.cdist(x, y).argmin(dim=1).numpy()]
    shares = np.bincount(labels, minlength=len(data.classes)) / len(labels)
    return " ".join(name for name, share in zip(data.classes, shares, strict=True) if share >= RARE)


def flatten(images: Pixels) -> torch.Tensor:
    """Images as float rows."""
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))


def make_sheet(title: str, model: Model, latents: torch.Tensor, data: Dataset) -> Sheet:
    """Decode many latents, see which digits are among them, show the first."""
    images = decode_blocks(model, latents)
    kinds = kinds_among(images, data)
    print(f"{title}: digits {kinds}")
    return Sheet(title, images[: SIDE * SIDE], f"digits among {len(images):,}: {kinds}")


def square_around(codes: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Limits of a square that shows nearly all codes and N(0, I) out to 3 sigma."""
    share = torch.tensor([0.002, 0.998])
    low, high = codes.quantile(share, dim=0)
    low, high = low.clamp(max=-3.0), high.clamp(min=3.0)
    half = 0.55 * float((high - low).max())
    x, y = ((low + high) / 2).tolist()
    return {"xlim": (x - half, x + half), "ylim": (y - half, y + half)}


def draw_codes(axes: Axes, title: str, codes: torch.Tensor, labels: NDArray[np.int64]) -> None:
    """Codes (N, 2) as points coloured by label, and where N(0, I) lies."""
    x, y = codes.numpy().T
    points = axes.scatter(x, y, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=5, lw=0)
    angle = np.linspace(0, 2 * np.pi, 200)
    for radius in (1, 2, 3):
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), "k-", lw=0.9)
    axes.set(title=title, aspect="equal", **square_around(codes))
    axes.locator_params(nbins=6)
    bar = axes.figure.colorbar(points, ax=axes, ticks=range(10), fraction=0.045, pad=0.02)
    bar.ax.tick_params(length=0)


def draw_sheet(axes: Axes, sheet: Sheet) -> None:
    """A sheet of images."""
    axes.imshow(grid(sheet.images, SIDE)[..., 0], cmap="gray", vmin=0, vmax=255)
    axes.set_title(sheet.title)
    axes.set_xlabel(sheet.note)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def make_sheets(autoencoder: Model, vae: Model, data: Dataset, seed: int) -> list[Sheet]:
    """The four sheets: per model, draws from N(0, I) and then what suits it better."""
    noise = draw_normal(np.arange(SAMPLES), seed, 2, CPU)  # the same draws for both
    fitted = prior_blocks(autoencoder, [(seed, k) for k in range(SAMPLES)])
    return [
        make_sheet("Autoencoder, z from N(0, I)", autoencoder, noise, data),
        make_sheet("Autoencoder, z from a fitted mixture", autoencoder, fitted, data),
        make_sheet("VAE, the same z from N(0, I)", vae, noise, data),
        make_sheet("VAE, equally likely z in order", vae, equally_likely(SIDE), data),
    ]


def draw(models: dict[str, Model], data: Dataset, seed: int, out: Path) -> None:
    """The whole picture."""
    assert data.labels is not None
    autoencoder, vae = models["autoencoder"], models["vae"]
    figure = Figure(figsize=(15, 10), layout="constrained")
    panels = figure.subplots(2, 3)
    left = zip(panels[:, 0], (autoencoder, vae), ("Autoencoder", "VAE"), strict=True)
    for axes, model, name in left:
        codes = encode_blocks(model, data.images[:CODES])
        draw_codes(axes, f"{name}: codes of {len(codes):,} digits", codes, data.labels[:CODES])
        spread = "standard deviations {:.2f} and {:.2f}".format(*codes.std(dim=0).tolist())
        axes.set_xlabel(f"{spread}; circles: N(0, I) at 1, 2, 3 sigma")
        print(f"{name}: codes have {spread}")
    sheets = make_sheets(autoencoder, vae, data, seed)
    for axes, sheet in zip(panels[:, 1:].flat, sheets, strict=True):
        draw_sheet(axes, sheet)
    figure.savefig(out, dpi=100)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("autoencoder_vs_vae.png"), help="the PNG")
    parser.add_argument("--images", type=int, default=100_000, help="images to train each model on")
    parser.add_argument("--digits", type=int, default=5000, help="how many different ones")
    parser.add_argument("--runs", type=Path, default=Path("runs/autoencoder_vs_vae"), help="folder")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train both, measure, draw."""
    arguments = parse_arguments()
    dataset = open_dataset(f"builtin:digits:{arguments.digits}")
    models = {name: train_model(name, dataset, arguments) for name in OPTIONS}
    draw(models, dataset, arguments.seed, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    try:
        main()
    except GentoolError as error:
        # What gentool's messages call --out is --runs here.
        print(f"error: {str(error).replace('--out', '--runs')}", file=sys.stderr)
        sys.exit(exit_code_of(error))
