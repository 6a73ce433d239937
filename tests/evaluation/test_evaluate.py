"""``gentool evaluate``, ``--holdout`` and ``--score-every``, end to end on tiny models."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, draw, gentool_command, write_images
from PIL import Image

from gentool.checkpoint import LoadedModel, load_model, read_file
from gentool.core.images import ImageShape, to_unit
from gentool.core.rng import Draw
from gentool.data import Subset, open_dataset
from gentool.data.sources.stacked_digits import Modes, read_modes
from gentool.evaluation.evaluate import evaluate
from gentool.evaluation.latent_use import Scores, score_codes, score_units
from gentool.evaluation.metric_choice import METRICS, OF_FEATURES
from gentool.evaluation.outliers import bounds
from gentool.evaluation.reference import make_reference
from gentool.evaluation.request import Request
from gentool.evaluation.scores import (
    neighbour_sheet,
    sampled,
    score_gap,
    score_likelihood,
    score_reconstruction,
    score_samples,
)
from gentool.inference.blocks import encode_blocks
from gentool.inference.latents import of_images
from gentool.inference.reconstruction import reconstruct
from gentool.metrics.extractors import RandomExtractor
from gentool.models.capabilities import required_likelihood
from gentool.models.likelihoods.continuous import Gaussian
from gentool.models.quantised.model import QuantisedAutoencoder
from gentool.models.vae.model import VAE
from gentool.models.vae.vdvae import HierarchicalVAE


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 images in two class folders."""
    return write_images(tmp_path_factory.mktemp("toys") / "toys", 240)


