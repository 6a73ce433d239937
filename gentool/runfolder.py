"""The files of a run: what they hold, and how a run goes on from them.

``model.safetensors`` is what every verb needs; ``state.safetensors`` everything needed to go
on, and the truth; ``samples/`` the previews. The identity in the state says which commands are
the same run.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gentool.blocks import decode_blocks, encode_blocks, prior_blocks
from gentool.checkpoint import (
    MODEL_NAME,
    STATE_NAME,
    Header,
    Tensors,
    compare,
    exported_tensors,
    model_header,
    read_file,
    verify,
    write_file,
)
from gentool.config import to_json
from gentool.data import Dataset, Policy
from gentool.errors import ModelFileError, NoEncoder, UsageError
from gentool.images import encode, grid
from gentool.models.base import BaseConfig, Model, Phase
from gentool.state import Optimisers, expected, pack, unpack

LOG_NAME, PREVIEWS_NAME, BEST_NAME = "log.jsonl", "samples", "best.safetensors"
_PREVIEW_IMAGES = 64


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a run, resolved.

    Attributes:
        model: Name in the table of models.
        config: Its options.
        out: The run folder.
        images: Budget in images, rounded up to whole steps; or None.
        minutes: Budget in wall-clock minutes from ``started``; or None.
        batch: Images per step.
        lr: Adam's learning rate.
        seed: Seed of everything.
        device: Where to compute.
        precision: dtype of autocast.
        started: ``time.monotonic()`` at the command's start.
        holdout: Share of the images, by content, that is never trained on.
        score_every: Score the averaged weights once per as many images; 0 for never.
        conditional: Whether a model that can be is conditional on the classes of the data.
        policy: What intake did to the images, for those who look at other images later.
        augment: What is done to them in training, by names joined by +; ``none``.
        stop_after: Stop as if asked once this command has seen as many images; or None.
    """

    model: str
    config: BaseConfig
    out: Path
    images: int | None
    minutes: float | None
    batch: int
    lr: float
    seed: int
    device: torch.device
    precision: torch.dtype
    started: float
    holdout: float = 0.0
    score_every: int = 0
    conditional: bool = True
    stop_after: int | None = None
    policy: Policy | None = None
    augment: str = "none"


@dataclass(frozen=True)
class Learner:
    """What a state file holds the tensors of."""

    model: Model
    average: Model
    phases: tuple[Phase, ...]
    optimisers: Optimisers
    powers: Tensors


@dataclass
class Counters:
    """What a state file holds beside tensors.

    Attributes:
        images: Seen so far; order, noise and schedules are functions of it.
        step: Steps taken.
        seconds: Wall-clock seconds of all commands before.
        best_score: The lowest so far.
        began: Images seen when each phase had its first turn, by name.
        settled: Names of the phases that are over.
    """

    images: int = 0
    step: int = 0
    seconds: float = 0.0
    best_score: float = math.inf
    began: dict[str, int] = field(default_factory=dict)
    settled: tuple[str, ...] = ()


