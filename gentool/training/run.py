"""Executing a plan: prepare the images, measure the batch, train, and list the bad files.

This is what ``gentool train`` and ``gentool.train`` have in common. It prints nothing; it calls
the methods of an ``Observer``, which may print.
"""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from gentool.core.distributed import Ranks
from gentool.core.errors import DataError, Stopped, UsageError
from gentool.core.messages import WARNING
from gentool.core.signals import StopFlag
from gentool.data import Dataset, Split, prepare, write_bad_files
from gentool.data.sources.labels import FROM_FOLDERS
from gentool.outputs.ownership import refuse_foreign_run
from gentool.training.batch_search import choose_batch, with_batch
from gentool.training.identity import IMAGES, SPLIT, state_of
from gentool.training.loop import TrainResult, train
from gentool.training.plan import Plan, about_classes, small_batch_words
from gentool.training.reporter import Reporter
from gentool.training.run_data import rewritten_since
from gentool.training.run_lock import refuse_if_locked
from gentool.training.setup import Setup


class Observer(Reporter, Protocol):
    """What is informed of the preparation of images, and then of the training."""

    def planned(self, plan: Plan) -> None:
        """The plan is about to be executed."""

    def intake(self, done: int, total: int) -> None:
        """So many images of all are prepared."""

    def prepared(self, dataset: Dataset, total: int) -> None:
        """All images of a source of ``total`` images are prepared."""

    def note(self, message: str) -> None:
        """A choice was made while the run was set up."""


def execute(
    plan: Plan, observer: Observer, stop: StopFlag, ranks: Ranks, *, strict: bool = False
) -> tuple[TrainResult, Path | None]:
    """Train, or continue, the run of a plan.

    Args:
        plan: What ``make_plan`` returned.
        observer: Is informed of what happens.
        stop: Ends the run when it is set; the state is saved first.
        ranks: The processes that train together.
        strict: Whether the first bad file ends the run.

    Returns:
        The result, and the list of bad files if there were any.

    Raises:
        Stopped: asked to stop, and the state is saved; or the disk is full.
        UsageError, DataError, Diverged, DeviceError: as in ``loop.train``.
    """
    plan = _agree_on_seed(plan, ranks)
    setup, source = plan.setup, plan.source
    if ranks.first:
        refuse_if_locked(setup.out)
        refuse_foreign_run(setup.out)
    observer.planned(plan)
    source.reread &= ranks.first
    with ranks.first_before_others():  # the others find the cache that the first one made
        settings = setup.settings
        dataset = prepare(
            source, setup.preprocessing, observer.intake,
            cache=settings.cache, max_bad=settings.max_bad, strict=strict, sample=plan.sample,
        )  # fmt: skip
    plan.sample.forget()
    _refuse_one_class(dataset, settings.labels)
    images = _split(dataset, setup)
    told = (*dataset.notes, *about_classes(setup, images.train.dataset))
    observer.prepared(replace(dataset, notes=told), len(source))
    if rewritten := rewritten_since(setup.out, images.train.dataset):
        observer.note(rewritten)
    _check_sides(images, setup, ranks, observer)
    if plan.batch_is_open and len(images.train) < setup.settings.batch:
        observer.note(small_batch_words(len(images.train), setup.settings.batch))
        setup = with_batch(setup, len(images.train))
    if plan.batch_is_measured:
        if ranks.count > 1:
            raise UsageError(
                f"--batch auto works with one process, not with {ranks.count}. Give --batch N, for "
                "all processes together"
            )
        batch, why = choose_batch(images, setup, stop)
        observer.note(why)
        setup = with_batch(setup, batch)
    try:
        result = train(images, setup, observer, stop)
    except Stopped:
        if ranks.first:
            write_bad_files(setup.out, dataset.bad)
        raise
    return result, write_bad_files(setup.out, dataset.bad) if ranks.first else None


def _refuse_one_class(dataset: Dataset, labels: str | None) -> None:
    """Check that the class folders that were asked for are still several.

    Raises:
        DataError: none of the images of the others can be read.
    """
    if labels == FROM_FOLDERS and dataset.with_empty is not None and len(dataset.classes) < 2:
        path, reason = dataset.bad[0]
        raise DataError(
            f"--labels {FROM_FOLDERS}: only the folder {dataset.classes[0]:.100} has images that "
            f"can be read; the first that cannot: {path}: {reason}. Repair them, or leave --labels "
            "out"
        )


def _check_sides(images: Split, setup: Setup, ranks: Ranks, observer: Observer) -> None:
    """Check that there are images to train on, and note when ``--holdout`` holds out none.

    Raises:
        DataError: there are too few images to train on.
    """
    total, train, share = len(images.train.dataset), len(images.train), setup.settings.holdout
    if not train:
        raise DataError(
            f"--holdout {share:g} keeps all {total:,} images out of training. Give more images, a "
            "smaller --holdout, or --holdout 0"
        )
    if train < ranks.count:
        raise DataError(
            f"{ranks.count} processes need as many training images, and there are {train:,}. Start "
            f"at most {train:,}"
        )
    if share and not len(images.held_out):
        observer.note(
            f"{WARNING}--holdout {share:g} holds out none of {total:,} image{'s' * (total != 1)}, "
            "as they are chosen by their content: evaluate will have no held-out images"
        )


def _split(dataset: Dataset, setup: Setup) -> Split:
    """Return the two sides of the data set, as the run in the folder has them if one began there.

    Runs of older versions may have classes without images to train on.
    """
    began = state_of(setup.out)
    if began is None:
        return dataset.split(setup.settings.holdout)
    identity = began.get("identity")
    if isinstance(identity, dict):
        dataset = dataset.as_before(identity.get(IMAGES))
    return dataset.split(setup.settings.holdout, keep_classes=began.get("split") == SPLIT)


def _agree_on_seed(plan: Plan, ranks: Ranks) -> Plan:
    """Return the plan with the random seed that the first process drew, for all processes."""
    if not plan.random_seed:
        return plan
    high, low = divmod(plan.setup.settings.seed, 2**32)
    high, low = (int(ranks.agree(float(part))) for part in (high, low))  # a float holds each part
    setup = plan.setup
    return replace(
        plan, setup=replace(setup, settings=replace(setup.settings, seed=high * 2**32 + low))
    )
