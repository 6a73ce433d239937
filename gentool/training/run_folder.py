"""The files of a run: what they contain, and how a run continues from them.

``model.safetensors`` is the model that all other commands use. ``state.safetensors`` has everything
that is needed to continue; if the two files disagree, the state is trusted. ``samples/`` has
previews, and ``snapshots/`` numbered models, if they are wanted. The identity in the state (the
model, its options and the settings that change the result) decides whether a command continues this
run.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gentool.checkpoint import (
    MODEL_NAME,
    STATE_NAME,
    Header,
    Tensors,
    compare,
    exported_tensors,
    model_header,
    read_file,
    read_header,
    verify,
    write_file,
)
from gentool.core.atomic_files import LOG_NAME, PREVIEWS_NAME, put, remove_scratch
from gentool.core.errors import ModelFileError, NoEncoder, UsageError
from gentool.core.images import mean_squared_error, psnr
from gentool.core.picture_files import encode
from gentool.core.sheets import grid
from gentool.core.version import __version__
from gentool.data import Split
from gentool.data.preprocessing import HIDDEN_COLOURS
from gentool.inference.blocks import decode_blocks, encode_blocks, prior_blocks
from gentool.inference.held_out import keep_out
from gentool.models.base import Model, Phase
from gentool.outputs.marks import read_mark
from gentool.outputs.ownership import refuse_foreign_run
from gentool.training.identity import IMAGES, SPLIT, completed, in_words, other_settings
from gentool.training.run_data import Changes, changes_since, write_run_data
from gentool.training.settings import record_of
from gentool.training.setup import Setup
from gentool.training.snapshots import SNAPSHOTS_NAME, keep_snapshot, snapshot_is_kept
from gentool.training.state import HasState, Optimisers, expected, pack, tensor_bytes, unpack

BEST_NAME = "best.safetensors"
_PREVIEW_IMAGES = 64
_REQUIRED = {"images", "step", "seconds", "best_score", "began", "settled"}  # in every state
_DAMAGE = (ModelFileError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class Learner:
    """The objects whose tensors a state file contains.

    Attributes:
        model: The model that is trained.
        average: The averaged copy of its exported parts.
        phases: The phases of ``model``.
        optimisers: The optimiser of each phase, by name.
        powers: The power-function averages, by name.
    """

    model: Model
    average: Model
    phases: tuple[Phase, ...]
    optimisers: Optimisers
    powers: Tensors


class RunFolder:
    """The folder of one run: writes and reads its files.

    Args:
        setup: The setup of the run.
        images: The training images and the held-out images.

    Attributes:
        overridden: (value in the run, value now) by setting, for settings that ``--override``
            changed; known after ``read_state``.
        told: The same as text.
    """

    def __init__(self, setup: Setup, images: Split) -> None:
        self.setup, self.settings, self._images = setup, setup.settings, images
        self._dataset = images.train.dataset
        self.path = setup.out
        self.model_path, self.log_path = self.path / MODEL_NAME, self.path / LOG_NAME
        self._kept_out: Header | None = None
        self.overridden: dict[str, tuple[object, object]] = {}
        self.told = ""

    def prepare(self) -> None:
        """Create missing folders and remove temporary files of killed commands.

        Only the process that trains in the folder may call this.
        """
        previews, snapshots = self.path / PREVIEWS_NAME, self.path / SNAPSHOTS_NAME
        previews.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, previews, snapshots):
            remove_scratch(folder)

    def tell_data(self) -> None:
        """Write what the run is trained on.

        Only the process that trains in the folder may call this.
        """
        write_run_data(self.path, self._dataset)

    def bytes_needed(self, learner: Learner) -> int:
        """Return the disk space in bytes that the next save needs in addition to existing files.

        During a save the new files exist in addition to the old ones.
        """
        keep = self.setup.keep
        model = tensor_bytes(exported_tensors(learner.average))
        moments = sum(2 * tensor_bytes(dict(p.module.named_parameters())) for p in learner.phases)
        state = model + moments + tensor_bytes(learner.model.state_dict())
        best = model if keep.best and self.settings.score_every != 0 else 0
        previews = 2 * _PREVIEW_IMAGES * self._dataset.shape.dims
        names = (STATE_NAME, MODEL_NAME, BEST_NAME)
        here = sum(f.stat().st_size for n in names if (f := self.path / n).is_file())
        return max(2 * (state + model + best) - here, state) + previews

    def identity(self) -> Header:
        """Return the settings that must be equal for two commands to be the same run, by flag."""
        return self.setup.identity() | {IMAGES: self._dataset.fingerprint[:16]}

    def write_model(self, average: Model, images: int, name: str, **more: object) -> None:
        """Write the averaged weights to the file ``name``; ``more`` is added to the record.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        record = {**self._record(images), **more}
        header = model_header(self.setup.model, average, self._dataset.classes, record)
        write_file(self.path / name, exported_tensors(average), header)
        if name == MODEL_NAME:
            keep_snapshot(self.model_path, images, self.setup.keep)

    def complete_best(self, learner: Learner, images: int) -> None:
        """Add the parts that were trained after its score to the best model, if they fit it.

        An encoder that is trained after a GAN's generator fits the last generator. It fits the
        best one only if the weights of both are equal bit for bit; otherwise nothing is written.
        Buffers that are measured from the weights are not compared, because the measurement on a
        GPU is not exactly repeatable.
        """
        path, parts = self.path / BEST_NAME, learner.average.exported_parts().items()
        still = [p.module for p in learner.phases if not p.changes_samples]
        late = tuple(f"{k}." for k, m in learner.model.exported_parts().items() if m in still)
        if not late or not path.is_file():
            return
        try:
            header, best = read_file(path)
        except ModelFileError:
            return
        weights = {f"{k}.{n}": w for k, part in parts for n, w in part.named_parameters()}
        shared = {name: w for name, w in weights.items() if not name.startswith(late)}
        if all(name in best and torch.equal(best[name], shared[name].cpu()) for name in shared):
            score = header["training"].get("score")
            self.write_model(learner.average, images, BEST_NAME, score=score)

    def kept_out(self, poll: Callable[[], None] = lambda: None) -> Header:
        """Return the record of the held-out images for the model file; it is computed once.

        Args:
            poll: Called repeatedly; may raise to stop.
        """
        if self._kept_out is None:
            self._kept_out = keep_out(self._images, poll).to_json()
        return self._kept_out

    def _record(self, images: int) -> Header:
        """Return the record of the training for the model file.

        It contains no time and no path, so that equal runs give equal files.
        """
        settings, data = self.settings, self._dataset
        kept = {"kept_out": self.kept_out()} if settings.holdout else {}
        return {
            "images": images,
            **record_of(settings, "training"),
            "device": self.setup.device.type,
            # On a CPU the last bits of the weights depend on these two.
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "data": {
                "name": data.name,
                "images": len(self._images.train),
                "fingerprint": data.fingerprint,
                **kept,
                **record_of(settings, "data"),
            },
        }

    def write_state(self, learner: Learner, kept: Iterable[HasState], seconds: float) -> None:
        """Write everything that is needed to continue the run.

        Args:
            learner: Its tensors are written.
            kept: What the state file keeps besides tensors.
            seconds: Wall-clock seconds of the run so far, over all commands.
        """
        header = {
            "kind": "state",
            "preset": self.setup.preset,
            "name": self.settings.name,
            "device": self.setup.device.type,
            "identity": self.identity(),
            "split": SPLIT,
        }
        for part in kept:
            header |= part.state()
        write_file(self.path / STATE_NAME, self.tensors(learner), {**header, "seconds": seconds})

    def tensors(self, learner: Learner) -> Tensors:
        """Return the tensors of a state file, by name."""
        return pack(
            learner.model, learner.average, learner.phases, learner.optimisers, learner.powers
        )

    def holds_model_of(self, images: int) -> bool:
        """Return whether the model files for this count of images and this title were written.

        They are missing if the process was killed after it had written the state. The title
        differs if a command gives another ``--name`` to a run that is over.
        """
        if not self.model_path.is_file():
            return False
        header, _ = read_header(self.model_path)
        training = header.get("training")
        if not isinstance(training, dict):
            return False
        written = (training.get("images"), training.get("name")) == (images, self.settings.name)
        return written and snapshot_is_kept(self.model_path, images, self.setup.keep)

    def read_state(self, learner: Learner, kept: Iterable[HasState]) -> bool:
        """Restore a run from the state in the folder.

        Args:
            learner: Its tensors are filled.
            kept: What the state file keeps besides tensors; each part is loaded.

        Returns:
            Whether there is a state; nothing is changed if there is none.

        Raises:
            UsageError: the state belongs to a run with other settings, or the folder holds
                something else.
            ModelFileError: the state is damaged.
        """
        path = self.path / STATE_NAME
        if not path.exists():
            refuse_foreign_run(self.path)
            return False
        header, table = verify(path)  # first: a damaged name is no other setting
        self._check(header)
        weights = (learner.model, learner.average, learner.phases)
        try:
            compare(path, expected(table, *weights, learner.powers), table)
            if missing := _REQUIRED - header.keys():
                raise KeyError(min(missing))
            for part in kept:
                part.load(header)
            unpack(read_file(path)[1], *weights, learner.optimisers, learner.powers)
        except _DAMAGE as error:
            if self.overridden:
                names = ", ".join(self.overridden)
                raise UsageError(
                    f"{path} cannot continue with another {names:.200}. Choose another --out"
                ) from error
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(
                f"{path} is damaged ({error!s:.80}). Choose another --out"
            ) from error
        return True

    def _check(self, header: dict[str, Any]) -> None:
        """Check that a state's header belongs to this run; with ``override``, record differences.

        Raises:
            UsageError: settings differ, and ``override`` is False.
            ModelFileError: the header is damaged or is not that of a state.
        """
        path = self.path / STATE_NAME
        if header.get("kind") != "state":
            raise ModelFileError(f"{path} is not a training state. Choose another --out")
        before, now = header.get("identity"), self.identity()
        if not isinstance(before, dict):
            raise ModelFileError(f"{path} is damaged (identity). Choose another --out")
        before = completed(before, type(self.setup.config))
        pairs = {k: (before.get(k), now.get(k)) for k in {**before, **now}}
        differing = {k: pair for k, pair in pairs.items() if pair[0] != pair[1]}
        images = self._other_images(before) if IMAGES in differing else ""
        if differing and not self.setup.override:
            raise other_settings(self.path, differing, images)
        self.overridden, self.told = differing, in_words(differing, images)

    def _other_images(self, before: dict[str, Any]) -> str:
        """Return how the images differ from those of the run, as text."""
        changes = changes_since(self.path, before.get(IMAGES), self._dataset)
        older = f" ({HIDDEN_COLOURS})" if self._dataset.shape.mode == "rgba" else ""
        if changes is None:
            return f"which of the images differ is not known, as the run has no list of them{older}"
        if changes == Changes():
            return f"the files are the same, but they are prepared or read in another way{older}"
        return str(changes)

    def write_previews(self, average: Model, images: int) -> float | None:
        """Write a grid of samples from fixed latents; with an encoder also one of reconstructions.

        Args:
            average: The averaged model, in eval mode.
            images: Images seen so far, for the file names.

        Returns:
            The mean PSNR of these reconstructions of training images, in dB; None without an
            encoder, or if the encoder gives only the first guess of a search.
        """
        folder = self.path / PREVIEWS_NAME
        made = {
            "gentool": __version__,
            "made_by": "train",
            "model": self.setup.model,
            "images": images,
        }
        draws = [(self.settings.seed, k) for k in range(_PREVIEW_IMAGES)]
        samples = grid(decode_blocks(average, prior_blocks(average, draws)))
        _put_preview(folder / f"{images:09d}.png", encode(samples, ".png", made))
        train = self._images.train
        chosen = np.linspace(0, len(train) - 1, _PREVIEW_IMAGES // 2).astype(np.int64)
        originals = train.images[chosen]
        try:
            codes = encode_blocks(average, originals)
        except NoEncoder:
            return None
        rebuilt = decode_blocks(average, codes)
        pairs = np.stack([originals, rebuilt], axis=1)
        sheet = grid(pairs.reshape(-1, *originals.shape[1:]), columns=8)
        _put_preview(folder / f"{images:09d}-reconstructions.png", encode(sheet, ".png", made))
        if average.search_steps:
            return None
        errors = [mean_squared_error(a, b) for a, b in zip(originals, rebuilt, strict=True)]
        return round(float(np.mean([psnr(error) for error in errors])), 2)


def _put_preview(path: Path, data: bytes) -> None:
    """Write a preview, but do not replace a file that gentool did not make."""
    if not os.path.lexists(path) or read_mark(path) is not None:
        put(path, data)
