"""Which files a command may write over: its own from before, and no others.

Everything that gentool writes can be recognised again: pictures and arrays by the recipe in them,
models and latents by their header, zips by their comment, tables by their last column. A command
asks a ``Guard`` before it works, so that a refusal costs nothing.
"""

import csv
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np

from gentool.core.atomic_files import (
    LOG_NAME,
    LOG_START,
    MODEL_NAME,
    STATE_NAME,
    open_regular,
    require_writable,
)
from gentool.core.errors import ModelFileError, UsageError
from gentool.core.images import hash_of_value, read_recipe
from gentool.core.strict_json import parse_json
from gentool.data import is_folder
from gentool.data.sources.concat import split_weight

Recipe = Mapping[str, object]

PICTURE, ARRAYS, LATENTS, MODEL, ARCHIVE, TABLE, SHARDS = (
    "picture", "archive of arrays", "file of latents", "model file", "zip of images", "table",
    "folder of shards",
)  # fmt: skip
RECIPE_KEY = "gentool"  # of arrays, and the first word of a zip's comment
RECIPE_COLUMN = "recipe"  # the last of a table
OF_A_RUN = (MODEL_NAME, STATE_NAME, "best.safetensors")
_OUTCOMES = frozenset(
    {"gentool", "psnr", "members"}
)  # known only when the work is done, or of no matter
_COMMENT_BYTES = 65_535
_END_BYTES = 22  # of a zip, before its comment
_MOST_NAMES = 10_000


@dataclass(frozen=True)
class Mark:
    """What a file says of how gentool made it."""

    kind: str
    recipe: Recipe


def read_mark(path: Path) -> Mark | None:
    """How gentool made a file; None for a file that it did not make, or that cannot be read."""
    try:
        if is_folder(path):
            return _mark_of_shards(path)
        if not path.is_file():  # a pipe or device: reading it might wait for ever
            return None
        with open_regular(path) as file:
            start = file.read(16)
    except OSError:
        return None
    if start[8:9] == b"{":
        return _mark_of_tensors(path)
    if start.startswith(b"PK"):
        return _mark_of_zip(path)
    recipe = read_recipe(path)
    return Mark(PICTURE, recipe) if recipe is not None else _mark_of_table(path)


def _mark_of_tensors(path: Path) -> Mark | None:
    """The mark of a model or of latents; a training state is nobody's result."""
    from gentool.checkpoint import read_header  # imports torch, which data check does without

    try:
        header, _ = read_header(path)
    except ModelFileError:
        return None
    if header.get("kind") == "latents":
        recipe = header.get("recipe")
        return Mark(LATENTS, recipe if isinstance(recipe, dict) else {})
    training = header.get("training")
    if header.get("kind") != "model" or not isinstance(training, dict):
        return None
    recipe = training.get("made_by")
    return Mark(MODEL, recipe if isinstance(recipe, dict) else {})


