"""The commands ``gentool data``: inspect images before training, pack them, manage the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gentool.cli import cache, options
from gentool.cli.console import emit, emit_json, emit_table, refuse_unfit_stdout, say
from gentool.cli.opening import Opening, open_data
from gentool.core.errors import UsageError
from gentool.core.signals import StopFlag

if TYPE_CHECKING:
    from gentool.core.images import ImageShape
    from gentool.data import Preprocessing, Source
    from gentool.data.inspection import Survey
    from gentool.data.intake import Intake

    # Number of images; (name, reason) of bad ones; what the source took and passed over.
    _Written = tuple[int, list[tuple[str, str]], Intake]

_SHOWN = 5  # most names or groups of a list that are printed; --json has all
app = typer.Typer(no_args_is_help=True, help="Check images, pack them, manage the cache.")

app.command("cache")(cache.command)

_Download = Annotated[bool, options.download("Download what SPEC names, if it is missing.")]


@dataclass(frozen=True)
class _Prepared:
    """The images that a command was given, and how they are prepared.

    Attributes:
        source: The images.
        shape: The shape they get.
        notes: Why the shape and the levels were chosen.
        preprocessing: How they get it.
        recipe: The recipe of what is made of them.
    """

    source: "Source"
    shape: "ImageShape"
    notes: list[str]
    preprocessing: "Preprocessing"
    recipe: dict[str, object]


@dataclass(frozen=True)
class _Request:
    """The images and the preparation that the options of a command name.

    Attributes:
        verb: Name of the command.
        spec: The images.
        size: Size that was given, or None.
        mode: Colour mode that was given, or None.
        how: The fit, the background and the levels.
        opening: How the images are opened.
    """

    verb: str
    spec: str
    size: str | None
    mode: str | None
    how: tuple[str, str, str]
    opening: Opening

    def open(self, stop: StopFlag) -> _Prepared:
        """Open the images and settle their shape."""
        from gentool.data import (
            Sample,
            about_given_size,
            make_preprocessing,
            resolve_levels,
            resolve_shape,
        )
        from gentool.models.presets import largest_side

        source = open_data([self.spec], self.opening, stop)
        sample, (fit, background, levels) = Sample(source), self.how
        largest = largest_side("cpu")
        shape, notes = resolve_shape(sample, self.size, self.mode, largest, fit)
        notes += about_given_size(sample, self.size, fit, largest)
        chosen, more = resolve_levels(sample, levels)
        preprocessing = make_preprocessing(shape, fit, background, levels=chosen)
        notes += more
        return _Prepared(source, shape, notes, preprocessing, self._recipe(preprocessing))

    def _recipe(self, preprocessing: "Preprocessing") -> dict[str, object]:
        """Return the recipe of a sheet, zip or folder of shards; it contains no full path."""
        from gentool.core.version import __version__
        from gentool.outputs.places import hash_of_place

        labels = self.opening.labels
        return {
            "gentool": __version__,
            "made_by": self.verb,
            "data": Path(self.spec).name or self.spec,
            "place": hash_of_place(self.spec),
            "shape": str(preprocessing.shape),
            "fit": preprocessing.fit,
            "background": preprocessing.background,
            **({"levels": str(preprocessing.levels)} if preprocessing.levels else {}),
            "labels": None if labels is None else hash_of_place(labels),
            "all_frames": self.opening.all_frames,
        }


@app.command()
def check(
    spec: options.Spec,
    size: options.Size = None,
    mode: options.Mode = None,
    fit: options.Fit = "crop",
    background: options.Background = "white",
    levels: options.Levels = "auto",
    labels: options.Labels = None,
    max_bad: options.MaxBad = 0.01,
    all_frames: options.AllFrames = False,
    download: _Download = False,
    output: Annotated[Path | None, options.output("Also write a contact sheet.", "FILE")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Report the images that SPEC has, which are bad or duplicates, and how training uses them.

    gentool data check ./photos

    gentool data check photos.zip -o sheet.png --json
    """
    from gentool.cli.progress import IntakeBar
    from gentool.core.atomic_files import write_bytes
    from gentool.core.picture_files import SUFFIXES, encode
    from gentool.core.sheets import grid
    from gentool.data.inspection import remarks_on, sheet_of, survey
    from gentool.outputs.marks import PICTURE
    from gentool.outputs.ownership import Guard
    from gentool.outputs.places import place_of

    if output is not None and output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {output}: the suffix of a sheet must be {', '.join(SUFFIXES)}")
    opening = Opening(labels, all_frames, download, max_bad=max_bad)
    request = _Request("data check", spec, size, mode, (fit, background, levels), opening)
    guard = Guard([place_of(spec)], overwrite, may_mix=True)
    if output is not None:
        guard.allow(output, PICTURE)
    with StopFlag() as stop, IntakeBar(stop, "inspecting images") as bar:
        images = request.open(stop)
        if output is not None:
            guard.allow_recipe(output, PICTURE, images.recipe)
        found = survey(images.source, bar.update, images.preprocessing.levels)
    shape = images.shape
    remarks = remarks_on(found, images.preprocessing)
    if as_json:
        training = {
            "size": f"{shape.height}x{shape.width}", "mode": shape.mode,
            "levels": str(images.preprocessing.levels or "full"), "why": images.notes,
        }  # fmt: skip
        also = {"notes": images.source.notes, "remarks": remarks, "training": training}
        emit_json({"data": spec, **_as_json(found), **also})
    else:
        _show(spec, found, shape, [*images.notes, *remarks])
    if output is not None:
        picture = grid(sheet_of(images.source, images.preprocessing))
        sheet = encode(picture, output.suffix.lower(), images.recipe)
        say(f"contact sheet of the images as training sees them: {write_bytes(output, sheet)}")


