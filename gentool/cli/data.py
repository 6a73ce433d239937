"""The commands ``gentool data``: inspect images before training, pack them, manage the cache."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gentool.cli import cache
from gentool.cli.console import Print0, emit, emit_json, emit_table, refuse_unfit_stdout, say
from gentool.cli.opening import Opening, open_data
from gentool.cli.progress import IntakeBar
from gentool.cli.writing import Overwrite
from gentool.core.errors import UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.core.images import ImageShape
    from gentool.data import Preprocessing
    from gentool.data.inspection import Survey

_SHOWN = 5  # most names or groups of a list that are printed; --json has all
app = typer.Typer(no_args_is_help=True, help="Look at images, pack them, tidy the cache.")

app.command("cache")(cache.command)

_SPEC = typer.Argument(help="Folder, archive or set, as for train --data.", metavar="SPEC")
_SIZE = typer.Option(None, "--size", metavar="SIZE", help="64 or HEIGHTxWIDTH, as in train.")
_MODE = typer.Option(None, "--mode", metavar="MODE", help="grey, rgb or rgba.")
_FIT = typer.Option("crop", "--fit", metavar="NAME", help="crop, pad or stretch.")
_BACKGROUND = typer.Option(
    "white", "--background", metavar="COLOUR", help="What transparency is laid on."
)
_LABELS = typer.Option(
    None,
    "--labels",
    metavar="FILE",
    help="CSV or JSON of path,label, FILE:COLUMN, folders or none.",
)
_ALL_FRAMES = typer.Option(False, "--all-frames", help="Every frame of animated files.")
_MAX_BAD = typer.Option(
    0.01, "--max-bad", metavar="SHARE", min=0, max=1, help="Share of images that may have no label."
)
_DOWNLOAD = typer.Option(False, "--download", help="Fetch what SPEC names, if it is not here.")
_JSON = typer.Option(False, "--json", help="Result as JSON on stdout.")


@app.command()
def check(
    spec: str = _SPEC,
    size: str = _SIZE,
    mode: str = _MODE,
    fit: str = _FIT,
    background: str = _BACKGROUND,
    labels: str = _LABELS,
    max_bad: float = _MAX_BAD,
    all_frames: bool = _ALL_FRAMES,
    download: bool = _DOWNLOAD,
    output: Path = typer.Option(None, "-o", "--output", metavar="FILE", help="A contact sheet."),
    overwrite: Overwrite = False,
    as_json: bool = _JSON,
) -> None:
    """Say what is there, what is broken or there twice, and what training would make of it.

    gentool data check ./photos

    gentool data check photos.zip -o sheet.png --json
    """
    from gentool.core.atomic_files import write_bytes
    from gentool.core.picture_files import SUFFIXES, encode
    from gentool.core.sheets import grid
    from gentool.data import Sample, make_preprocessing, resolve_shape
    from gentool.data.inspection import sheet_of, survey
    from gentool.outputs.marks import PICTURE
    from gentool.outputs.ownership import Guard
    from gentool.outputs.places import place_of

    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {output}: write the sheet as {', '.join(SUFFIXES)}")
    guard = Guard([place_of(spec)], overwrite, may_mix=True)
    if output is not None:
        guard.allow(output, PICTURE)
    with StopFlag() as stop, IntakeBar(stop, "looking at images") as bar:
        source = open_data([spec], Opening(labels, all_frames, download, max_bad=max_bad), stop)
        shape, notes = resolve_shape(Sample(source), size, mode, _largest_side())
        preprocessing = make_preprocessing(shape, fit, background)
        made = _recipe("data check", spec, preprocessing, labels, all_frames)
        if output is not None:
            guard.allow_recipe(output, PICTURE, made)
        found = survey(source, bar.update)
    if as_json:
        training = {"size": f"{shape.height}x{shape.width}", "mode": shape.mode, "why": notes}
        also = {"notes": source.notes, "training": training}
        emit_json({"data": spec, **_as_json(found), **also})
    else:
        _show(spec, found, shape, [*source.notes, *notes])
    if output is not None:
        sheet = encode(grid(sheet_of(source, preprocessing)), output.suffix.lower(), made)
        say(f"a contact sheet of what training sees: {write_bytes(output, sheet)}")


@app.command()
def pack(
    spec: str = _SPEC,
    out: Path = typer.Argument(help="The .zip to write.", metavar="OUT.zip"),
    size: str = _SIZE,
    mode: str = _MODE,
    fit: str = _FIT,
    background: str = _BACKGROUND,
    labels: str = _LABELS,
    max_bad: float = _MAX_BAD,
    all_frames: bool = _ALL_FRAMES,
    download: bool = _DOWNLOAD,
    overwrite: Overwrite = False,
    print0: Print0 = False,
    as_json: bool = _JSON,
) -> None:
    """Write the prepared images as PNG into a .zip, which is itself good for --data.

    gentool data pack ./photos photos64.zip --size 64
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    from gentool.data import Sample, make_preprocessing, resolve_shape
    from gentool.data.pack import pack as write_pack
    from gentool.outputs.marks import ARCHIVE, comment_of
    from gentool.outputs.ownership import Guard
    from gentool.outputs.places import place_of

    if out.suffix.lower() != ".zip":
        raise UsageError(f"{out}: write it as a .zip, for example {out.with_suffix('.zip')}")
    guard = Guard([place_of(spec)], overwrite)
    guard.allow(out, ARCHIVE, "OUT.zip")
    with StopFlag() as stop, IntakeBar(stop, "packing images") as bar:
        source = open_data([spec], Opening(labels, all_frames, download, max_bad=max_bad), stop)
        shape, _ = resolve_shape(Sample(source), size, mode, _largest_side())
        preprocessing = make_preprocessing(shape, fit, background)
        made = _recipe("data pack", spec, preprocessing, labels, all_frames)
        guard.allow_recipe(out, ARCHIVE, made)
        count, bad = write_pack(source, preprocessing, out, bar.update, partial(comment_of, made))
    _finish(out, count, shape, bad, source.notes, print0=print0, as_json=as_json)


