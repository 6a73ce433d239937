"""The command ``gentool list``: list models, their parts, and the options of a model."""

from dataclasses import replace

import typer

from gentool.cli import options
from gentool.cli.console import emit, emit_json, emit_table
from gentool.core.registry import unknown_name


def command(
    what: str = typer.Argument(
        None, metavar="[WHAT]", help="Name of a table, such as losses, or of a model."
    ),
    as_json: options.Json = False,
) -> None:
    """List the models and their parts, or the options of one model.

    gentool list

    gentool list gan
    """
    from gentool.models.presets import PRESETS

    if what in PRESETS:
        _list_options(what, as_json=as_json)
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
    from gentool.data.sources.builtin import BUILTIN
    from gentool.models.augmentation import AUGMENTATIONS
    from gentool.models.gan.losses import LOSSES
    from gentool.models.gan.penalties import PENALTIES
    from gentool.models.likelihoods import LIKELIHOODS
    from gentool.models.presets import PRESETS
    from gentool.models.priors import PRIORS
    from gentool.models.quantisers import QUANTISERS
    from gentool.models.vae.regularisers import REGULARISERS
    from gentool.networks import PAIRS

    return {
        "models": {name: preset.meaning for name, preset in PRESETS.items()},
        "networks": PAIRS.describe(),
        "losses": LOSSES.describe(),
        "penalties": PENALTIES.describe(),
        "augmentations": AUGMENTATIONS.describe(),
        "likelihoods": LIKELIHOODS.describe(),
        "regularisers": REGULARISERS.describe(),
        "priors": PRIORS.describe(),
        "quantisers": QUANTISERS.describe(),
        "data": {f"builtin:{k}": v for k, v in BUILTIN.describe().items()},
    }


def _list_options(name: str, *, as_json: bool) -> None:
    """Print the options of a preset's model, with the preset's values for a CPU as defaults."""
    from gentool.core.options import describe
    from gentool.models import MODELS
    from gentool.models.presets import PRESETS

    preset = PRESETS[name]
    rows = [
        replace(row, default=preset.cpu.get(row.name, row.default))
        for row in describe(MODELS.get(preset.model).Config)
    ]
    if as_json:
        emit_json({r.name: {"type": r.type, "default": r.default, "meaning": r.meaning}
                   for r in rows})  # fmt: skip
        return
    emit(f"options of {name}, for -o name=value")
    emit_table((r.name, r.type, str(r.default), r.meaning) for r in rows)
