"""What a person sees of a training: a live display on a terminal, plain lines elsewhere."""

import time
from typing import TYPE_CHECKING

from gentool.core.atomic_files import PREVIEWS_NAME, REPORT_NAME
from gentool.core.messages import WARNING, say
from gentool.core.progress_bar import ProgressBar, clock
from gentool.core.signals import StopFlag
from gentool.training.outlook import (
    PSNR,
    REAL,
    SCORE,
    SPEED,
    budget_words,
    figure_of,
    pace_words,
    status_lines,
)

if TYPE_CHECKING:
    from gentool.data import Dataset
    from gentool.evaluation.quick_score import Score
    from gentool.training.plan import Plan

_USED_NATS = 0.1  # per image, of a layer of latents that is in use
_NOT_LOSSES = {"images", "seconds", "share", SPEED}
_LINES_TO_SPEED = 2  # lines of the log, of five seconds each, after which the speed is told
_LEAST_LEFT = 10.0  # seconds left from which it is worth telling


def _layers(record: dict[str, float]) -> list[str]:
    """Return the number of layers of latents in use, for a record with the KL of each layer."""
    nats = [value for name, value in record.items() if name.startswith("kl/")]
    used = sum(value > _USED_NATS for value in nats)
    return [f"layers in use {used} of {len(nats)}"] if nats else []


def _sizes(plan: "Plan") -> str:
    """Return size, colours, width, batch and learning rate of a run in words."""
    settings, shape = plan.setup.settings, plan.setup.preprocessing.shape
    batch = "to be measured" if plan.batch_is_measured else f"{settings.batch}"
    width, lr = plan.setup.config.width, settings.lr
    return f"{shape}, width {width}, batch {batch}, lr {lr:g} (--dry-run shows all, and why)"


