"""Files of labels: which files count unasked, which look like one, and how to ask for one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gentool.core.errors import DataError
from gentool.data.labels.columns import NoColumn, choose_columns, find_column
from gentool.data.labels.json_tables import OBJECTS, Nothing, ObjectsError, read_table
from gentool.data.labels.lists import lists_classes
from gentool.data.labels.tables import Table
from gentool.data.labels.words import CAPTION_WORDS, fold_word
from gentool.data.sources.base import MAX_FILE
from gentool.data.sources.changes import stamp_of_file

LABEL_FILES = ("dataset.json", "labels.csv", "metadata.csv", "metadata.jsonl")  # count unasked
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
_PERHAPS = (".txt", ".json", ".dat", ".lst")  # if the name has one of these words
_WORDS = ("label", "class", "attr", "annot", "ident", "categor", "target", "meta", "list", "gt",
          "dataset", "train", "test", "val", "truth", "caption", "prompt", "instances",
          "coco")  # fmt: skip
_READ = 2**26  # bytes of a file that is only looked at to say how to use it
_TRIED = 8  # most such files that are looked at ...
_NAMED = 3  # ... and named
_LISTED = "lists names of classes, but not which image has which"
_FEWEST, _DISTINCT = 10, 0.8  # rows, and share of different values, from which they are no labels


@dataclass(frozen=True)
class LabelFile:
    """A file of labels.

    Attributes:
        name: Its name, for messages.
        key: Changes when the file changes.
        size: Its bytes.
        read: Returns its content.
        asked_as: How ``--labels`` asks for it.
    """

    name: str
    key: str
    size: int
    read: Callable[[], bytes]
    asked_as: str

    def table(self, asked: str | None = None) -> Table | Nothing:
        """Return its table.

        Raises:
            DataError: it cannot be read, or is not a table of labels.
        """
        try:
            return self.read_table(asked)
        except (ValueError, TypeError, RecursionError) as error:
            raise self.not_a_table(error) from error

    def read_table(self, asked: str | None = None) -> Table | Nothing:
        """Return its table.

        Raises:
            ValueError, TypeError, RecursionError: it is not a table of labels.
        """
        return read_table(self.name, self.read(), asked)

    def only_lists(self) -> DataError | None:
        """Return the error for a file that lists the names of classes; None for others."""
        listed = lists_classes(self.name, self.read())
        return DataError(f"{self.name} {_LISTED}. Give a CSV of path,label") if listed else None

    def not_a_table(self, error: Exception) -> DataError:
        """Return the error for a file in another form."""
        if isinstance(error, ObjectsError):
            return DataError(f"{self.name} gives no classes: {OBJECTS}")
        json = self.name.lower().endswith(".json")
        kind = "JSON in the format of StyleGAN or a list" if json else "a CSV of path,label"
        return DataError(f"{self.name} is not {kind}: {error!s:.200}")


def label_file(path: Path) -> LabelFile | None:
    """Return the label file at ``path``, or None if there is none."""
    try:
        info = path.stat()
        if not path.is_file():
            return None
    except (OSError, ValueError):
        return None

    def read() -> bytes:
        if info.st_size > MAX_FILE:
            raise DataError(f"{path} is too large for a file of labels")
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error

    key = f"{path.absolute()} {stamp_of_file(info)}"
    return LabelFile(path.name, key, info.st_size, read, str(path))


def beside(path: Path) -> list[LabelFile]:
    """Return the files of labels next to a folder or an archive."""
    above = path.absolute().parent
    files = [label_file(above / name) for name in LABEL_FILES]
    return [replace(file, name=file.asked_as) for file in files if file is not None]


def looks_like_labels(name: str) -> bool:
    """Return whether a file with this name may be a file of labels."""
    low = name.lower()
    if not low.endswith(_TABLES + _PERHAPS) or name.startswith("."):
        return False
    return low.endswith(_TABLES) or any(word in low for word in _WORDS)


def splits_of(given: str) -> Iterator[tuple[str, str | None]]:
    """Yield how ``FILE`` or ``FILE:COLUMN`` may be meant; both parts may contain a colon."""
    yield given, None
    place = given.rfind(":")
    while place > 0:
        if given[place + 1 :]:
            yield given[:place], given[place + 1 :]
        place = given.rfind(":", 0, place)


def not_used(files: Sequence[LabelFile], names: Sequence[str]) -> list[str]:
    """Return a sentence for each of these files that has to do with labels.

    It says how to use it, or why it gives no classes.
    """
    found: list[str] = []
    for file in [file for file in files if file.size <= _READ][:_TRIED]:
        if len(found) == _NAMED:
            break
        if told := _about(file, names):
            found.append(f"{file.name} {told}")
    return found


def _about(file: LabelFile, names: Sequence[str]) -> str:
    """Return what is said about a file that is not used; "" if it does not name the images."""
    try:
        if lists_classes(file.name, file.read()):
            return _LISTED
        table = file.read_table()
        if isinstance(table, Nothing):
            return ""
        try:
            columns = choose_columns(file.name, table, names, None)
        except NoColumn as error:
            return _about_columns(file, table, error.columns) if error.fits else ""
    except ObjectsError:
        return f"is not used for labels: {OBJECTS}"
    except (DataError, ValueError, TypeError, RecursionError):
        return ""
    if not columns.fits:
        return ""
    name = table.columns[columns.label] if table.named else ""
    if not columns.marks and (what := _no_class(table, columns.label, name)):
        return f"is not used for labels: {what}"
    return f"is not used for labels. To use it: --labels {file.asked_as}"


def _about_columns(file: LabelFile, table: Table, columns: Sequence[str]) -> str:
    """Return what is said about a table none of whose columns is the label without doubt.

    Args:
        file: The file.
        table: Its table.
        columns: The columns that may be asked for.
    """
    captions = [name for name in columns if _has_captions(file, table, name)]
    able = [name for name in columns if name not in captions]
    if able:
        return (
            "is not used for labels. To use it: --labels "
            f"{file.asked_as}:COLUMN, where COLUMN is {' or '.join(able)}"
        )
    if captions:
        return (
            f"has captions ({captions[0]:.40}), from which gentool does not learn, and no classes"
        )
    return ""


def _has_captions(file: LabelFile, table: Table, name: str) -> bool:
    """Return whether a column has captions: by its name, unless many of them are equal."""
    if fold_word(name) not in CAPTION_WORDS:
        return False
    column = find_column(file.name, table, name)
    few = len(table.sample()) < _FEWEST
    return few or bool(_no_class(table, column, name))


def _no_class(table: Table, column: int, name: str) -> str:
    """Return why a column cannot be meant as a label: nearly each row has another value."""
    rows = [str(cells[column]) for _, cells in table.sample()]
    which = f"the column {name:.40}" if name else f"column {column + 1}"
    if len(rows) < _FEWEST or len(set(rows)) <= _DISTINCT * len(rows):
        return ""
    return f"{which} has another value for nearly each image, as captions and measurements do"
