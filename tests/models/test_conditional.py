"""Classes: a conditional model learns them, ``--class`` selects one, and the rest is unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, gentool_command
from PIL import Image

from gentool.checkpoint import load_model
from gentool.core.images import ImageShape, to_unit
from gentool.core.rng import Draw
from gentool.data import open_dataset
from gentool.inference.blocks import prior_blocks
from gentool.inference.interpolation import interpolate
from gentool.inference.latents import draw
from gentool.inference.sampling import sample_images
from gentool.models.base import Batch
from gentool.models.gan.model import GAN
from gentool.networks.dcgan import PROJECTION_SCALE, Discriminator

CPU = torch.device("cpu")


def _gan(classes: int = 3) -> GAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GAN(GAN.Config(width=8, latent_size=6), ImageShape(16, 16, 1), classes).eval()


def test_latents_end_in_one_hot_classes() -> None:
    model = _gan()
    latents = model.prior(np.arange(5), 0, torch.tensor([2, 0, 1, 1, 2]))
    assert latents.shape == (5, 9)
    assert latents[:, 6:].argmax(dim=1).tolist() == [2, 0, 1, 1, 2]
    assert torch.equal(latents[:, 6:].sum(dim=1), torch.ones(5))
    other = model.prior(np.arange(5), 0, torch.zeros(5, dtype=torch.int64))
    assert torch.equal(other[:, :6], latents[:, :6])  # the same z in every class


def test_classes_are_drawn_as_often_as_the_data_has_them() -> None:
    model = _gan()
    labels = torch.tensor([0] * 10 + [1] * 60 + [2] * 30)
    batch = Batch(torch.zeros(100, 1, 16, 16), labels)
    model.finish(lambda: iter([batch]))
    drawn = model.prior(np.arange(4000), 3)[:, 6:].mean(dim=0)
    torch.testing.assert_close(drawn, torch.tensor([0.1, 0.6, 0.3]), atol=0.03, rtol=0)


def test_the_projection_is_the_inner_product_with_the_class() -> None:
    torch.manual_seed(0)
    critic = Discriminator(ImageShape(16, 16, 3), 8, 4)
    images = torch.randn(5, 3, 16, 16)
    kinds = torch.eye(4)[[0, 3, 1, 1, 2]]
    features = critic.features(images)
    naive = torch.stack([
        critic.head(f)[0] + PROJECTION_SCALE * critic.vectors.weight[k.argmax()] @ f
        for f, k in zip(features, kinds, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(critic(images, kinds), naive)
    torch.testing.assert_close(critic(images, kinds.argmax(dim=1)), naive)


def test_fakes_claim_the_classes_of_the_batch() -> None:
    model = _gan()
    images, labels = torch.randn(6, 1, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    draw = Draw(0, "test", np.arange(6), 0, CPU)
    critic, *_ = model.phases()
    loss = critic.loss(Batch(images, labels), draw).total
    changed = critic.loss(Batch(images, labels.flip(0)), draw).total
    assert not torch.allclose(loss, changed)


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that nobody can confuse: dark and light."""
    folder = tmp_path_factory.mktemp("striped") / "tones"
    rng = np.random.default_rng(0)
    for number in range(128):
        kind, tone = ("dark", 40) if number % 2 else ("light", 210)
        path = folder / kind / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.full((16, 16), tone) + rng.integers(-20, 20, (16, 16))
        Image.fromarray(values.astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def run(striped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional GAN of the two."""
    out = tmp_path_factory.mktemp("runs") / "tones"
    done = gentool_command(
        "train", "gan", "--data", striped, "--out", out, "--images", 3200, *TINY,
        "--lr", 2e-3, "-o", "ema_images=500",
    )  # fmt: skip
    assert done.code == 0, done.err
    return out


def test_each_class_is_learned(run: Path) -> None:
    loaded = load_model(run)
    dark = sample_images(loaded, 32, class_name="dark").mean()
    light = sample_images(loaded, 32, class_name="light").mean()
    assert dark < 90 < 160 < light


def test_sample_class_all_is_a_sheet_of_the_same_latents(run: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "sample",
        run,
        "-n",
        3,
        "--class",
        "all",
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
        "--json",
    )
    files = json.loads(done.out)["files"]
    assert [Path(f).name for f in files] == [
        f"{kind}-seed000000-{k:06d}.png" for kind in ("dark", "light") for k in range(3)
    ]
    with Image.open(files[4]) as image:
        recipe = json.loads(image.info["gentool"])
    assert (recipe["class"], recipe["index"]) == ("light", 1)
    sheet = gentool_command(
        "sample", run, "-n", 3, "--class", "all", "-o", tmp_path / "s.png", "--device", "cpu"
    )
    with Image.open(sheet.lines[0]) as image:
        assert image.height == 2 * 18 - 2  # a row per class, with its name
        assert 20 < image.width - (3 * 18 - 2) < 60
    alone = gentool_command(
        "sample", run, "-n", 2, "--class", "light", "-o", tmp_path / "one", "--device", "cpu"
    )
    for line, other in zip(alone.lines, files[3:], strict=False):
        assert Path(line).read_bytes() == Path(other).read_bytes()


def test_interpolation_within_a_class_stays_in_it(run: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "interpolate", run, "--seeds", "0-3", "--class", "dark", "-o", tmp_path / "f.npz",
        "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert np.load(tmp_path / "f.npz")["images"].mean() < 90


def test_a_path_between_classes_mixes_their_shares(run: Path) -> None:
    loaded = load_model(run)
    rows = prior_blocks(loaded.model, [(seed, 0) for seed in range(20)])[:, -2:].argmax(dim=1)
    dark, light = int((rows == 0).nonzero()[0]), int((rows == 1).nonzero()[0])
    keys = draw(loaded.model, [(dark, 0), (light, 0)])
    frames = list(interpolate(loaded, keys, 8))
    tones = [frame.mean() for frame in frames]
    assert tones[0] < 90 < 160 < tones[-1]
    assert frames[4].shape == (16, 16, 1)


# A few codes, learned from the pixels alone, which is quick.
CODES = ["--images", 6400, "--lr", 1e-2, "-o", "features=0", "-o", "adversarial=0",
         "-o", "layers=1", "-o", "grid=2", "-o", "codes=16"]  # fmt: skip


QUICK = [
    ("vae", ["-o", "prior=mixture"]), ("autoencoder", ["-o", "prior=gaussian"]),
    ("fsq", CODES),
]  # fmt: skip
SLOW = [
    *(("vae", ["-o", f"prior={prior}"]) for prior in ("gaussian", "flow", "vamp")),
    ("autoencoder", ["-o", "prior=mixture"]),
    ("vae-gan", ["--images", 3200, "-o", "prior=mixture"]),
    ("vqvae", CODES),
]


@pytest.mark.parametrize(
    ("model", "more"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=lambda value: value if isinstance(value, str) else str(value[-1]),
)  # fmt: skip
def test_the_prior_of_an_autoencoder_knows_where_classes_lie(
    model: str, more: list[object], striped: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = gentool_command(
        "train", model, "--data", striped, "--out", run, "--images", 4800, *TINY, "--lr", 4e-3,
        "-o", "ema_images=500", *more,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "conditional on 2 classes" in done.err
    tones = []
    for kind in ("dark", "light"):
        drawn = gentool_command(
            "sample", run, "-n", 32, "--class", kind, "-o", tmp_path / kind / "x.npz",
            "--device", "cpu",
        )  # fmt: skip
        tones.append(np.load(drawn.lines[0])["images"].mean())
        path = gentool_command(
            "interpolate", run, "--seeds", "0-3", "--class", kind, "-o", tmp_path / kind / "f.npz",
            "--device", "cpu",
        )  # fmt: skip
        tones.append(np.load(path.lines[0])["images"].mean())
    assert max(tones[:2]) < 110 < 140 < min(tones[2:])
    mixed = [frame.mean() for frame in sample_images(load_model(run), 100)]
    assert 25 < sum(tone < 125 for tone in mixed) < 75


def test_a_prior_without_classes_leaves_the_model_without(striped: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "train", "vae", "--data", striped, "--out", tmp_path / "run", "--images", 64, *TINY,
        "-o", "prior=normal",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "the 2 classes are ignored: -o prior=normal " in done.err
    assert load_model(tmp_path / "run").model.classes == 0


def test_unconditional_takes_no_notice(striped: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "train", "gan", "--data", striped, "--out", tmp_path / "run", "--images", 64, *TINY,
        "--unconditional",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert load_model(tmp_path / "run").model.classes == 0
    refused = gentool_command("sample", tmp_path / "run", "--class", "dark")
    assert refused.code == 2
    assert "is not conditional" in refused.err
    assert refused.err.rstrip().endswith("Leave --class out")
    again = gentool_command(
        "train", "gan", "--data", striped, "--out", tmp_path / "run", "--images", 128, *TINY
    )
    assert again.code == 0, again.err
    assert "continuing with the settings of the run: --unconditional True (not False)" in again.err


def test_an_unknown_class_gets_its_nearest_name(run: Path) -> None:
    done = gentool_command("sample", run, "--class", "lihgt")
    assert done.code == 2
    assert "Did you mean 'light'?" in done.err


def test_inversion_finds_the_class_too(run: Path, striped: Path, tmp_path: Path) -> None:
    done = gentool_command(
        "reconstruct", run, striped / "dark" / "1.png", striped / "light" / "2.png",
        "--steps", 60, "-o", tmp_path / "sheet.png", "--json", "--device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["mean_psnr"] > 15


def test_the_batch_carries_its_labels(striped: Path) -> None:
    from gentool.training.batches import Feeder

    dataset = open_dataset(str(striped), "16")
    feeder = Feeder(dataset.whole, 5, 16, CPU)
    first = feeder.batch(0)
    assert first.labels is not None
    means = (first.images.mean(dim=(1, 2, 3)) > 0).long()
    assert torch.equal(means, first.labels)  # light is class 1
    assert feeder.batch(0) is first  # both players see one batch
    assert not torch.equal(feeder.batch(16).images, first.images)
    together = torch.cat([batch.images for batch in feeder.fixed(1000)])
    everything = to_unit(torch.from_numpy(np.array(dataset.images)))
    assert together.sum() == pytest.approx(everything.sum().item(), rel=1e-5)
