"""The full text of messages, one row for each: a call -> class of the error and its message.

Together with the tables of ``test_errors.py`` this is where wording is asserted; other tests assert
facts. ``{path}`` in a message is the path that the call gets, which does not exist.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gentool.checkpoint import load_model
from gentool.core.atomic_files import no_room
from gentool.core.devices import select_device, select_precision
from gentool.core.errors import (
    DataError,
    GentoolError,
    ModelFileError,
    NoLikelihood,
    NoStyles,
    OutsideSupport,
    Stopped,
    UnknownName,
    UsageError,
)
from gentool.core.options import from_json, parse_options
from gentool.core.picture_files import film_time
from gentool.data.badfiles import Tolerance
from gentool.data.shape import parse_size
from gentool.data.sources.table import open_source, open_sources
from gentool.evaluation.metric_choice import check_names
from gentool.evaluation.split import check_split
from gentool.metrics.pretrained import check_extractor
from gentool.models.capabilities import (
    required_layers,
    required_likelihood,
    required_posterior,
    required_styles,
)
from gentool.models.gan.options import GANConfig
from gentool.models.presets import PRESETS, get_preset
from gentool.models.vae.options import VAEConfig
from gentool.outputs.destination import parse_destination
from gentool.outputs.marks import PICTURE
from gentool.outputs.ownership import Guard, difference, refuse_foreign_run
from gentool.training.layers import Setting, collect
from gentool.training.snapshots import parse_keep

Row = tuple[Callable[[Path], object], type[GentoolError], str]


def refuse_bad(*, strict: bool, bad: int, total: int) -> None:
    """Check ``bad`` of ``total`` images with the default tolerance."""
    Tolerance(0.01, strict).check([(f"{k}.png", "no reason") for k in range(bad)], total, total)


def folder_with_a_model(path: Path) -> None:
    """Refuse a run folder with a model but without a state."""
    path.mkdir()
    (path / "model.safetensors").write_text("text")
    refuse_foreign_run(path)


NAMES: dict[str, Row] = {
    "device": (lambda path: select_device("gpu"), UsageError,
               "there is no device 'gpu'. Choose from auto, cpu, cuda, mps, cuda:1"),
    "precision": (lambda path: select_precision(torch.device("cpu"), "half"), UsageError,
                  "there is no precision 'half'. Choose from auto, float32, bfloat16"),
    "size": (lambda path: parse_size("abc"), UsageError,
             "'abc' is not a size. Write 64, or HEIGHTxWIDTH such as 48x64"),
    "odd size": (lambda path: parse_size("33"), UsageError,
                 "size 33: 33 is not a multiple of 4 between 16 and 512; try 32"),
    "preset": (lambda path: get_preset("gam"), UnknownName,
               "there is no model named 'gam'. Did you mean 'gan'? (gentool list shows all "
               f"{len(PRESETS)})"),
    "metrics": (lambda path: check_names([" "]), UsageError,
                "--metrics is empty. Choose from frechet, kernel, overlap, memorisation, modes, "
                "reconstruction, likelihood"),
    "image format": (lambda path: parse_destination(str(path), "bmp", Guard([])), UsageError,
                     "there is no image format 'bmp'. Choose from png, jpg, jpeg, webp"),
    "keep": (lambda path: parse_keep("first"), UsageError,
             "--keep first: write last, best, all, or a number of snapshots (1 or more)"),
}  # fmt: skip
OPTIONS: dict[str, Row] = {
    "form": (lambda path: parse_options(["loss"]), UsageError,
             "-o loss: write it as -o key=value, for example -o loss=hinge"),
    "type": (lambda path: from_json(GANConfig, {"latent_size": "many"}), UsageError,
             "option latent_size takes a whole number, not 'many'"),
    "bounds": (lambda path: from_json(GANConfig, {"latent_size": 0}), UsageError,
               "option latent_size is 0; allowed: 1 to 4096"),
    "not finite": (lambda path: from_json(GANConfig, {"penalty": math.nan}), UsageError,
                   "option penalty is nan; allowed: 0 to 10000"),
    "twice": (lambda path: from_json(GANConfig, {"penalties": "r1+r1"}), UsageError,
              "option penalties contains r1 twice. Remove one of them"),
    "term": (lambda path: from_json(GANConfig, {"penalties": "r1:x"}), UsageError,
             "cannot read 'r1:x': write name:weight/every, for example r1:0.5/16, with a weight "
             "from 0 to 1e+06 and an interval of 1 to 1024 steps"),
    "two budgets": (
        lambda path: collect("gan", {"images": _flag(1), "minutes": _flag(1.0)}, {}, None),
        UsageError, "--images and --minutes are two budgets for one run. Give one of them",
    ),
    "kl of a bound": (
        lambda path: VAEConfig(samples=2, free_bits=0.1).check_objective(joint=False), UsageError,
        "-o free_bits needs the KL, which a bound with 2 samples does not have. Use -o samples=1, "
        "or leave -o free_bits out",
    ),
}  # fmt: skip
MODELS: dict[str, Row] = {
    "no file": (load_model, ModelFileError,
                "there is no model file at {path}. 'gentool train' writes one"),
    "no styles": (lambda path: required_styles(None), NoStyles,
                  "this model has no styles; models with -o network=style have them"),
    "no layers": (lambda path: required_layers(None), UsageError,
                  "the latents of this model have no layers. Leave --keep-top out"),
    "no posterior": (lambda path: required_posterior(None), UsageError,
                     "this model has no posterior. Leave --draw out"),
    "no likelihood": (lambda path: required_likelihood(None), NoLikelihood,
                      "this model has no likelihood"),
    "no held-out images": (lambda path: check_split("held-out", {}, 0.0), UsageError,
                           "no model here has held-out images. Train with --holdout 0.1, or use "
                           "--split all"),
    "split of no model": (lambda path: check_split("training", {}, 0.0), UsageError,
                          "--split training needs a model, but no target is one. Use --split all"),
}  # fmt: skip
DATA: dict[str, Row] = {
    "nothing": (open_source, DataError,
                "there is nothing at {path}. Give a folder of images, or a .zip, .tar, .npy or "
                ".npz of images, or builtin:shapes or builtin:digits or builtin:modes"),
    "no source": (lambda path: open_sources([]), UsageError,
                  "--data is empty. Give a folder of images, an archive of images, or "
                  "builtin:shapes or builtin:digits or builtin:modes"),
    "labels": (lambda path: open_source("builtin:shapes", labels="none"), UsageError,
               "builtin:shapes has its own labels; --labels works only with a folder or an "
               "archive"),
    "count": (lambda path: open_source("builtin:shapes:many"), UsageError,
              "builtin:shapes:many needs a number of images after the name, 1 to 4294967296, for "
              "example builtin:shapes:10000"),
    "strict": (lambda path: refuse_bad(strict=True, bad=1, total=9), DataError,
               "0.png: no reason. Repair or remove it, or leave --strict out"),
    "all bad": (lambda path: refuse_bad(strict=False, bad=2, total=2), DataError,
                "none of the 2 images can be read; the first: 0.png: no reason; 1.png: no reason"),
    "too many bad": (lambda path: refuse_bad(strict=False, bad=1, total=9), DataError,
                     "1 of 9 images cannot be read, more than --max-bad 0.01: 0.png: no reason. "
                     "Repair or remove them, or allow --max-bad 0.12"),
    "share": (lambda path: Tolerance(2.0), UsageError,
              "max-bad is 2; allowed: a fraction from 0 to 1, such as 0.01"),
    "features": (lambda path: check_extractor("labels", labelled=False, weights=None,
                                              download=False), DataError,
                 "--features labels needs images in class folders. Use --features random"),
    "weights": (lambda path: check_extractor("inception", labelled=False, weights=None,
                                             download=False), UsageError,
                "--features inception needs pretrained weights. Give --weights FILE, or --download "
                "to download them"),
}  # fmt: skip
OUTPUTS: dict[str, Row] = {
    "stdout": (lambda path: Guard([]).allow(Path("-"), PICTURE, "--save-latents"), UsageError,
               "--save-latents -: this output cannot go to stdout. Name a file"),
    "run on stdout": (lambda path: refuse_foreign_run(Path("-")), UsageError,
                      "--out -: a run cannot go to stdout. Name a folder"),
    "no state": (folder_with_a_model, UsageError,
                 "{path} holds a model but no state, so training cannot continue. Choose another "
                 "--out"),
}  # fmt: skip
ROWS = {
    f"{topic}: {name}": row
    for topic, rows in {"names": NAMES, "options": OPTIONS, "models": MODELS, "data": DATA,
                        "outputs": OUTPUTS}.items()
    for name, row in rows.items()
}  # fmt: skip


def _flag(value: float) -> Setting:
    return Setting(value, "flag")


@pytest.mark.parametrize(("call", "kind", "message"), ROWS.values(), ids=ROWS)
def test_message(
    call: Callable[[Path], object], kind: type[GentoolError], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    with pytest.raises(kind) as caught:
        call(path)
    assert type(caught.value) is kind
    assert str(caught.value) == message.replace("{path}", str(path))


def test_messages_of_errors_with_arguments(tmp_path: Path) -> None:
    support = OutsideSupport("pixels of 0 or 255", "-o likelihood=gaussian")
    assert str(support) == (
        "this likelihood allows only pixels of 0 or 255, but the images have other pixels. Use "
        "-o likelihood=gaussian"
    )
    full = str(no_room("there is not enough free space", tmp_path, 10**18))
    assert full.startswith(f"there is not enough free space in {tmp_path}: 1,000,000,000,000,000,")
    assert full.endswith(" are free. The last files there are complete. Free some space")
    assert isinstance(no_room("", tmp_path, 1), Stopped)


def test_notes_and_reasons() -> None:
    assert film_time(".gif", 63)[1] == "a GIF stores times in steps of 10 ms: 63 ms becomes 60 ms"
    assert difference({"seed": 1}, {"seed": 2}) == "seed was 1 and is now 2"
    assert difference({}, {"seed": 2}) == "seed was not set and is now 2"
    assert VAEConfig(prior="normal").why_unconditional(10**6) == (
        "-o prior=normal can use no classes"
    )
