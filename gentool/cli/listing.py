"""``gentool list``: what there is to choose from."""

import typer

from gentool.cli.console import emit, emit_json, emit_table
from gentool.registry import unknown_name


def command(
    what: str = typer.Argument(
        None, metavar="[WHAT]", help="models, losses, likelihoods, data, or a model's name."
    ),
    as_json: bool = typer.Option(False, "--json", help="Result as JSON on stdout."),
) -> None:
    """Show models, losses, likelihoods and built-in data; or one model's options.

    gentool list

    gentool list gan
    """
    from gentool.presets import PRESETS

    if what in PRESETS:
        _list_options(PRESETS[what].model, as_json=as_json)
        return
    tables = _tables()
    if what is not None and what not in tables:
        raise unknown_name("table or model", what, [*tables, *PRESETS], "gentool list")
    chosen = {what: tables[what]} if what else tables
    if as_json:
        emit_json(chosen)
        return
    for title, rows in chosen.items():
        emit(title)
        emit_table(rows.items())


def _tables() -> dict[str, dict[str, str]]:
    from gentool.data.procedural import BUILTIN
    from gentool.models import MODELS
    from gentool.models.adversarial import LOSSES
    from gentool.models.likelihoods import LIKELIHOODS

    return {
        "models": MODELS.describe(),
        "losses": LOSSES.describe(),
        "likelihoods": LIKELIHOODS.describe(),
        "data": {f"builtin:{k}": v for k, v in BUILTIN.describe().items()},
    }


def _list_options(model: str, *, as_json: bool) -> None:
    from gentool.config import describe
    from gentool.models import MODELS

    rows = describe(MODELS.get(model).Config)
    if as_json:
        emit_json({r.name: {"type": r.type, "default": r.default, "meaning": r.meaning}
                   for r in rows})  # fmt: skip
        return
    emit(f"options of {model}, as -o name=value")
    emit_table((r.name, r.type, str(r.default), r.meaning) for r in rows)