@app.command()
def pack(
    spec: options.Spec,
    out: Annotated[Path, typer.Argument(help="The .zip file to write.", metavar="OUT.zip")],
    size: options.Size = None,
    mode: options.Mode = None,
    fit: options.Fit = "crop",
    background: options.Background = "white",
    levels: options.Levels = "auto",
    labels: options.Labels = None,
    max_bad: options.MaxBad = 0.01,
    all_frames: options.AllFrames = False,
    download: _Download = False,
    overwrite: options.Overwrite = False,
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:
    """Write the prepared images as PNG into a .zip, which --data can read.

    gentool data pack ./photos photos64.zip --size 64
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    from gentool.data.pack import pack as write_pack
    from gentool.outputs.marks import ARCHIVE, comment_of

    if out.suffix.lower() != ".zip":
        raise UsageError(f"{out} must end in .zip, for example {out.with_suffix('.zip')}")
    opening = Opening(labels, all_frames, download, max_bad=max_bad)
    request = _Request("data pack", spec, size, mode, (fit, background, levels), opening)

    def write(images: _Prepared, update: Callable[[int, int], None]) -> "_Written":
        comment = partial(comment_of, images.recipe)
        count, bad = write_pack(images.source, images.preprocessing, out, update, comment)
        return count, bad, images.source.intake

    shape, written = _write(request, out, (ARCHIVE, "OUT.zip"), overwrite, "packing images", write)
    _finish(out, shape, written, print0=print0, as_json=as_json)


@app.command()
def shards(
    spec: options.Spec,
    out: Annotated[Path, typer.Argument(help="The folder to write.", metavar="FOLDER")],
    size: options.Size = None,
    mode: options.Mode = None,
    fit: options.Fit = "crop",
    background: options.Background = "white",
    levels: options.Levels = "auto",
    labels: options.Labels = None,
    max_bad: options.MaxBad = 0.01,
    all_frames: options.AllFrames = False,
    download: _Download = False,
    overwrite: options.Overwrite = False,
    print0: options.Print0 = False,
    as_json: options.Json = False,
) -> None:
    """Write the prepared images as shards, for very large sets. Train on them with shards:FOLDER.

    gentool data shards ./photos photos64/ --size 64
    """
    refuse_unfit_stdout(as_json=as_json, print0=print0)
    from gentool.data.sources.shards import write_shards
    from gentool.outputs.marks import SHARDS

    opening = Opening(labels, all_frames, download, max_bad=max_bad)
    request = _Request("data shards", spec, size, mode, (fit, background, levels), opening)

    def write(images: _Prepared, update: Callable[[int, int], None]) -> "_Written":
        source, recipe = images.source, images.recipe
        bad = write_shards(source, images.preprocessing, out, update, recipe, replace=out.exists())
        return len(source) - len(bad), bad, source.intake

    shape, written = _write(request, out, (SHARDS, "FOLDER"), overwrite, "writing shards", write)
    _finish(out, shape, written, print0=print0, as_json=as_json)


def _write(
    request: _Request,
    out: Path,
    kind: tuple[str, str],
    overwrite: bool,
    label: str,
    write: "Callable[[_Prepared, Callable[[int, int], None]], _Written]",
) -> "tuple[ImageShape, _Written]":
    """Write prepared images with ``write``, after checking that ``out`` may be written.

    Args:
        request: The images and their preparation.
        out: The file or folder to write.
        kind: The mark of such a file, and the word for ``out`` in messages.
        overwrite: Whether a result of other settings may be replaced.
        label: The label of the progress bar.
        write: Writes the images, and shows its progress with its second argument.
    """
    from gentool.cli.progress import IntakeBar
    from gentool.outputs.ownership import Guard
    from gentool.outputs.places import place_of

    mark, word = kind
    guard = Guard([place_of(request.spec)], overwrite)
    guard.allow(out, mark, word)
    with StopFlag() as stop, IntakeBar(stop, label) as bar:
        images = request.open(stop)
        guard.allow_recipe(out, mark, images.recipe)
        for note in images.notes:
            say(note)
        return images.shape, write(images, bar.update)


def _finish(
    out: Path, shape: "ImageShape", written: "_Written", *, print0: bool, as_json: bool
) -> None:
    from gentool.data.badfiles import with_own, without_own
    from gentool.data.intake import lines_of

    count, listed, notes = written
    intake, bad = with_own(notes, listed), without_own(listed)
    for line in lines_of(intake, brief=True):
        say(line)
    for name, reason in bad[:_SHOWN]:
        say(f"skipped {name}: {reason}")
    say(f"{count:,} images of {shape}" + (f", {len(bad):,} skipped" if bad else ""))
    if as_json:
        emit_json({"file": str(out), "images": count, "bad": bad, "intake": intake.as_json()})
    else:
        emit(out, print0=print0)


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
        "with_further_frames": found.films,
        "too_dark_or_too_bright": found.unsuited,
        "bad": [{"image": name, "reason": reason} for name, reason in found.bad],
        "intake": found.intake.as_json(),
    }


def _show(spec: str, found: "Survey", shape: "ImageShape", notes: list[str]) -> None:
    from gentool.data.intake import lines_of

    readable = sum(found.modes.values())
    sizes = [f"{h}x{w}" for w, h in sorted(found.sizes, key=lambda s: s[0] * s[1])]
    rows = [
        ("images", f"{found.total:,}, of which {readable:,} can be read"),
        ("formats", _counts(found.formats)),
        ("colour modes", _counts(found.modes)),
        ("sizes", sizes[0] if len(sizes) == 1 else f"{len(sizes)}, {sizes[0]} to {sizes[-1]}"),
        ("classes", _counts(found.classes) or "none"),
        ("duplicates", _groups(found.duplicates)),
        ("near duplicates", _groups(found.near)),
        ("training", f"{shape}"),
    ]  # fmt: skip
    emit(spec)
    emit_table(rows)
    for note in [*lines_of(found.intake), *notes]:
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
    return f"{extra:,} redundant images in {len(groups):,} groups; the first: {first}"
