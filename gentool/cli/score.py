"""The command ``gentool score``: sort images by their likelihood under a model."""

from pathlib import Path

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, refuse_unfit_stdout, say
from gentool.core.errors import DataError, PartialSuccess
from gentool.core.signals import StopFlag


def command(
    images: options.Images,
    model: Path = typer.Option(
        ..., "--model", "-m", metavar="MODEL", help="Model file or run folder.", readable=False
    ),
    samples: int = typer.Option(
        16, "--importance", min=1, max=10**6, metavar="K",
        help="Importance samples per image; more samples give a tighter bound.",
    ),
    device: options.Device = "auto",
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Sort images by their likelihood under a model, with outliers first.

    gentool score photos/ --model runs/vae-faces

    gentool score photos/ --model runs/vae-faces | head

    Prints the bound on log p(x) in nats, bits per dimension and the path, separated by tabs.
    Prints to stderr whether it is a log mass or a log density, which are not comparable.
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    from gentool.checkpoint import load_model
    from gentool.core.devices import select_device
    from gentool.evaluation.outliers import bounds
    from gentool.inference.reconstruction import find_images, read_images
    from gentool.models.capabilities import required_likelihood

    with StopFlag() as stop:
        loaded = load_model(model, select_device(device))
        wanted = find_images(images)
        good, bad = read_images(loaded, wanted, say)
        for path, reason in bad.items():
            say(f"error: {path}: {reason}")
        if not good:
            raise DataError(f"none of {len(wanted)} images can be read")
        found, refused = bounds(
            loaded, good, samples, lambda: stop.poll("stopped; nothing was scored")
        )
        for path, reason in refused.items():
            say(f"error: {path}: {reason}")
        if not found:
            raise DataError(f"{loaded.path} can score none of the {len(wanted)} images")
    variational = required_likelihood(loaded.model.variational)
    if as_json:
        rows = [
            {"image": str(b.path), "nats": b.nats, "bits_per_dim": b.bits_per_dim} for b in found
        ]
        kind = "mass" if variational.discrete else "density"
        emit_json({"images": rows, "importance": samples, "kind": kind})
    else:
        for bound in found:
            figures = () if print0 else (f"{bound.nats:.2f}", f"{bound.bits_per_dim:.4f}")
            emit(*figures, bound.path, print0=print0)
    say(
        f"bounds on log p(x) in nats with {samples} importance samples, a log {variational.measure}"
    )
    if bad or refused:
        failed = len(bad) + len(refused)
        raise PartialSuccess(f"{failed} of {len(wanted)} images cannot be scored")