@pytest.fixture(scope="module")
def run(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VAE that kept a quarter out and was scored while it trained."""
    out = tmp_path_factory.mktemp("runs") / "vae"
    done = gentool_command(
        "train", "vae", "--data", toys, "--out", out, "--images", 640, "--holdout", 0.25,
        "--score-every", 200, *TINY,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "scored at" in done.err
    return out


def _scores(*arguments: object) -> Any:
    done = gentool_command("evaluate", "-n", 120, *arguments, "--device", "cpu", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_a_model_is_scored_on_images_it_kept_out(run: Path, toys: Path) -> None:
    answer = _scores(run, "--data", toys, "--features", "random", "--importance", 5)
    protocol, (row,) = answer["protocol"], answer["scores"]
    assert protocol["split"] == "held-out"
    assert protocol["reference"] == len(open_dataset(str(toys)).split(0.25)[1])
    assert len(protocol["features_hash"]) == 12
    names = (
        "FD-random", "FD-random +-", "FD-random-inf", "kernel", "kernel +-", "precision", "recall",
        "density", "coverage", "memorisation", "mse", "psnr", "psnr +-", "ssim", "elbo", "iw-5",
        "bits/dim", "kl", "active units", "FD-random reconstructed", "prior gap",
    )  # fmt: skip
    assert set(names) <= set(row)
    assert row["FD-random reconstructed"] + row["prior gap"] == pytest.approx(row["FD-random"])
    assert any("fewer images than" in note for note in row["notes"])


def test_a_folder_of_the_samples_scores_as_the_model_does(
    run: Path, toys: Path, tmp_path: Path
) -> None:
    made = gentool_command("sample", run, "-n", 120, "-o", tmp_path / "made", "--device", "cpu")
    assert made.code == 0
    answer = _scores(
        run, tmp_path / "made", "--data", toys, "--features", "random", "--split", "all",
        "--metrics", "frechet,kernel,overlap",
    )  # fmt: skip
    model, folder = answer["scores"]
    for name in ("FD-random", "kernel", "precision", "coverage"):
        assert folder[name] == pytest.approx(model[name], rel=1e-9)


def test_the_images_themselves_score_perfectly(toys: Path) -> None:
    answer = _scores(toys, "--data", toys, "--features", "random", "-n", 240)
    (row,) = answer["scores"]
    assert row["precision"] > 0.95
    assert row["FD-random"] < 1e-6


def test_class_folders_give_features_of_their_own(toys: Path, own_cache: Path) -> None:
    request = Request((toys,), (str(toys),), ("frechet",), count=100)
    found = evaluate(request, lambda: None)
    assert found.protocol["features"] == "labels"
    assert "FD-labels" in found.table[0].values
    kept = {p.name.split("-")[0] for p in own_cache.iterdir()}
    assert {"classifier", "features"} <= kept
    again = evaluate(request, lambda: None)
    assert again.table[0].values == found.table[0].values
    assert again.protocol == found.protocol


def test_the_picture_of_neighbours_shows_samples_and_training_images(
    run: Path, toys: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "near.png"
    _scores(run, "--data", toys, "--features", "random", "--neighbours", picture)
    with Image.open(picture) as image:
        assert image.width == 8 * 18 - 2
        assert 30 < image.height - (6 * 18 - 2) < 80  # "nearest 1" read from below


def test_neighbours_of_a_sample_do_not_depend_on_the_others(toys: Path) -> None:
    dataset = open_dataset(str(toys))
    some, two, none = (Subset(dataset, np.arange(count)) for count in (40, 2, 0))
    reference = make_reference(RandomExtractor(), some, none)
    sheet = neighbour_sheet(dataset.images[[50, 50]], reference)
    np.testing.assert_array_equal(sheet[:, : 4 * 18 - 2], sheet[:, 4 * 18 :])
    few = make_reference(RandomExtractor(), two, none)
    assert neighbour_sheet(dataset.images[:3], few).shape[1] == 6 * 18 - 2


def test_every_reconstruction_has_a_line_that_reconstruct_confirms(
    run: Path, toys: Path, tmp_path: Path
) -> None:
    answer = _scores(
        run, "--data", toys, "--features", "random", "--metrics", "reconstruction",
        "--per-image", tmp_path / "images.csv",
    )  # fmt: skip
    with (tmp_path / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(open_dataset(str(toys)).split(0.25)[1])
    assert answer["scores"][0]["psnr"] == pytest.approx(
        np.mean([float(row["psnr"]) for row in rows])
    )
    done = gentool_command(
        "reconstruct", run, *(toys / row["image"] for row in rows[:5]), "--json",
        "-o", tmp_path / "sheet.png", "--device", "cpu",
    )  # fmt: skip
    for line, row in zip(json.loads(done.out)["images"], rows, strict=False):
        for name in ("mse", "psnr", "ssim"):
            assert line[name] == pytest.approx(float(row[name]), rel=1e-6)


def test_too_few_images_are_no_score(toys: Path, tmp_path: Path) -> None:
    few = write_images(tmp_path / "few", 19)
    done = gentool_command("evaluate", few, "--data", toys, "--features", "random")
    assert done.code == 3
    assert "few holds 19 images" in done.err
    assert "at least 20" in done.err


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("count", "images"), [(1, 240), (5, 240), (120, 1), (120, 2), (120, 9)])
def test_few_samples_or_images_are_a_score_or_an_error_in_words(
    metric: str, count: int, images: int, vae: Path, toys: Path, tmp_path: Path
) -> None:
    data = toys if images == 240 else write_images(tmp_path / "few", images)
    done = gentool_command(
        "evaluate", vae, "--data", data, "-n", count, "--metrics", metric, "--json",
        "--device", "cpu", "--importance", 2,
    )  # fmt: skip
    if metric in ("memorisation", "modes"):  # neither has a figure of any number of these images
        why = "--holdout 0.1" if metric == "memorisation" else "builtin:modes"
        assert done.code == 2
        assert why in done.err
        return
    if metric in OF_FEATURES:
        few = f"-n is {count}" if count < 20 else f"few has {images}"
        assert done.code == (2 if count < 20 else 3)
        assert f"{metric}: at least 20 samples" in done.err
        assert few in done.err
        assert "--metrics reconstruction,likelihood" in done.err
        return
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)["scores"]
    assert np.isfinite(row["psnr" if metric == "reconstruction" else "elbo"])


@pytest.mark.parametrize("images", [1, pytest.param(5, marks=pytest.mark.slow), 20])
def test_what_few_images_do_not_tell_is_left_out_aloud(
    images: int, vae: Path, tmp_path: Path
) -> None:
    few = write_images(tmp_path / "few", images)
    picture = tmp_path / "near.png"
    answer = _scores(vae, "--data", few, "--importance", 2, "--neighbours", picture)
    (row,) = answer["scores"]
    left_out = [note for note in row["notes"] if note.startswith("not computed: frechet, kernel")]
    assert len(left_out) == (images < 20)
    assert ("precision" in row) == (images >= 20)
    assert np.isfinite([row["psnr"], row["elbo"]]).all()
    assert picture.is_file()
    none = gentool_command("evaluate", few, "--data", few, "-n", 19)
    assert none.code == 2
    assert "-n is 19. " in none.err


def test_no_image_of_the_split_is_an_error(tmp_path: Path) -> None:
    few, out = write_images(tmp_path / "few", 20), tmp_path / "run"
    done = gentool_command(
        "train", "vae", "--data", few, "--out", out, "--images", 16, "--holdout", 0.001, *TINY
    )
    assert done.code == 0, done.err
    empty = gentool_command("evaluate", out, "--data", few, "--split", "held-out")
    assert empty.code == 3
    assert "none of the 20 images of few is in the split held-out" in empty.err
    assert "--split all" in empty.err
    auto = gentool_command("evaluate", out, "--data", few, "-n", 20, "--metrics", "reconstruction")
    assert auto.code == 0
    assert "split=all" in auto.err
    assert "it was trained on images of the reference" in auto.err


@pytest.mark.parametrize(
    ("arguments", "code", "fragment"),
    [
        (("--metrics", "fid"), 2, "no metric named 'fid'"),
        (("--features", "inceptoin"), 2, "Did you mean 'inception'?"),
        (("--features", "inception"), 2, "--weights FILE, or --download"),
        (("--features", "dinov2", "--weights", "nowhere.pth"), 2, "nowhere.pth"),
        (("--split", "held"), 2, "no split named 'held'"),
        (("--neighbours", "x.txt"), 2, "--neighbours x.txt"),
    ],
)
def test_wrong_arguments_are_explained(
    run: Path, toys: Path, arguments: tuple[str, ...], code: int, fragment: str
) -> None:
    done = gentool_command("evaluate", run, "--data", toys, "-n", 50, *arguments)
    assert done.code == code
    assert fragment in done.err
    assert "Traceback" not in done.err


def test_held_out_needs_a_model_that_kept_images_out(vae: Path, toys: Path) -> None:
    done = gentool_command("evaluate", vae, "--data", toys, "--split", "held-out", "-n", 50)
    assert done.code == 2
    assert "--holdout 0.1" in done.err


def test_the_split_goes_by_content_and_outlives_renaming(toys: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, path in enumerate(sorted(toys.rglob("*.png"), reverse=True)):
        shutil.copy(path, renamed / f"x{number:05d}.png")
    before, after = open_dataset(str(toys)), open_dataset(str(renamed))
    for kind in (0, 1):
        a = {image.tobytes() for image in before.split(0.3)[kind].images[:]}
        assert a == {image.tobytes() for image in after.split(0.3)[kind].images[:]}


def test_a_split_has_the_share_and_smaller_ones_lie_inside_larger(toys: Path) -> None:
    dataset = open_dataset("builtin:shapes:4000", "16")
    trained, kept_out = dataset.split(0.1)
    assert len(trained) + len(kept_out) == 4000
    assert len(kept_out) == pytest.approx(400, abs=80)
    assert set(kept_out.rows) < set(dataset.split(0.3).held_out.rows)
    assert len(dataset.split(0.0)[1]) == 0


def test_training_never_sees_what_it_keeps_out(run: Path, toys: Path) -> None:
    header, _ = read_file(run / "model.safetensors")
    dataset = open_dataset(str(toys))
    data = header["training"]["data"]
    assert data["holdout"] == 0.25
    assert data["images"] == len(dataset.split(0.25)[0])


def test_scores_are_logged_and_the_best_is_kept(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "fd_random" in line]
    assert [line["images"] for line in scored] == [208, 400, 608]
    assert all(0 < line["diversity"] < 3 for line in scored)
    best = load_model(run / "best.safetensors").header["training"]
    assert best["score"]["fd_random"] == min(line["fd_random"] for line in scored)


def test_the_best_is_kept_when_later_ones_are_worse_and_augmentation_is_looked_for(
    toys: Path, tmp_path: Path
) -> None:
    out = tmp_path / "gan"
    done = gentool_command(
        "train", "gan", "--data", toys, "--out", out, "--images", 320, "--score-every", 80,
        "--lr", 0.05, "-o", "augment=diffaugment", *TINY,
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    scored = [line for line in lines if "fd_random" in line]
    distances = [line["fd_random"] for line in scored]
    assert min(distances) < distances[-1]  # or nothing is shown
    best = load_model(out / "best.safetensors").header["training"]
    assert best["score"]["fd_random"] == min(distances)
    assert all(line["fd_augmented"] > 0 for line in scored)


def test_scoring_changes_nothing_of_the_training(run: Path, toys: Path, tmp_path: Path) -> None:
    out = tmp_path / "unscored"
    done = gentool_command(
        "train", "vae", "--data", toys, "--out", out, "--images", 640, "--holdout", 0.25, *TINY
    )
    assert done.code == 0
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


# --- likelihood ---------------------------------------------------------------------------------


@pytest.fixture
def small_vae() -> VAE:
    """An untrained VAE; its bound is loose."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VAE(VAE.Config(width=8, latent_size=4), ImageShape(16, 16, 1)).eval()


@torch.no_grad()
def test_the_importance_weighted_bound_rises_with_its_samples(small_vae: VAE) -> None:
    images = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    cpu = torch.device("cpu")
    bounds = []
    for samples in (1, 2, 5, 20, 100):
        draws = [Draw(seed, "test", np.arange(64), 0, cpu) for seed in range(5)]
        bound = small_vae.variational.log_prob_bound
        values = [bound(images, draw, samples).mean() for draw in draws]
        bounds.append(torch.stack(values).mean().item())
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0]