def _mark_of_zip(path: Path) -> Mark | None:
    """The mark of an archive of arrays, or of a zip of packed images."""
    try:
        with open_regular(path) as file:
            file.seek(-min(path.stat().st_size, _COMMENT_BYTES + _END_BYTES), os.SEEK_END)
            end = file.read()
        end = end[end.rfind(b"PK\5\6") :]
        word, _, words = end[_END_BYTES:].partition(b" ")
        if word == RECIPE_KEY.encode():
            mark = _mark(ARCHIVE, words)
            whole = mark is not None and _members_in(mark.recipe) == end[10:12]
            return mark if whole else None
        with zipfile.ZipFile(path) as archive, archive.open(f"{RECIPE_KEY}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
        return _mark(ARRAYS, str(array.item()).encode())
    except Exception:  # whatever a foreign file makes the readers raise
        return None


def _mark_of_table(path: Path) -> Mark | None:
    """The mark of a CSV that ``evaluate`` wrote: the recipe's hash ends each of its rows."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file)
            names = next(rows)
            if names[:1] != ["target"] or names[-1] != RECIPE_COLUMN:
                return None
            hashes = {row[-1] if len(row) == len(names) else None for row in rows}
    except (OSError, ValueError, csv.Error, StopIteration):
        return None
    return Mark(TABLE, {RECIPE_COLUMN: hashes.pop()}) if len(hashes) == 1 else None


def _mark_of_shards(folder: Path) -> Mark | None:
    """The mark of a folder that ``data shards`` wrote and that holds nothing else."""
    try:
        whole = json.loads((folder / "index.json").read_bytes())
        recipe = whole["gentool"]["recipe"]
        own = {"index.json", "labels.npy", *(chunk["filename"] for chunk in whole["chunks"])}
        foreign = {entry.name for entry in folder.iterdir()} - own
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Mark(SHARDS, recipe) if isinstance(recipe, dict) and not foreign else None


def _mark(kind: str, words: bytes) -> Mark | None:
    """The mark whose recipe is a JSON text."""
    recipe = parse_json(words)
    return Mark(kind, recipe) if isinstance(recipe, dict) else None


def comment_of(recipe: Recipe, members: int) -> bytes:
    """The comment that marks a zip as gentool's own, as long as it has so many members."""
    told = {**recipe, "members": members}
    return f"{RECIPE_KEY} {json.dumps(told, sort_keys=True)}".encode()


def _members_in(recipe: Recipe) -> bytes:
    """The number of members as the end of a zip tells it, which holds 65,535 at most."""
    members = recipe.get("members")
    count = members if isinstance(members, int) and members >= 0 else 0
    return min(count, 0xFFFF).to_bytes(2, "little")


def hash_of_files(paths: Iterable[Path]) -> list[str]:
    """Short hashes of what files hold, for recipes; of a folder or nothing, of its place."""
    found = []
    for path in paths:
        try:
            if not path.is_file():
                raise FileNotFoundError(path)
            with open_regular(path) as file:
                digest = file_digest(file, "sha256")
        except OSError:
            digest = sha256(os.fsencode(path.absolute()))
        found.append(digest.hexdigest()[:16])
    return found


def hash_of_recipe(recipe: Recipe) -> str:
    """A recipe in twelve letters, for tables; the same for every version of gentool."""
    told = {key: value for key, value in recipe.items() if key not in _OUTCOMES}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def hash_of_place(spec: str) -> str:
    """A short hash that tells equally named sets apart, and names no path of this machine."""
    there = os.path.lexists(place_of(spec))  # else it is a name, such as builtin:digits
    return sha256(os.fsencode(os.path.realpath(spec) if there else spec)).hexdigest()[:12]


def place_of(spec: str) -> Path:
    """The file or folder that a spec of images names; where it names none, no such path is there.

    A weight (``photos@2``) and the prefix of shards are no part of it.
    """
    try:
        whole = Path(spec).expanduser()
        if os.path.lexists(whole):
            return whole
        return Path(split_weight(spec)[0].removeprefix("shards:")).expanduser()
    except (RuntimeError, UsageError):  # no such home, or no such weight: opening tells
        return Path(spec)


def free_name(path: Path) -> Path:
    """A name like ``path`` that nothing has yet."""
    if not path.name:
        path = Path(os.path.realpath(path))
    if not path.name:  # the root
        return Path("results")
    for number in range(2, _MOST_NAMES):
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not os.path.lexists(found):
            return found
    return path.with_name(f"{path.stem}-new{path.suffix}")


@dataclass
class Guard:
    """Says which files a command may write over; every refusal comes before the work.

    Attributes:
        inputs: Files and folders that the command reads.
        overwrite: Whether gentool's own files of another recipe may be replaced.
        may_mix: Whether a new picture may lie in a folder that the command reads.
        tell: Is given what a person should know of files that stay beside the new ones.
    """

    inputs: Iterable[Path] = ()
    overwrite: bool = False
    may_mix: bool = False
    tell: Callable[[str], object] = lambda _: None
    _taken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there = [path for path in self.inputs if os.path.lexists(path)]
        self._inputs = {os.path.realpath(path) for path in there}
        self._files = {found for path in there if (found := _identity(path)) is not None}

    def allow(self, path: Path, kind: str, option: str = "-o") -> Path:
        """Check a file that is to be written, as far as nothing but its name and kind is known.

        Args:
            path: The file; it need not be there.
            kind: What will be written, such as ``PICTURE``.
            option: The option of the command that names it; no two may name one file.

        Returns:
            The path.

        Raises:
            UsageError: it is an input, a model of a run, not gentool's own, or cannot be written.
        """
        if str(path) == "-":
            raise UsageError(f"{option} - is no file; this output cannot go to stdout. Name a file")
        if self._taken.setdefault(os.path.realpath(path), option) != option:
            raise UsageError(f"{path} is named for two outputs of this command. Name another")
        self._check_kind(path, kind)
        if kind == PICTURE and not self.may_mix and self._lies_in_an_input(path):
            raise UsageError(
                f"{path} lies in a folder that this command reads, and would be read the next "
                "time. Write it elsewhere"
            )
        require_writable(path)
        return path

    def _check_kind(self, path: Path, kind: str) -> Mark | None:
        """The mark of a file that may be replaced, or None where nothing is there."""
        if os.path.realpath(path) in self._inputs or _identity(path) in self._files:
            raise _refusal(path, "is an input of this command")
        if _is_of_a_run(path):
            raise _refusal(path, "belongs to a training run")
        if not os.path.exists(path):  # noqa: PTH110 - a link that leads nowhere is written through
            return None
        mark = read_mark(path)
        if mark is None or mark.kind != kind:
            raise _refusal(path, f"is there already, and is no {kind} that gentool made")
        return mark

    def allow_folder(self, folder: Path) -> Path:
        """Check a folder that results are to be written into; it need not be there.

        Returns:
            The folder.

        Raises:
            UsageError: it is an input of this command, or nothing can be written there.
        """
        if os.path.realpath(folder) in self._inputs or self._lies_in_an_input(folder):
            raise UsageError(
                f"{folder} is, or lies in, a folder that this command reads; results would mix "
                "with it. Write to a folder elsewhere"
            )
        self._taken[os.path.realpath(folder)] = "-o"
        if os.path.lexists(folder) and not is_folder(folder):
            raise UsageError(f"{folder} is a file, not a folder. Write to {free_name(folder)}")
        require_writable(folder)
        return folder

    def names_taken(self, folder: Path) -> set[str]:
        """Names below a folder that other outputs of the command will have."""
        above = os.path.realpath(folder) + os.sep
        return {real.removeprefix(above) for real in self._taken if real.startswith(above)}

    def allow_recipe(self, path: Path, kind: str, recipe: Recipe, *, partly: bool = False) -> None:
        """Check a file again when the recipe of what will be written to it is known.

        Args:
            path: The file.
            kind: As for ``allow``.
            recipe: How it will come about.
            partly: Whether the recipe is known in part, and the rest is not to be compared.

        Raises:
            UsageError: as ``allow``; or it was made from another recipe, and is to be kept.
        """
        mark = self._check_kind(path, kind)
        if mark is None:
            return
        before = {k: v for k, v in mark.recipe.items() if k in recipe or not partly}
        change = difference(before, recipe)
        if change is None:
            return
        if self._lies_in_an_input(path):
            raise _refusal(path, f"lies in a folder that this command reads ({change})")
        if not self.overwrite:
            raise UsageError(
                f"{path} was made by gentool otherwise: {change}. Write to {free_name(path)}, or "
                "replace it with --overwrite"
            )

    def _lies_in_an_input(self, path: Path) -> bool:
        """Whether a file lies in a folder that the command reads."""
        above = Path(os.path.realpath(path)).parents
        return any(str(folder) in self._inputs for folder in above)


def _refusal(path: Path, why: str) -> UsageError:
    free = Path(path.name) if _is_of_a_run(path) else path  # no name beside it would be free
    return UsageError(f"{path} {why}; it is kept. Write to {free_name(free)}")


def refuse_foreign_run(folder: Path) -> None:
    """Check, before the work, that a folder to train in holds nothing that is not a run's.

    Where a state is, the folder is a run. Where none is, a run may have been stopped before its
    first save, which leaves a log, previews and a list of bad files.

    Raises:
        UsageError: training would write over a file that gentool did not make.
    """
    if str(folder) == "-":
        raise UsageError("--out - is no folder; a run cannot go to stdout. Name a folder")
    if os.path.lexists(folder) and not is_folder(folder):
        raise UsageError(f"{folder} is a file, not a folder. Give --out {free_name(folder)}")
    require_writable(folder)
    if not is_folder(folder) or (folder / STATE_NAME).is_file():
        return
    for path in (folder / MODEL_NAME, folder / "best.safetensors"):
        if path.exists():
            raise UsageError(
                f"{folder} holds a model but no state to go on from. Choose another --out"
            )
    numbered = [*folder.glob("samples/*.png"), *folder.glob("snapshots/*.safetensors")]
    foreign = [p for p in numbered if p.stem.partition("-")[0].isdecimal() and not read_mark(p)]
    log, bad = folder / LOG_NAME, folder / "bad_files.txt"
    begun = (folder / "samples").is_dir()  # made before the first of the others
    foreign += [log] * (log.exists() and not (begun and _lines_are(log, _is_record)))
    foreign += [bad] * (bad.exists() and not (begun and _lines_are(bad, _is_reason)))
    if foreign:
        raise UsageError(
            f"{foreign[0]} is there already, and no training run of gentool made it; it is kept. "
            f"Give --out {free_name(folder)}"
        )


def _lines_are(path: Path, allowed: Callable[[str], bool]) -> bool:
    """Whether every line of a file is of a kind."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return all(map(allowed, file))
    except OSError:
        return False


def _is_record(line: str) -> bool:
    """Whether a line may be one of a run's log, or one that a kill cut short."""
    try:
        record = json.loads(line)
    except ValueError:
        return line.startswith(LOG_START.decode()) and not line.endswith("\n")
    return isinstance(record, dict) and type(record.get("images")) is int


def _is_reason(line: str) -> bool:
    """Whether a line may be one of a list of bad files."""
    return line.count("\t") == 1


def _is_of_a_run(path: Path) -> bool:
    """Whether a path is that of a model or state of a run folder, be it there or not yet."""
    folder = Path(os.path.realpath(path)).parent
    if folder.name == "snapshots":
        return (folder.parent / STATE_NAME).is_file()
    return path.name in OF_A_RUN and (folder / STATE_NAME).is_file()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, which links and other spellings of its name share."""
    try:
        info = path.stat()
    except OSError:
        return None
    return (info.st_dev, info.st_ino) if info.st_ino and path.is_file() else None


def difference(before: Recipe, now: Recipe) -> str | None:
    """In words the first thing that two recipes do not share; None if they are the same."""
    told = json.loads(json.dumps(dict(now)))
    for key in sorted({*before, *told} - _OUTCOMES):
        was, is_now = before.get(key), told.get(key)
        if key == RECIPE_COLUMN and was != is_now:
            return "by other settings, or from other images or models"
        if was != is_now and was != hash_of_value(is_now):
            return _change(key, was, is_now)
    return None


def _change(key: str, was: object, is_now: object) -> str:
    """In words, how one value of a recipe changed; None stands for a value that is not there."""
    if was is None:
        return f"it had no {key}, which is {is_now!s:.60} now"
    if is_now is None:
        return f"{key} was {was!s:.60}, and there is none now"
    return f"{key} was {was!s:.60} and is {is_now!s:.60} now"
