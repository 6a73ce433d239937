"""Options for drawing samples, shared by several commands; each works with some models only."""

from typing import Annotated

import typer

from gentool.core.options import Scalar

Truncation = Annotated[
    float | None,
    typer.Option(
        "--truncation", min=0, max=1, metavar="PSI",
        help="Towards the mean: below 1 fewer oddities and less variety.",
    ),
]  # fmt: skip
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", min=0, metavar="T", help="Spread of the draws: 1 as trained."),
]
TopK = Annotated[
    int | None,
    typer.Option("--top-k", min=0, metavar="K", help="Draw from the K likeliest tokens."),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p", min=0, max=1, metavar="P",
        help="Draw from the likeliest tokens that make up P in all.",
    ),
]  # fmt: skip
KeepTop = Annotated[
    int | None,
    typer.Option(
        "--keep-top", min=0, max=200, metavar="K",
        help="Variations: the first K layers of latents as in image 0 of the seed.",
    ),
]  # fmt: skip


def chosen(**options: Scalar | None) -> dict[str, Scalar]:
    """Return the options that were given, as arguments for ``Model.draw_with``.

    ``Model.draw_with`` raises an error for options that the model does not have.
    """
    return {name: value for name, value in options.items() if value is not None}