@app.command()
def shards(
    spec: str = _SPEC,
    out: Path = typer.Argument(help="The folder to write.", metavar="FOLDER"),
    size: str = _SIZE,
    mode: str = _MODE,
    fit: str = _FIT,
    background: str = _BACKGROUND,
    labels: str = _LABELS,
    max_bad: float = _MAX_BAD,
    all_frames: bool = _ALL_FRAMES,
    download: bool = _DOWNLOAD,
    overwrite: Overwrite = False,
    print0: Print0 = False,
    as_json: bool = _JSON,
) -> None:
    """Write the prepared images as shards for sets beyond one disk: train on shards:FOLDER.

    gentool data shards ./photos photos64/ --size 64
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    from gentool.data import Sample, make_preprocessing, resolve_shape
    from gentool.data.sources.shards import write_shards
    from gentool.outputs.marks import SHARDS
    from gentool.outputs.ownership import Guard
    from gentool.outputs.places import place_of

    guard = Guard([place_of(spec)], overwrite)
    guard.allow(out, SHARDS, "FOLDER")
    with StopFlag() as stop, IntakeBar(stop, "writing shards") as bar:
        source = open_data([spec], Opening(labels, all_frames, download, max_bad=max_bad), stop)
        shape, _ = resolve_shape(Sample(source), size, mode, _largest_side())
        preprocessing = make_preprocessing(shape, fit, background)
        made = _recipe("data shards", spec, preprocessing, labels, all_frames)
        guard.allow_recipe(out, SHARDS, made)
        bad = write_shards(source, preprocessing, out, bar.update, made, replace=out.exists())
    _finish(out, len(source) - len(bad), shape, bad, source.notes, print0=print0, as_json=as_json)


def _recipe(
    verb: str, spec: str, preprocessing: "Preprocessing", labels: str | None, all_frames: bool
) -> dict[str, object]:
    """Return the recipe of a sheet, zip or folder of shards; it contains no full path."""
    from gentool.core.version import __version__
    from gentool.outputs.places import hash_of_place

    return {
        "gentool": __version__,
        "made_by": verb,
        "data": Path(spec).name or spec,
        "place": hash_of_place(spec),
        "shape": str(preprocessing.shape),
        "fit": preprocessing.fit,
        "background": preprocessing.background,
        "labels": None if labels is None else hash_of_place(labels),
        "all_frames": all_frames,
    }


def _finish(
    out: Path, count: int, shape: "ImageShape", bad: list[tuple[str, str]],
    notes: Sequence[str], *, print0: bool, as_json: bool,
) -> None:  # fmt: skip
    for note in notes:
        say(note)
    for name, reason in bad[:_SHOWN]:
        say(f"skipped {name}: {reason}")
    say(f"{count:,} images of {shape}" + (f", {len(bad):,} skipped" if bad else ""))
    if as_json:
        emit_json({"file": str(out), "images": count, "bad": bad})
    else:
        emit(out, print0=print0)


def _largest_side() -> int:
    from gentool.models.presets import largest_side

    return largest_side("cpu")


def _as_json(found: "Survey") -> dict[str, object]:
    return {
        "images": found.total,
        "readable": sum(found.modes.values()),
        "modes": found.modes,
        "formats": found.formats,
        "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in found.sizes.items()],
        "classes": found.classes,
        "duplicates": found.duplicates,
        "near_duplicates": found.near,
        "bad": [{"image": name, "reason": reason} for name, reason in found.bad],
    }


def _show(spec: str, found: "Survey", shape: "ImageShape", notes: list[str]) -> None:
    readable = sum(found.modes.values())
    sizes = [f"{h}x{w}" for w, h in sorted(found.sizes, key=lambda s: s[0] * s[1])]
    rows = [
        ("images", f"{found.total:,}, of which {readable:,} can be read"),
        ("formats", _counts(found.formats)),
        ("colour modes", _counts(found.modes)),
        ("sizes", sizes[0] if len(sizes) == 1 else f"{len(sizes)}, {sizes[0]} to {sizes[-1]}"),
        ("classes", _counts(found.classes) or "none"),
        ("same content", _groups(found.duplicates)),
        ("look alike", _groups(found.near) if found.near is not None else
         "not looked for (pip install 'gentool[check]')"),
        ("training", f"{shape}"),
    ]  # fmt: skip
    emit(spec)
    emit_table(rows)
    for note in notes:
        emit(f"  {note}")
    for name, reason in found.bad[:_SHOWN]:
        emit(f"  bad: {name}: {reason}")
    if len(found.bad) > _SHOWN:
        emit(f"  bad: {len(found.bad) - _SHOWN:,} more (--json lists them)")


def _counts(counted: dict[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counted.items())[: 4 * _SHOWN]]
    more = len(counted) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _groups(groups: list[list[str]]) -> str:
    if not groups:
        return "none"
    extra = sum(len(group) - 1 for group in groups)
    first = " = ".join(groups[0][:3])
    return f"{extra:,} images too many, in {len(groups):,} groups; the first: {first}"
