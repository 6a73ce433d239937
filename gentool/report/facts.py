"""The facts of a run that only its command knows: ``run.json`` in the run folder.

Settings with their origins, notes, warnings and the numbers of images per class are known while a
run is trained, and a report that is made later needs them. They are a file of their own, because
every line of the log has the form of a measurement, and lines of the log are removed when a run
goes back to its last state. The model file holds none of them, so that equal runs give equal
models.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gentool.core.atomic_files import FACTS_NAME, put
from gentool.core.escapes import shell_line
from gentool.core.strict_json import parse_json
from gentool.core.version import __version__
from gentool.outputs.ownership import is_facts
from gentool.training.layers import Setting
from gentool.training.settings import DECLARED, kind_of

_MOST_BYTES = 4 * 2**20
_MOST_WARNINGS = 100
_MOST_CLASSES = 1000
_BUDGETS = ("images", "minutes")
_DEFAULTS = ("default", "preset ", "found ", "drawn ")  # origins of values that nobody gave

TRAINING, DONE, STOPPED, DIVERGED, FAILED = "training", "done", "stopped", "diverged", "failed"


@dataclass(frozen=True)
class Warned:
    """A warning, and the number of images that were seen when it came."""

    images: int
    message: str


@dataclass
class Facts:
    """What the command knows of its run.

    Attributes:
        preset: Name of the preset.
        settings: (name, value, origin) of every setting and option.
        notes: Sentences on choices that were found from the images.
        data: Sentences on the images: what was passed over, and where classes come from.
        classes: (name, number of training images) of the classes, at most 1,000.
        class_count: Number of classes.
        trained: Number of training images.
        usual: Images that the preset trains on by default.
        device: Kind of the device.
        threads: Threads of a CPU.
        command: The command that trains this run, for a shell.
        longer: The same command with twice the budget.
        conditional: Whether the model learns the classes.
        state: One of the words above.
        ended: Why the run ended, in words; empty while it trains and when it is done.
        warnings: What the user was warned of.
        gentool: The version of gentool.
    """

    preset: str = ""
    settings: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    classes: list[tuple[str, int]] = field(default_factory=list)
    class_count: int = 0
    trained: int = 0
    usual: int = 0
    device: str = ""
    threads: int = 0
    command: str = ""
    longer: str = ""
    conditional: bool = False
    state: str = TRAINING
    ended: str = ""
    warnings: list[Warned] = field(default_factory=list)
    gentool: str = __version__

    def warn(self, images: int, message: str) -> None:
        """Remember a warning, once, and no more than 100 in all."""
        known = {warned.message for warned in self.warnings}
        if message not in known and len(known) < _MOST_WARNINGS:
            self.warnings.append(Warned(images, message))

    def count(self, classes: Sequence[str], counts: Sequence[int]) -> None:
        """Take over the numbers of training images of the classes."""
        self.class_count = len(classes)
        self.classes = list(zip(classes, counts, strict=True))[:_MOST_CLASSES]


def write_facts(folder: Path, facts: Facts) -> None:
    """Write ``run.json``; a file of that name that gentool did not write is left as it is.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    path = folder / FACTS_NAME
    if os.path.lexists(path) and not is_facts(path):
        return
    words = json.dumps({"made_by": "train", **asdict(facts)}, indent=1)
    put(path, words.encode())


def read_facts(folder: Path) -> Facts | None:
    """Return the facts in a run folder; None if there are none, or the file is damaged."""
    try:
        with (folder / FACTS_NAME).open("rb") as file:
            told = parse_json(file.read(_MOST_BYTES))
        if told.pop("made_by") != "train" or not isinstance(told["gentool"], str):
            return None
        return _facts_of(told)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _facts_of(told: dict[str, Any]) -> Facts:
    """Return the facts in a JSON object; keys of other versions of gentool are left out.

    Raises:
        TypeError, ValueError, KeyError: a value has a wrong type.
    """
    empty = Facts()
    known = {name: told[name] for name in vars(empty) if name in told}
    for name, value in known.items():
        if type(value) is not type(getattr(empty, name)):
            raise TypeError(name)
    known["settings"] = [(str(n), str(v), str(o)) for n, v, o in known.get("settings", [])]
    known["classes"] = [(str(name), int(count)) for name, count in known.get("classes", [])]
    for name in ("notes", "data"):
        known[name] = [str(line) for line in known.get(name, [])]
    known["warnings"] = [
        Warned(int(row["images"]), str(row["message"])) for row in known.get("warnings", [])
    ]
    return Facts(**known)


def command_of(preset: str, shown: Mapping[str, Setting], longer: int = 1) -> str:
    """Return the command that trains a run, for a shell, from its settings and their origins.

    Args:
        preset: Name of the preset.
        shown: Every setting and option, as ``Plan.shown`` returns them.
        longer: Factor of the budget.
    """
    words = ["gentool", "train", preset]
    order = sorted(shown.items(), key=lambda pair: (pair[0] != "data", pair[0] in _BUDGETS))
    for name, setting in order:
        if name == "out" or setting.value is None:
            continue
        if name in _BUDGETS and longer > 1:
            setting = Setting(f"{longer * setting.value:g}", "")
        elif setting.origin.startswith(_DEFAULTS):
            continue
        if name.startswith("-o "):
            words += ["-o", f"{name.removeprefix('-o ')}={setting.value}"]
        elif name in DECLARED and DECLARED[name].metadata["choices"] and kind_of(name) is list:
            words += [word for chosen in setting.value.split() for word in (_flag(name), chosen)]
        elif setting.value is True:
            words.append(_flag(name))
        elif setting.value is not False:
            words += [_flag(name), str(setting.value)]
    return shell_line(words)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
