"""What a person sees of a training: a live display on a terminal, plain lines elsewhere."""

import time
from typing import TYPE_CHECKING

from gentool.core.atomic_files import PREVIEWS_NAME, REPORT_NAME
from gentool.core.messages import WARNING, say
from gentool.core.progress_bar import ProgressBar
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.data import Dataset
    from gentool.evaluation.quick_score import Score
    from gentool.training.plan import Plan

_USED_NATS = 0.1  # per image, of a layer of latents that is in use
_NOT_LOSSES = {"images", "seconds", "share", "images_per_second"}


def _layers(record: dict[str, float]) -> list[str]:
    """Return the number of layers of latents in use, for a record with the KL of each layer."""
    nats = [value for name, value in record.items() if name.startswith("kl/")]
    used = sum(value > _USED_NATS for value in nats)
    return [f"layers in use {used} of {len(nats)}"] if nats else []


def _sizes(plan: "Plan") -> str:
    """Return width, batch, learning rate and budget of a run in words."""
    settings = plan.setup.settings
    budget = f"{settings.images:,} images" if settings.images else f"{settings.minutes:g} minutes"
    batch = "to be measured" if plan.batch_is_measured else f"{settings.batch}"
    width, lr = plan.setup.config.width, settings.lr
    return (
        f"width {width}, batch {batch}, lr {lr:g}, {budget} (--dry-run shows all settings, and why)"
    )


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
        super().__init__(quiet=quiet)
        self._preview, self._plan = preview, None  # type: tuple[bool, Plan | None]
        self._stop, self._total = stop, total_images
        self._began: tuple[float, float] | None = None
        self._share = 0.0

    def planned(self, plan: "Plan") -> None:
        """Print what will be trained on what, and why."""
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
        say(f"continuing at {images:,} images")

    def progress(self, images: int, share: float) -> None:
        """Show the progress of the training; called after every step."""
        now = time.monotonic()
        self._began = self._began or (now, share)
        self._share = share
        if self.live:
            total = self._total or (round(images / share) if share > 0 else images)
            self.show("training", images, max(total, images))

    def logged(self, record: dict[str, float]) -> None:
        """Show a line of the log."""
        hidden = {k for k in record if k[:5] == "grad_" or "/" in k}  # a slash: one of many layers
        hidden |= {k for k, v in record.items() if k[:8] == "skipped_" and not v}
        shown = {k: v for k, v in record.items() if k not in hidden | _NOT_LOSSES}
        losses = "  ".join([*(f"{k} {v:.4g}" for k, v in shown.items()), *_layers(record)])
        speed = f"{record['images_per_second']:.0f} images/s"
        if self.live:
            self.annotate("training", f"{speed}  {losses}")
        elif self.line_is_due() or (record["share"] >= 1 and not self._quiet):
            total = (
                f" of {self._total:,}" if self._total else f" ({record['share']:.0%} of the time)"
            )
            say(f"{record['images']:,.0f}{total} images  {speed}  {self._left()}  {losses}")

    def scored(self, images: int, score: "Score") -> None:
        """Print a score and its warnings."""
        if not self._quiet:
            words = "  ".join(f"{k} {v:.4g}" for k, v in score.record.items())
            say(f"scored at {images:,} images: {words}")
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

    def _left(self) -> str:
        """Return the time left, estimated from the speed of this command."""
        if self._began is None or self._share <= self._began[1]:
            return "? left"
        pace = (time.monotonic() - self._began[0]) / (self._share - self._began[1])
        seconds = round(pace * max(0.0, 1 - self._share))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
