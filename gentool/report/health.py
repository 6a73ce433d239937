"""What the log and the warnings of a run say about it, in plain words with what to change."""

from dataclasses import dataclass
from itertools import islice

from gentool.report.facts import DIVERGED, DONE, STOPPED, TRAINING
from gentool.report.reading import RunView
from gentool.report.thinning import Bucket

GOOD, NOTE, BAD = "good", "note", "bad"
_WORSE = 1.1  # the last score is reported as worse if it is over this times the best
_SHORT = 0.5  # fraction of the usual images below which a run is called short
_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One sentence on a run.

    Attributes:
        level: ``GOOD``, ``NOTE`` or ``BAD``.
        words: What was found and what to do.
    """

    level: str
    words: str


def examine(run: RunView) -> list[Finding]:
    """Return what is known about the health of a run; the worst first."""
    found = [*_end(run), *_warnings(run), *_score(run), *_length(run)]
    if not any(finding.level == BAD for finding in found) and run.log.last:
        found.append(Finding(GOOD, "Nothing unusual was found in the log."))
    order = [BAD, NOTE, GOOD]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _end(run: RunView) -> list[Finding]:
    setbacks = [note["setback"] for note in run.log.notes if "setback" in note]
    found = []
    if setbacks:
        last = f"{setbacks[-1]!s:.100}"
        found.append(
            Finding(
                BAD,
                f"Numbers became infinite or undefined {len(setbacks):,} times (the last: {last}); "
                "each time the run went back and halved its learning rate. Use a smaller --lr.",
            )
        )
    if run.state == DIVERGED:
        found.append(Finding(BAD, f"The run diverged: {run.facts.ended}"))
    elif run.state == STOPPED:
        found.append(
            Finding(NOTE, "The run is stopped and can be continued with the command below.")
        )
    elif run.state not in (DONE, TRAINING):
        found.append(Finding(BAD, f"The run ended with an error: {run.facts.ended}"))
    return found


def _warnings(run: RunView) -> list[Finding]:
    """Return the warnings of the command, and those of the model that the log gives."""
    found = {
        warned.message: f"{_sentence(warned.message)} (at {warned.images:,} images)"
        for warned in run.facts.warnings
    }
    faults = {message.partition(":")[0] for message in found}
    for message in _advice(run):
        if message.partition(":")[0] not in faults:
            faults.add(message.partition(":")[0])
            found[message] = _sentence(message)
    return [Finding(BAD, words) for words in islice(found.values(), _SHOWN)]


def _advice(run: RunView) -> list[str]:
    """Return what the model itself says about the lines of the log."""
    if run.model is None:
        return []
    total = max((bucket.images for bucket in run.log.lines.buckets), default=0)
    messages = []
    for bucket in run.log.lines.buckets:
        try:
            words = run.model.advice.health(_record(bucket, run.share * bucket.images / total))
        except (KeyError, ZeroDivisionError, RuntimeError):  # values that are missing here
            continue
        if words is not None:
            messages.append(words)
    return messages


def _record(bucket: Bucket, share: float) -> dict[str, float]:
    return {name: bucket.mean(name) for name in bucket.series} | {"share": share}


def _score(run: RunView) -> list[Finding]:
    """Compare the last score with the best one."""
    scores = [b for b in run.log.scores.buckets if "fd_random" in b.series]
    if len(scores) < 2:
        return []
    best = min(scores, key=lambda bucket: bucket.low("fd_random"))
    last, least = scores[-1].mean("fd_random"), best.low("fd_random")
    if last > _WORSE * least:
        kept = " best.safetensors holds that model." if run.has_best else ""
        return [
            Finding(
                NOTE,
                f"The last distance to the images, {last:.4g}, is worse than {least:.4g} at "
                f"{best.images:,} images.{kept}",
            )
        ]
    return [Finding(GOOD, f"The distance to the images fell to {last:.4g}, near its best value.")]


def _length(run: RunView) -> list[Finding]:
    """Compare the images seen with what the preset usually trains on."""
    usual, seen = run.facts.usual, run.images
    if not usual or not seen or seen >= _SHORT * usual:
        return []
    speed, more = run.speed, ""
    if speed > 0:
        more = f" At {speed:,.3g} images/s the rest takes {_duration((usual - seen) / speed)}."
    return [
        Finding(
            NOTE,
            f"The run has seen {seen:,} of the {usual:,} images that this preset trains on by "
            f"default, so the model is unfinished. Continue it with a larger budget.{more}",
        )
    ]


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"about {minutes:,.0f} minutes" if minutes < 120 else f"about {minutes / 60:,.0f} hours"


def _sentence(words: str) -> str:
    """Return a message as a sentence: it begins with a capital letter and ends with a stop."""
    whole = words[:1].upper() + words[1:]
    return whole if whole.endswith((".", "!", "?")) else f"{whole}."