@torch.no_grad()
def test_one_importance_sample_is_the_elbo_in_the_mean(small_vae: VAE) -> None:
    images = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = images.repeat(2000, 1, 1, 1)
    draw = Draw(0, "test", np.arange(len(rows)), 0, torch.device("cpu"))
    bound = small_vae.variational.log_prob_bound(rows, draw, 1)
    elbo = small_vae.elbo(rows, draw.normal("other", 4)).total
    error = (bound.std() / len(rows) ** 0.5).item()
    assert abs((bound.mean() - elbo.mean()).item()) < 5 * error


def test_the_likelihood_says_what_it_is(small_vae: VAE) -> None:
    assert isinstance(small_vae.likelihood, Gaussian)
    assert not small_vae.variational.discrete
    draw = Draw(0, "test", np.arange(3), 0, torch.device("cpu"))
    mean, kl = small_vae.variational.posterior_terms(torch.zeros(3, 1, 16, 16), draw)
    assert mean.shape == kl.shape == (3, 4)


@pytest.fixture(scope="module")
def loaded(run: Path) -> LoadedModel:
    """The tiny VAE."""
    return load_model(run)


def likelihood(run: Path, toys: Path, *more: object) -> Any:
    """Scores of the bound alone."""
    return _scores(run, "--data", toys, "--metrics", "likelihood", "--importance", 3, *more)