class RunFolder:
    """The folder of one run.

    Args:
        settings: The run's.
        dataset: Its images.
        rows: Numbers of those that it trains on.
    """

    def __init__(self, settings: TrainSettings, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        self._settings, self._dataset, self._rows = settings, dataset, rows
        self._policy = settings.policy or Policy(dataset.shape)
        self.path = settings.out
        self.model_path, self.log_path = self.path / MODEL_NAME, self.path / LOG_NAME

    def identity(self) -> Header:
        """What two commands must share to be the same run."""
        settings = self._settings
        return {
            "model": settings.model,
            **{f"-o {k}": v for k, v in to_json(settings.config).items()},
            "--size and --mode": str(self._policy.shape),
            "--fit": self._policy.fit,
            "--background": self._policy.background,
            "--margin": self._policy.margin,
            "--augment": settings.augment,
            "--data (its images)": self._dataset.fingerprint[:16],
            "--batch": settings.batch,
            "--lr": settings.lr,
            "--seed": settings.seed,
            "--holdout": settings.holdout,
            "--unconditional": not settings.conditional,
            "--precision": str(settings.precision).removeprefix("torch."),
        }

    def write_model(self, average: Model, images: int, name: str, **more: object) -> None:
        """Write the averaged weights; ``more`` goes into the training record."""
        record = {**self._record(images), **more}
        header = model_header(self._settings.model, average, self._dataset.classes, record)
        write_file(self.path / name, exported_tensors(average), header)

    def _record(self, images: int) -> Header:
        """What the model file says of its training; no time and no path, so files are stable."""
        settings, data = self._settings, self._dataset
        return {
            "images": images,
            "seed": settings.seed,
            "batch": settings.batch,
            "lr": settings.lr,
            "precision": str(settings.precision).removeprefix("torch."),
            "device": settings.device.type,
            "data": {
                "name": data.name,
                "images": len(self._rows),
                "fingerprint": data.fingerprint,
                "holdout": settings.holdout,
                "fit": self._policy.fit,
                "background": self._policy.background,
                "augment": settings.augment,
            },
        }

    def write_state(self, learner: Learner, counters: Counters) -> None:
        """Write everything needed to go on."""
        best = counters.best_score
        header = {
            "kind": "state",
            "identity": self.identity(),
            "images": counters.images,
            "step": counters.step,
            "seconds": counters.seconds,
            "best_score": best if math.isfinite(best) else None,
            "began": dict(counters.began),
            "settled": list(counters.settled),
        }
        tensors = pack(
            learner.model, learner.average, learner.phases, learner.optimisers, learner.powers
        )
        write_file(self.path / STATE_NAME, tensors, header)

    def read_state(self, learner: Learner) -> Counters | None:
        """Fill ``learner`` from the state in the folder; None if there is none.

        Raises:
            UsageError: it belongs to a run with other settings, or there is only a model.
            ModelFileError: it is damaged.
        """
        path = self.path / STATE_NAME
        if not path.exists():
            if self.model_path.exists():
                raise UsageError(
                    f"{self.path} holds a model but no state to go on from. Choose another --out"
                )
            return None
        header, table = verify(path)  # first: a damaged name is no other setting
        self._check(header)
        parts = (
            learner.model, learner.average, learner.phases, learner.optimisers, learner.powers,
        )  # fmt: skip
        compare(path, expected(table, *parts), table)
        try:
            found = _counters(header)
            unpack(read_file(path)[1], *parts)
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise ModelFileError(
                f"{path} is damaged ({error!s:.80}). Choose another --out"
            ) from error
        return found

    def _check(self, header: dict[str, Any]) -> None:
        """Whether a state's header is that of this run."""
        path = self.path / STATE_NAME
        if header.get("kind") != "state":
            raise ModelFileError(f"{path} is not a training state. Choose another --out")
        before, now = header.get("identity"), self.identity()
        if not isinstance(before, dict):
            raise ModelFileError(f"{path} is damaged (identity). Choose another --out")
        differing = [k for k in {**before, **now} if before.get(k) != now.get(k)]
        if differing:
            lines = "; ".join(
                f"{k:.60} was {before.get(k)!s:.60}, is {now.get(k)!s:.60}" for k in differing[:20]
            )
            raise UsageError(
                f"{self.path} holds a run with other settings: {lines}. Choose another --out"
            )

    def write_previews(self, average: Model, images: int) -> None:
        """A grid of samples with fixed latents; with an encoder, also reconstructions."""
        folder = self.path / PREVIEWS_NAME
        draws = [(self._settings.seed, k) for k in range(_PREVIEW_IMAGES)]
        samples = grid(decode_blocks(average, prior_blocks(average, draws)))
        (folder / f"{images:09d}.png").write_bytes(encode(samples, ".png"))
        chosen = np.linspace(0, len(self._rows) - 1, _PREVIEW_IMAGES // 2).astype(np.int64)
        originals = self._dataset.images[self._rows[chosen]]
        try:
            codes = encode_blocks(average, originals)
        except NoEncoder:
            return
        pairs = np.stack([originals, decode_blocks(average, codes)], axis=1)
        sheet = grid(pairs.reshape(-1, *originals.shape[1:]), columns=8)
        (folder / f"{images:09d}-reconstructions.png").write_bytes(encode(sheet, ".png"))


def _count(value: object) -> int:
    """A counter from a state file."""
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("counter")
    return value


def _counters(header: Header) -> Counters:
    """What the header of a state says; any of several errors where it says something impossible."""
    best, seconds = header["best_score"], float(header["seconds"])
    images = _count(header["images"])
    began = {str(name): _count(count) for name, count in header["began"].items()}
    if not 0 <= seconds < math.inf:
        raise ValueError("seconds")
    if max(began.values(), default=0) > images:
        raise ValueError("began")
    return Counters(
        images,
        _count(header["step"]),
        seconds,
        math.inf if best is None else float(best),
        began,
        tuple(str(name) for name in header["settled"]),
    )
