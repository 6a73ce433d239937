"""``gentool.evaluate``: the command ``gentool evaluate`` as a function."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gentool.core.devices import select_device
from gentool.core.registry import unknown_name
from gentool.core.signals import StopFlag
from gentool.evaluation.evaluate import evaluate as evaluate_request
from gentool.evaluation.request import Evaluation, Request
from gentool.evaluation.split import SPLITS

_NOT_SETTINGS = ("targets", "data", "metrics", "device", "pictures", "files")


def evaluate(
    targets: str | Path | Sequence[str | Path],
    data: str | Path | Sequence[str | Path],
    *,
    metrics: str | Sequence[str] = (),
    device: str = "auto",
    **settings: Any,
) -> Evaluation:
    """Score models, or images, against images.

    Args:
        targets: Model files, run folders, or images: folders, archives, ``.npz``.
        data: Images to compare with, as ``gentool.train`` takes them.
        metrics: Names of metrics, in a sequence or joined by commas; none for all that a target
            can have.
        device: Device on which models run: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        settings: ``count``, ``seed``, ``split``, ``features``, ``weights``, ``download``,
            ``importance``, ``likelihood_images``, ``size``, ``mode``, ``fit``, ``background``,
            ``levels``, ``labels`` and ``max_bad``, as the flags of ``gentool evaluate``.

    Returns:
        ``table`` holds the scores of each target by name, ``protocol`` how they came about.

    Raises:
        ModelFileError: a target that is neither a model nor images.
        UsageError: settings that do not exist or contradict each other, or nothing to measure.
        DataError: images that cannot be used, or a split that cannot be known.
        Stopped: Ctrl-C or another signal came.
    """
    allowed = [f.name for f in fields(Request) if f.name not in _NOT_SETTINGS]
    for name in settings:
        if name not in allowed:
            raise unknown_name("setting", name, allowed, "help(gentool.evaluate)")
    if (split := settings.get("split", "auto")) not in SPLITS:
        raise unknown_name("split", str(split), list(SPLITS), "help(gentool.evaluate)")
    if isinstance(metrics, str):
        metrics = metrics.split(",")
    if settings.get("weights") is not None:
        settings["weights"] = Path(settings["weights"])
    request = Request(
        tuple(map(Path, _several(targets))),
        tuple(map(str, _several(data))),
        tuple(metrics),
        device=select_device(device),
        **settings,
    )
    with StopFlag() as stop:
        return evaluate_request(request, lambda: stop.poll("stopped; nothing was scored"))


def _several(given: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    """Return one or several, as several."""
    return [given] if isinstance(given, str | Path) else given
