"""Options and arguments that several commands share, each declared once.

``Device``, ``Json`` and the like are annotations of a command's parameters. Where only the help
differs between commands, a function takes the help: ``Annotated[str, output("Folder.")]``.
"""

from copy import copy
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from gentool.cli.seeds import parse_seed
from gentool.core.options import Scalar

Model = Annotated[
    Path, typer.Argument(help="Model file or run folder.", metavar="MODEL", readable=False)
]
Images = Annotated[
    list[Path],
    typer.Argument(help="Images, or folders of them.", metavar="IMAGE...", readable=False),
]

# Images that a command reads, and their preparation
Spec = Annotated[str, typer.Argument(help="Images, as for train --data.", metavar="SPEC")]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="SIZE", help="64 or HEIGHTxWIDTH, as in train."),
]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="grey, rgb or rgba.")]
Fit = Annotated[
    str, typer.Option("--fit", metavar="NAME", help="crop (the centre), pad or stretch.")
]
Background = Annotated[
    str, typer.Option("--background", metavar="COLOUR", help="Colour behind transparent pixels.")
]
Levels = Annotated[
    str,
    typer.Option(
        "--levels", metavar="LEVELS",
        help="Black and white of 16-bit, 32-bit or float images: auto, full or LOW:HIGH.",
    ),
]  # fmt: skip
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels", metavar="FILE", help="CSV or JSON of path,label, FILE:COLUMN, folders or none."
    ),
]
MaxBad = Annotated[
    float,
    typer.Option(
        "--max-bad",
        metavar="SHARE",
        min=0,
        max=1,
        help="Fraction of images that may lack a label.",
    ),
]
AllFrames = Annotated[bool, typer.Option("--all-frames", help="Use every frame of animated files.")]

# How samples are drawn; each option works with some models only
Truncation = Annotated[
    float | None,
    typer.Option(
        "--truncation", min=0, max=1, metavar="PSI",
        help="Below 1: samples nearer to the mean, with fewer faults and less variety.",
    ),
]  # fmt: skip
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        min=0,
        metavar="T",
        help="Factor on the randomness of samples; 1: as trained.",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", min=0, metavar="K", help="Draw only from the K most probable codes."),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p", min=0, max=1, metavar="P",
        help="Draw only from the most probable codes up to a total probability of P.",
    ),
]  # fmt: skip

# What a command writes, and where it computes
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace files that gentool wrote with other settings, but never an input or a model "
        "of a run.",
    ),
]  # fmt: skip
ImageFormat = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="NAME",
        help="Format of single files in a folder or tar: png (default), jpg or webp.",
    ),
]  # fmt: skip
SaveLatents = Annotated[
    Path | None,
    typer.Option(
        "--save-latents", metavar="FILE",
        help="Also write the latents, as .safetensors, for sample and interpolate.",
    ),
]  # fmt: skip
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
]
Print0 = Annotated[
    bool,
    typer.Option("--print0", help="End each path with a zero byte, for xargs -0."),
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")]


def output(meaning: str, metavar: str = "WHERE") -> Any:
    """Return the option ``-o``, with what the command can write."""
    return typer.Option("-o", "--output", metavar=metavar, help=meaning)


def seed(meaning: str) -> Any:
    """Return the option ``--seed`` of a command that needs the number at once."""
    return typer.Option(
        "--seed", metavar="SEED", help=f"{meaning} random draws a new one.", parser=str,
        callback=parse_seed,
    )  # fmt: skip


def class_name(meaning: str) -> Any:
    """Return the option ``--class``, with what has this class."""
    return typer.Option("--class", metavar="NAME", help=meaning)


def download(meaning: str) -> Any:
    """Return the option ``--download``, with what it fetches."""
    return typer.Option("--download", help=meaning)


def in_panel(shared: Any, panel: str) -> OptionInfo:
    """Return the declaration of a shared option for the section ``panel`` of ``--help``."""
    declared: OptionInfo = copy(shared.__metadata__[0])
    declared.rich_help_panel = panel
    return declared


def given_draws(**options: Scalar | None) -> dict[str, Scalar]:
    """Return the options of drawing that were given, as arguments for ``Model.draw_with``.

    ``Model.draw_with`` raises an error for options that the model does not have.
    """
    return {name: value for name, value in options.items() if value is not None}
