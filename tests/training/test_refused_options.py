"""New runs refuse options without effect and values of the past; runs that have them go on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, Finished, gentool_command

import gentool
from gentool.core.errors import UsageError


def train(name: str, data: Path, out: Path, *more: object, images: int = 64) -> Finished:
    """A tiny training."""
    return gentool_command(
        "train", name, "--data", data, "--out", out, "--images", images, *TINY, *more
    )


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gan", ["penalties=none", "penalty_every=4"], "penalty_every=4 has no effect: it is for"),
        ("gan", ["penalties=none", "calibrate=true"], "calibrate=true has no effect"),
        ("gan", ["penalty=0", "penalty_end=0.5"], "penalty_end=0.5 has no effect"),
        ("gan", ["penalties=wgan-gp", "penalty_end=0.5"], "penalties is wgan-gp. Leave it out"),
        ("wgan-gp", ["calibrate=false"], "calibrate=false has no effect"),
        ("gan", ["penalties=r1:1/16+r2:1/16", "penalty_every=4"], "has its own intervals"),
        ("sngan", ["norm=group"], "network is resnet. Leave it out"),
        ("stylegan2", ["spectral=true"], "network style has no spectral normalisation"),
        ("vae", ["prior=normal", "components=5"], "Leave it out, or use -o prior=mixture or vamp"),
        ("vae", ["prior=flow", "components=20"], "prior flow has no components"),
        ("vae", ["prior_share=0.3"], "Leave it out, or use -o prior=latent-flow"),
        ("vae", ["beta=0", "warm_up=0.2"], "with beta=0 there is no KL"),
        ("vae", ["hidden=8"], "option width=4 has no effect: -o hidden makes all layers dense"),
        ("hvae", ["likelihood=categorical", "sigma=0.1"], "likelihood categorical has no scale"),
        ("autoencoder", ["prior=gaussian", "components=5"], "or use -o prior=mixture"),
        ("autoencoder", ["strength=2"], "Give some: -o regularisers=mmd"),
        ("fsq", ["features=0", "adversarial=0", "loss=hinge"], "nothing learns from the"),
        ("vae", ["prior=flow-matching"], "no longer offered. Use -o prior=mixture, whose"),
    ],
)
def test_an_option_without_effect_is_refused_before_the_work(
    name: str, options: list[str], words: str, image_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = train(name, image_folder, out, *(x for option in options for x in ("-o", option)))
    assert done.code == 2, done.err
    assert words in done.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("r3gan", ["penalties=none"]),  # the preset has penalty_every and penalty_end
        ("dcgan", ["network=resnet"]),  # the preset has doubling
        ("vampvae", ["prior=normal"]),  # the preset has components
    ],
)
def test_a_preset_may_have_options_that_lose_their_effect(
    name: str, options: list[str], image_folder: Path, tmp_path: Path
) -> None:
    words = [x for option in options for x in ("-o", option)]
    done = train(name, image_folder, tmp_path / "run", *words, "--dry-run")
    assert done.code == 0, done.err


def test_python_refuses_them_too(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="components=5 has no effect"):
        gentool.train(
            "vae", image_folder, out=tmp_path / "run", options={"prior": "flow", "components": 5}
        )


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stops a tiny run half-way that begins without these checks, as in an older version."""

    def begin(name: str, data: Path, out: Path, *more: object) -> None:
        with monkeypatch.context() as older:
            for check in ("refuse_idle", "refuse_retired"):
                older.setattr(f"gentool.training.plan.{check}", lambda config, given: None)
            done = train(name, data, out, *more, "--stop-after", 32)
            assert done.code == 75, done.err

    return begin


@pytest.mark.parametrize("name", ["vae", "autoencoder"])
def test_runs_with_a_prior_of_the_past_go_on_and_their_files_open(
    name: str, image_folder: Path, tmp_path: Path, as_before: Callable[..., None]
) -> None:
    out = tmp_path / "run"
    as_before(name, image_folder, out, "-o", "prior=flow-matching", "-o", "denoise=0.1")
    for more in ([], ["-o", "prior=flow-matching"]):  # the whole command again is allowed too
        done = train(name, image_folder, out, *more, images=64 + 16 * len(more))
        assert done.code == 0, done.err
    assert "flow-matching model" in gentool_command("info", out).out
    done = gentool_command("sample", out, "-n", 2, "-o", tmp_path / "samples")
    assert done.code == 0, done.err
    assert gentool.load(out).interpolate([1, 2]).shape[1:] == (16, 16, 3)


def test_runs_with_an_option_without_effect_go_on(
    image_folder: Path, tmp_path: Path, as_before: Callable[..., None]
) -> None:
    words = ["-o", "prior=normal", "-o", "components=5"]
    as_before("vae", image_folder, tmp_path / "run", *words)
    done = train("vae", image_folder, tmp_path / "run", *words)
    assert done.code == 0, done.err


def test_what_is_no_longer_offered_is_not_listed() -> None:
    for words in (("list", "priors"), ("list", "autoencoder"), ("list", "vae")):
        assert "flow-matching" not in gentool_command(*words).out
    done = gentool_command("train", "autoencoder", "--data", "builtin:shapes", "-o", "prior=flo")
    assert "flow-matching" not in done.err
