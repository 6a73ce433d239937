"""How samples are drawn: the options that several verbs share, each known to some models only."""

from typing import Annotated

import typer

from gentool.config import Scalar

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


def chosen(
    truncation: float | None, temperature: float | None, top_k: int | None, top_p: float | None
) -> dict[str, Scalar]:
    """Those that were given, as ``Model.draw_with`` takes them; it refuses what a model lacks."""
    given = {
        "truncation": truncation,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
    }
    return {name: value for name, value in given.items() if value is not None}
