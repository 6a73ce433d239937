"""The charts of a report: which series there are, what they mean, and their points."""

from collections.abc import Sequence
from dataclasses import dataclass

from gentool.report.reading import RunView
from gentool.report.thinning import SPEED, Bucket

_TABLE_ROWS = 12

# Name -> (title, what it means and which direction is better).
_MEANINGS = {
    "fd_random": (
        "Distance of samples to the images",
        "Frechet distance in the features of a fixed random network. Lower is better; 0 means that "
        "samples and images have the same distribution. The line fd_random/real is the distance "
        "that other images of the data have: the best that a model can reach.",
    ),
    "diversity": (
        "Diversity of samples",
        "Mean distance between samples, divided by that between images. 1 is as diverse as the "
        "images; far below 1, samples are alike.",
    ),
    "memorisation": (
        "Memorisation",
        "How often a sample is nearer to a training image than an unseen image would be. About "
        "0.5 if nothing is memorised, 1 for copies. Below 0.5, samples are far from the data.",
    ),
    "fd_augmented": (
        "Distance to augmented images",
        "As the distance above, to images with the augmentation of the discriminator. It should "
        "stay above the distance to the images themselves.",
    ),
    "elbo": ("Bound on log p(x)", "In nats per image. Higher is better."),
    "kl": ("Information in the latents (KL)", "In nats per image. Near 0, latents are not used."),
    "kl_largest_unit": ("KL of the latent with the most", "In nats per image."),
    "psnr": (
        "Reconstructions",
        "Peak signal-to-noise ratio of reconstructed training images, in dB. Higher is better.",
    ),
    "mse": ("Error of reconstructions", "Mean squared error of pixels. Lower is better."),
    "margin": (
        "Margin of the discriminator",
        "How far its outputs for real and generated images differ. 0: it cannot tell them apart.",
    ),
    "r1": ("Penalty R1", "Squared gradient of the discriminator at real images."),
    "r2": ("Penalty R2", "Squared gradient of the discriminator at generated images."),
    "gamma": ("Weight of the penalty", "Chosen from the variance of the images."),
    "ada_p": (
        "Strength of the augmentation",
        "It rises when the discriminator begins to memorise the images; 0.8 is the most.",
    ),
    "code_usage": ("Codes in use", "Share of the codes that images use. Near 0: collapsed."),
    "active_units": ("Latents in use", "Number of latents that carry information on the image."),
    "d_loss": ("Loss of the discriminator", "Near 0, the discriminator is too strong."),
    "g_loss": ("Loss of the generator", "It has no best value: read it with the samples."),
    SPEED: ("Speed", "Images per second, with the time for scores and saves. Higher is better."),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        run: Number of the run on the page.
        name: Name of the series.
        x: Images seen.
        y: Means.
        low: Lowest values; empty where they equal the means.
        high: Highest values.
    """

    run: int
    name: str
    x: list[int]
    y: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Chart:
    """One chart, and what it means.

    Attributes:
        name: Name of the series, or the part before the slash of several.
        title: For people.
        meaning: What is measured and which direction is better; empty if it is not known.
        lines: The lines.
        group: ``scores``, ``losses``, ``speed`` or ``more``.
    """

    name: str
    title: str
    meaning: str
    lines: list[Line]
    group: str

    def rows(self) -> list[tuple[int, str, int, float, float, float]]:
        """Return (run, series, images, mean, lowest, highest) of some points of every line."""
        found = []
        for line in self.lines:
            for k in evenly(len(line.x), max(2, _TABLE_ROWS // len(self.lines))):
                low, high = (line.low[k], line.high[k]) if line.low else (line.y[k],) * 2
                found.append((line.run, line.name, line.x[k], line.y[k], low, high))
        return found


def evenly(count: int, most: int) -> list[int]:
    """Return at most ``most`` numbers below ``count``, evenly, with the first and the last."""
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})


def make_charts(runs: Sequence[RunView]) -> list[Chart]:
    """Return the charts of one or several runs, scores first."""
    lines: dict[str, list[Line]] = {}
    scores: set[str] = set()
    for number, run in enumerate(runs):
        for name, is_score in run.log.names.items():
            buckets = (run.log.scores if is_score else run.log.lines).buckets
            if (line := _line(number, name, buckets)) is not None:
                lines.setdefault(name.partition("/")[0], []).append(line)
                scores |= {name} if is_score else set()
    charts = []
    for name, several in lines.items():
        title, meaning = _MEANINGS.get(name, (name[:60], ""))
        charts.append(Chart(name[:60], title, meaning, several, _group(name, name in scores)))
    order = ["scores", "losses", "speed", "more"]
    return sorted(charts, key=lambda chart: order.index(chart.group))


def _group(name: str, is_score: bool) -> str:
    if is_score:
        return "scores"
    if name == SPEED:
        return "speed"
    return "more" if name.startswith(("grad_", "skipped_")) else "losses"


def _line(run: int, name: str, buckets: Sequence[Bucket]) -> Line | None:
    """Return the line of a series; None if it has no values."""
    some = [bucket for bucket in buckets if name in bucket.series]
    if not some:
        return None
    thin = any(bucket.is_thin(name) for bucket in some)
    low = [_short(bucket.low(name)) for bucket in some] if thin else []
    high = [_short(bucket.high(name)) for bucket in some] if thin else []
    means = [_short(bucket.mean(name)) for bucket in some]
    return Line(run, name[:60], [bucket.images for bucket in some], means, low, high)


def _short(value: float) -> float:
    return float(f"{value:.5g}")