class Display(ProgressBar):
    """Shows a training on stderr; a context manager, so that the terminal is always restored.

    Args:
        stop: Polled while images are prepared, when there is nothing to save.
        total_images: Budget in images, or None when the clock is the budget.
        quiet: Print only warnings, bad files and what a continued run takes over.
        preview: Show the newest samples in the terminal after each save.
    """

    def __init__(
        self, stop: StopFlag, total_images: int | None, *, quiet: bool, preview: bool = False
    ) -> None:
        super().__init__(quiet=quiet, pictures=preview)
        self._preview, self._plan = preview, None  # type: tuple[bool, Plan | None]
        self._stop, self._total = stop, total_images
        self._began: tuple[float, float] | None = None
        self._share, self._lines, self._losses = 0.0, 0, ""
        self._speed: float | None = None
        self._score: float | None = None
        self._psnr: float | None = None

    def planned(self, plan: "Plan") -> None:
        """Print what will be trained on what, for how long, and why."""
        setup, settings = plan.setup, plan.setup.settings
        self._plan = plan
        if self._preview and not self.shows_colours:
            self.note("--preview shows nothing here: stderr is not a terminal with colours")
        if plan.random_seed:
            say(f"seed {settings.seed}, {plan.values['seed'].origin}")
        if not self._quiet:
            where = " and ".join(settings.data)
            say(f"{setup.preset} on {len(plan.source):,} images from {where}, {setup.device.type}")
        for note in [*plan.notes, _sizes(plan)]:
            if not self._quiet or note.startswith(WARNING):
                self.note(note)
        if not self._quiet:
            self.note(f"budget: {budget_words(settings.images, settings.minutes)}")
            self.note(f"report: {setup.out / REPORT_NAME}, written with each save")
        if plan.continued:
            say(plan.continued)

    def note(self, message: str) -> None:
        """Print one line below the first."""
        say(f"  {message}")

    def prepared(self, dataset: "Dataset", total: int) -> None:
        """Print what preparing the images showed, and which of them cannot be read."""
        from gentool.data.badfiles import note_on_own, without_own  # imports numpy

        for note in dataset.notes:
            if not self._quiet or note.startswith(WARNING):
                self.note(note)
        if own := note_on_own(dataset.bad):
            self.note(own)
        bad = without_own(dataset.bad)
        for path, reason in bad[:3]:
            say(f"skipped {path}: {reason}")
        if bad:
            say(f"skipped {len(bad):,} of {total:,} images that cannot be read")

    def intake(self, done: int, total: int) -> None:
        """Show how many images are prepared; raise ``Stopped`` if asked to stop."""
        self._stop.poll("stopped while preparing images; the prepared images are kept")
        self.pass_over("preparing images", done, total)
        if done == total:
            self.remove("preparing images")

    def resumed(self, images: int) -> None:
        """Print that a run continues, and from how many images."""
        total = f" of {self._total:,}" if self._total else ""
        say(f"continuing at {images:,} images{total}")

    def progress(self, images: int, share: float) -> None:
        """Show the progress of the training; called after every step."""
        now = time.monotonic()
        self._began = self._began or (now, share)
        self._share = share
        if self.live:
            self._show(images, share)

    def logged(self, record: dict[str, float]) -> None:
        """Show a line of the log."""
        hidden = {k for k in record if k[:5] == "grad_" or "/" in k}  # a slash: one of many layers
        hidden |= {k for k in record if k.startswith("skipped_") and not record[k]}
        shown = {k: v for k, v in record.items() if k not in _NOT_LOSSES | hidden}
        losses = [f"{k} {v:.4g}" for k, v in shown.items() if k != PSNR]
        self._losses = "  ".join([*losses, *_layers(record)])
        self._speed, self._psnr = record[SPEED], record.get(PSNR, self._psnr)
        self._count_lines(record["images"])
        if self.live and record["share"] >= 1:
            self._show(round(record["images"]), 1.0)
        if not self.live and (self.line_is_due() or (record["share"] >= 1 and not self._quiet)):
            done, left = record["share"] >= 1, self._left()
            seen = f"{record['images']:,.0f} images ({record['share']:.0%} of the time)"
            if self._total:
                seen = f"{record['images']:,.0f} of {self._total:,} images"
            rest = "" if done or left is None else f"{clock(left)} left"
            pace = f"{self._speed:,.0f} images/s"
            parts = (seen, pace, rest, self._figure()[0], self._losses)
            say("  ".join(filter(None, parts)))

    def _count_lines(self, images: float) -> None:
        """Print how long the budget takes, once the speed is known.

        The speed is that of the second line of the log, as the first steps are slower.
        """
        self._lines += 1
        if self._lines != _LINES_TO_SPEED or self._quiet or self._plan is None or not self._speed:
            return
        if (left := self._left()) is not None and left >= _LEAST_LEFT:
            settings = self._plan.setup.settings
            told = pace_words(settings.images, settings.minutes, images, left, self._speed)
            self.note(f"budget: {told}")

    def scored(self, images: int, score: "Score") -> None:
        """Print a score and its warnings."""
        self._score = score.distance
        if not self._quiet:
            others = {k: v for k, v in score.record.items() if k not in (SCORE, REAL)}
            words = "  ".join(f"{k} {v:.4g}" for k, v in others.items())
            real = score.record.get(REAL)
            beside = "" if real is None else f"; real images get {real:.3g}"
            long, _ = figure_of(score.distance, None)
            say(f"scored at {images:,} images: {long}{beside}  {words}")
        for warning in score.warnings.values():
            self.warned(warning)

    def saved(self, images: int) -> None:
        """Show the newest samples, if they are wanted."""
        if self._preview and self.shows_colours and self._plan is not None:
            setup = self._plan.setup
            sheet = setup.out / PREVIEWS_NAME / f"{images:09d}.png"
            self.show_picture(sheet, setup.preprocessing.shape)

    def warned(self, message: str) -> None:
        """Print a warning, even when quiet."""
        say(f"{WARNING}{message}")

    def _show(self, images: int, share: float) -> None:
        """Show the bar, with as much beside it as the line holds."""
        total = images if share >= 1 else self._total or round(images / max(share, 1e-9))
        left = None if share >= 1 else self._left()
        lines = status_lines(images, self._speed, left, self._figure(), self._losses)
        self.show("training", images, max(total, images), lines)

    def _figure(self) -> tuple[str, str]:
        """Return the number that tells most about the run, and a shorter form of it."""
        return figure_of(self._score, self._psnr)

    def _left(self) -> float | None:
        """Return the seconds left, estimated from the speed of this command; None if unknown."""
        if self._began is None or self._share <= self._began[1]:
            return None
        pace = (time.monotonic() - self._began[0]) / (self._share - self._began[1])
        return pace * max(0.0, 1 - self._share)