def test_the_bound_is_over_all_images_asked_for_and_says_how_sure_it_is(
    run: Path, toys: Path, loaded: LoadedModel
) -> None:
    dataset = open_dataset(str(toys))
    rows = np.arange(240)  # blocks of 64, the last one not full
    (row,) = likelihood(run, toys, "--split", "all", "-n", 240)["scores"]
    assert row["likelihood images"] == len(rows)
    variational = required_likelihood(loaded.model.variational)
    with torch.inference_mode():
        images = to_unit(torch.from_numpy(dataset.images[rows]))
        draw = Draw(0, "evaluation", np.arange(len(rows)), 0, torch.device("cpu"))
        for name, samples in (("elbo", 1), ("iw-3", 3)):
            each = variational.log_prob_bound(images, draw, samples).double()
            assert row[name] == pytest.approx(float(each.mean()), rel=1e-5)
            assert row[f"{name} +-"] == pytest.approx(
                float(each.std()) / len(rows) ** 0.5, rel=1e-3
            )
        mean, kl = variational.posterior_terms(images, draw)
    assert row["kl"] == pytest.approx(float(kl.sum(dim=1).mean()), rel=1e-4)
    assert row["kl largest unit"] == pytest.approx(float(kl.mean(dim=0).max()), rel=1e-4)
    assert row["active units"] == int((mean.var(dim=0) > 0.01).sum())
    few = likelihood(run, toys, "--split", "all", "--likelihood-images", 10)["scores"][0]
    assert few["likelihood images"] == 10
    assert few["elbo +-"] > row["elbo +-"]


@pytest.mark.parametrize(
    ("metrics", "untouched"),
    [
        ("likelihood", ("sampled", "make_extractor")),
        ("reconstruction", ("sampled", "make_extractor")),
        ("frechet", ("score_likelihood", "score_reconstruction", "score_gap")),
    ],
)
def test_only_what_is_asked_for_is_done(
    metrics: str, untouched: tuple[str, ...], run: Path, toys: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("this was not asked for")

    for name in untouched:
        monkeypatch.setattr(f"gentool.evaluation.measuring.{name}", never)
    answer = _scores(run, "--data", toys, "--metrics", metrics, "--features", "random")
    assert ("features" in answer["protocol"]) == (metrics == "frechet")
    assert ("samples" in answer["protocol"]) == (metrics == "frechet")


@pytest.mark.parametrize(("channels", "modes"), [(1, 10), (3, 50), (4, 50)])
def test_modes_are_read_from_pictures_of_every_colour_mode(channels: int, modes: int) -> None:
    """Those in grey are of one digit, three times the same."""
    drawn = np.stack([Modes().render(k, 32, 32) for k in range(50)])
    opaque = np.full_like(drawn[..., :1], 255)
    pixels = {1: drawn[..., 2:], 3: drawn, 4: np.concatenate([drawn, opaque], axis=3)}[channels]
    found = Scores("drawn")
    score_samples(found, iter([pixels]), None, ("modes",), read_modes, lambda: None)
    assert found.values["modes"] == modes
    assert found.values["modes unreadable"] == 0


def test_a_kl_that_is_only_near_that_of_the_bound_says_so(toys: Path) -> None:
    model = VAE(VAE.Config(width=4, latent_size=4, prior="vamp"), ImageShape(16, 16, 3)).eval()
    scores = Scores("x")
    opened = LoadedModel(model, {}, "0" * 64, Path("x"))
    images = Subset(open_dataset(str(toys)), np.arange(4))
    score_likelihood(scores, opened, images, 2, 0, lambda: None)
    assert "kl" not in scores.values
    assert scores.values["kl (near)"] >= scores.values["kl (near) largest unit"] >= 0
    words = "kl (near) is to a Gaussian with the prior's moments, not to the prior itself"
    assert words in scores.notes


def test_every_unit_has_a_line_whose_kl_adds_up(vae: Path, toys: Path, tmp_path: Path) -> None:
    path = tmp_path / "units.csv"
    (found,) = _scores(
        vae, "--data", toys, "--metrics", "likelihood", "--per-unit", path
    )["scores"]  # fmt: skip
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    kl = [float(line["kl"]) for line in lines]
    assert sum(kl) == pytest.approx(found["kl"])
    assert max(kl) == pytest.approx(found["kl largest unit"])
    assert [int(line["unit"]) for line in lines] == list(range(len(lines)))
    assert sum(line["active"] == "True" for line in lines) == found["active units"]


def test_every_layer_has_a_kl_that_is_the_sum_of_its_units() -> None:
    config = HierarchicalVAE.Config(width=8, layers=4, latent_size=2)
    model, scores = HierarchicalVAE(config, ImageShape(16, 16, 3)), Scores("x")
    lengths = model.layers.lengths
    assert len(lengths) == 4
    assert sum(lengths) == model.prior(np.arange(1), 0).shape[1]
    kl = torch.arange(float(sum(lengths)))
    means = torch.stack([kl, torch.zeros_like(kl), (kl > 5).float()])
    units = score_units(scores, means, 10, model)
    first, second = lengths[:2]
    assert scores.values["kl (near) layer 1"] == first * (first - 1) / 2
    assert scores.values["kl (near) layer 2"] == sum(range(first, first + second))
    assert [u.layer for u in units[first - 1 : first + 1]] == [1, 2]
    assert [u.active for u in units[4:8]] == [False, False, True, True]


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_codes_in_use_are_those_of_the_images(quantiser: str, toys: Path) -> None:
    config = QuantisedAutoencoder.Config(width=8, quantiser=quantiser, codes=64)
    model = QuantisedAutoencoder(config, ImageShape(16, 16, 3)).eval()
    scores, pixels = Scores("x"), open_dataset(str(toys), "16").images[:40]
    score_codes(scores, model, pixels)
    with torch.no_grad():
        codes = model.codec.encode(to_unit(torch.from_numpy(np.array(pixels)))).indices
    counts = np.unique(codes.numpy(), return_counts=True)[1]
    shares = counts / counts.sum()
    assert scores.values["codes in use"] == len(counts)
    assert scores.values["codes"] == model.codec.quantiser.words
    entropy = -(shares * np.log(shares)).sum()
    assert scores.values["code perplexity"] == pytest.approx(np.exp(entropy), rel=1e-4)


@pytest.mark.parametrize(("nats", "collapsed"), [(0.0001, True), (0.05, False)])
def test_a_thousand_latents_that_each_say_a_little_are_no_collapse(
    nats: float, collapsed: bool
) -> None:
    scores, model = Scores("x"), VAE(VAE.Config(width=4), ImageShape(16, 16, 3))
    score_units(scores, torch.tensor([[nats], [0.0], [0.001]]).expand(3, 1000), 100, model)
    assert scores.values["active units"] == 0
    assert scores.values["kl"] == pytest.approx(1000 * nats)
    assert any("collapse" in note for note in scores.notes) == collapsed


def test_no_score_is_made_of_a_model_in_training_mode(
    toys: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(str(toys))
    some, none = (Subset(dataset, np.arange(count)) for count in (40, 0))
    extractor = RandomExtractor()
    reference = make_reference(extractor, some, none)
    found = Scores("x", {extractor.score: 1.0})
    images = {Path("x.png"): dataset.images[0]}
    latents = of_images(loaded.model, encode_blocks(loaded.model, dataset.images[:1]))
    scored: list[Callable[[], object]] = [
        lambda: next(sampled(loaded, 1, 0)),
        lambda: score_reconstruction(found, loaded, some),
        lambda: score_gap(found, loaded, reference, lambda: None),
        lambda: score_likelihood(found, loaded, some, 1, 0, lambda: None),
        lambda: bounds(loaded, images, 1, lambda: None),
        lambda: reconstruct(loaded, images, latents),
        lambda: extractor.features(dataset.images[:1]),
    ]
    for score in scored:
        score()
    part = next(iter(loaded.model.exported_parts()["decoder"].modules()))
    monkeypatch.setattr(part, "training", True)  # one part
    extractor.network.train()
    for score in scored:
        with pytest.raises(ValueError, match="is in training mode"):
            score()


@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
def test_notes_of_score_and_evaluate_agree_with_the_likelihood(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "ink"
    folder.mkdir()
    for number in range(24):
        ink = np.where(draw(number)[..., 0] > 100, 255, 0).astype(np.uint8)
        Image.fromarray(ink).save(folder / f"{number}.png")
    out = tmp_path / "run"
    done = gentool_command(
        "train", "vae", "--data", folder, "--out", out, "--images", 64, *TINY,
        "-o", f"likelihood={name}",
    )  # fmt: skip
    assert done.code == 0, done.err
    variational = required_likelihood(load_model(out).model.variational)
    assert variational.discrete == (name == "bernoulli")
    density = "a log density; bits/dim are per 8-bit grey level"
    words = "a log mass" if variational.discrete else density
    scored = gentool_command("score", folder / "0.png", "--model", out)
    assert scored.err.splitlines()[-1].endswith(words)
    (row,) = likelihood(out, folder)["scores"]
    assert any(words in note for note in row["notes"])
    Image.fromarray(draw(0)[..., 0]).save(folder / "grey.png")
    if variational.discrete:  # a grey image ends nothing
        mixed = gentool_command("score", folder, "--model", out)
        assert (mixed.code, len(mixed.lines)) == (7, 24)
        assert "grey.png: the likelihood of this model allows only pixels of 0 or 255" in mixed.err
        assert "1 of 25 images cannot be scored" in mixed.err
        alone = gentool_command("score", folder / "0.png", "--model", out)
        assert alone.lines[0] in mixed.lines
        none = gentool_command("score", folder / "grey.png", "--model", out)
        assert (none.code, none.out) == (3, "")
        why = "likelihood was not computed: "
        (row,) = likelihood(out, folder, "--metrics", "likelihood,reconstruction")["scores"]
        assert "elbo" not in row
        assert any(why in note for note in row["notes"])
        alone = gentool_command("evaluate", out, "--data", folder, "--metrics", "likelihood")
        assert (alone.code, why in alone.err) == (2, True)
