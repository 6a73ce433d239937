"""The layers of the package: no upward imports, no cycles, no model names above the models.

Imports are read from the source, so imports inside functions and under TYPE_CHECKING count too.
"""

import ast
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from conftest import PACKAGE, ROOT, run_python

import gentool
from gentool.models import MODELS

# Packages (a file or a folder directly under ``gentool``), the lowest first. A package imports only
# from earlier rows; packages of one row do not import each other. The number is the level in
# CONTRIBUTING.md, which is coarser: the rows also order the packages of one level.
FLOORS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (1, ("core",)),
    (2, ("data",)),
    (3, ("networks", "metrics")),
    (4, ("models",)),
    (5, ("checkpoint",)),
    (5, ("outputs", "trackers")),
    (6, ("inference",)),
    (6, ("evaluation",)),
    (6, ("training",)),
    (7, ("diagnostics",)),
    (8, ("report",)),
    (8, ("explore",)),
    (8, ("api",)),
    (8, ("export",)),
    (9, ("cli",)),
)
ROW = {room: row for row, (_, rooms) in enumerate(FLOORS) for room in rooms}
WAIST = ROW["models"]
ABOVE_THE_WAIST = [room for room, row in ROW.items() if row > WAIST]
DOORS = {"__init__", "__main__"}  # not in a layer: public names, python -m

HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors"}
# What answers --help, usage errors and settings.
LIGHT = {
    "__init__", "__main__", "core/options", "core/errors", "core/escapes", "core/registry",
    "core/signals", "core/version", "models/presets", "training/layers", "training/settings",
    "trackers/table", "cli",
}  # fmt: skip


def module_of(path: Path) -> str:
    """Return the module name of a file, such as ``gentool.data.cache.prepare``."""
    parts = ["gentool", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}


def room_of(module: str) -> str:
    """Return the package or file directly under ``gentool`` that contains a module."""
    return [*module.split("."), "__init__"][1]


@dataclass(frozen=True)
class Import:
    """One imported module; ``late`` if importing the file does not import it."""

    target: str
    line: int
    late: bool


def _statements(tree: ast.AST, late: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Yield every node, and whether it is in a function or under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        yield node, late
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                yield child, True
                yield from _statements(child, True)
            for child in node.orelse:
                yield child, late
                yield from _statements(child, late)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _statements(node, late or inside)


def imports(tree: ast.AST) -> Iterator[Import]:
    """Return all imports in a tree; a name that is a module of gentool counts as that module."""
    for node, late in _statements(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, late)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield Import(inner if inner in FILES else node.module, node.lineno, late)


IMPORTS = {module: list(imports(tree)) for module, tree in TREES.items()}


def test_what_is_tested_is_what_is_installed() -> None:
    """The installed package is tested, not a checkout in the current folder."""
    try:
        installed = distribution("gentool")
    except PackageNotFoundError:
        return  # PYTHONPATH names the checkout
    told = json.loads(installed.read_text("direct_url.json") or "{}")
    if not told.get("dir_info", {}).get("editable"):
        assert installed.locate_file("gentool") == PACKAGE, "run pytest, not python -m pytest"


def test_processes_test_the_same_package_wherever_they_stand() -> None:
    done = run_python("-c", "import gentool; print(gentool.__path__[0])", cwd=ROOT)
    assert done.out == f"{PACKAGE}\n", done.err


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in FILES} - DOORS == set(ROW)


def test_floors_rise_with_the_rows() -> None:
    numbers = [number for number, _ in FLOORS]
    assert numbers == sorted(numbers)


def test_the_floors_are_those_of_the_house_rules() -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    told: dict[str, int] = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].isdecimal():
            words = cells[1].replace("`", " ").replace("/", " ").replace(",", " ").split()
            told |= dict.fromkeys(words, int(cells[0]))
    assert told == {room: number for number, rooms in FLOORS for room in rooms}


@pytest.mark.parametrize("module", FILES)
def test_nothing_imports_upwards_or_a_sibling(module: str) -> None:
    room = room_of(module)
    for found in IMPORTS[module]:
        target = room_of(found.target)
        if not found.target.startswith("gentool.") or room in DOORS or target == room:
            continue
        assert ROW[target] < ROW[room], f"{module}:{found.line} imports {found.target}"


@pytest.mark.parametrize("module", FILES)
def test_nothing_is_taken_from_the_front_door(module: str) -> None:
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "gentool"
        if isinstance(node, ast.Import):
            assert "gentool" not in [alias.name for alias in node.names]


def test_no_import_circles() -> None:
    """Imports between modules, also in functions; ``gentool`` itself is not counted."""
    graph = {
        module: {i.target for i in found if i.target in FILES}
        for module, found in IMPORTS.items()
        if module != "gentool"
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done and module in graph:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


# --- model names ----------------------------------------------------------------------------------


def _words_for_people(tree: ast.AST) -> set[int]:
    """Return the identities of docstrings and of help texts of options."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(id(node.value))
        if isinstance(node, ast.keyword) and node.arg == "help":
            found |= {id(inner) for inner in ast.walk(node.value)}
    return found


def models_named(tree: ast.AST) -> Iterator[str]:
    """Return where code names a model by its name, class or module, as text or identifier."""
    classes = {MODELS.get(name) for name in MODELS}
    modules = {c.__module__ for c in classes}
    names = {*MODELS, *modules, *(c.__name__ for c in classes)}
    people = _words_for_people(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(word)) if id(node) not in people:
                found = word.strip()
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word):
                found = word
            case ast.FunctionDef(name=word) | ast.ClassDef(name=word) | ast.keyword(arg=str(word)):
                found = word
            case _:
                continue
        if found in names:
            yield f"line {getattr(node, 'lineno', '?')}: {found}"
    for imported in imports(tree):
        target = imported.target
        inside = any(f"{m}.".startswith(f"{target}.") for m in modules)
        if inside and target.startswith("gentool.models."):
            yield f"line {imported.line}: {imported.target}"


@pytest.mark.parametrize("module", [m for m in FILES if room_of(m) in ABOVE_THE_WAIST])
def test_no_model_is_named_above_the_waist(module: str) -> None:
    assert list(models_named(TREES[module])) == []


@pytest.mark.parametrize("module", [m for m in FILES if room_of(m) in ABOVE_THE_WAIST])
def test_no_package_of_single_models_is_imported_above_the_waist(module: str) -> None:
    if module == "gentool.cli.listing":  # it prints their tables
        return
    packages = {path.parent.name for path in (PACKAGE / "models").glob("*/model.py")} | {
        "quantised"
    }
    assert {"gan", "vae"} <= packages
    own = [i.target for i in IMPORTS[module] if i.target.split(".")[1:2] == ["models"]]
    assert [target for target in own if packages & set(target.split(".")[2:3])] == []


@pytest.mark.parametrize(
    "code",
    [
        "if name == 'gan': pass",
        "table = {'vae': 1}",
        "from gentool.models.gan.model import Generator",
        "from gentool.models import gan",
        "import gentool.models.vae.model",
        "isinstance(model, VAE)",
        "models.autoencoder",
        "def f(gan): pass",
        "f(gan=3)",
        "import_module('gentool.models.gan.model')",
    ],
)
def test_naming_a_model_is_noticed(code: str) -> None:
    assert list(models_named(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["'''gan'''", "Option(help='gan')", "x = 'gan, vae'", "from gentool.models import MODELS"],
)
def test_words_for_people_may_name_a_model(code: str) -> None:
    assert not list(models_named(ast.parse(code)))


# --- heavy imports --------------------------------------------------------------------------------


def _with_parents(module: str) -> Iterator[str]:
    """Return a module and the packages that contain it, whose ``__init__`` is run as well."""
    parts = module.split(".")
    yield from (".".join(parts[:k]) for k in range(1, len(parts) + 1))


def heavy_at_import(module: str, seen: set[str]) -> Iterator[str]:
    """Return heavy imports that the import of a module causes, each with its chain."""
    for parent in _with_parents(module):
        if parent in seen or parent not in FILES:
            continue
        seen.add(parent)
        for found in IMPORTS[parent]:
            if found.late:
                continue
            if found.target.split(".")[0] in HEAVY:
                yield f"{parent}:{found.line} imports {found.target}"
            yield from heavy_at_import(found.target, seen)


def is_light(module: str) -> bool:
    """Return whether a module is, or is inside, one of the light files and folders."""
    place = "/".join([*module.split("."), "__init__"][1:]).removesuffix("/__init__")
    return any(f"{place}/".startswith(f"{light}/") for light in LIGHT)


@pytest.mark.parametrize("module", [m for m in FILES if is_light(m)])
def test_light_files_import_nothing_heavy_however_indirectly(module: str) -> None:
    assert list(heavy_at_import(module, set())) == []


def test_a_heavy_import_is_noticed() -> None:
    assert list(heavy_at_import("gentool.core.images", set()))
    assert list(heavy_at_import("gentool.inference.interpolation", set()))


def test_the_lint_rule_guards_the_same_files() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    (pattern,) = [p for p, rules in settings["per-file-ignores"].items() if "TID253" in rules]
    inner = pattern.removeprefix("!gentool/{").removesuffix("}")
    guarded = {word.removesuffix(".py").removesuffix("/*") for word in inner.split(",")}
    assert guarded == LIGHT
    assert set(settings["flake8-tidy-imports"]["banned-module-level-imports"]) == HEAVY


# --- public names ---------------------------------------------------------------------------------


def test_public_names_are_what_can_be_imported() -> None:
    listed: dict[str, object] = {}
    exec("from gentool import *", listed)  # what a user can write
    del listed["__builtins__"]
    assert set(listed) == set(gentool.__all__)
    assert all(callable(value) for value in listed.values())


def test_public_names_are_told_to_type_checkers() -> None:
    told = {
        alias.name
        for node, late in _statements(TREES["gentool"])
        if isinstance(node, ast.ImportFrom) and late
        for alias in node.names
    }
    assert told == set(gentool.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        gentool.nonsense  # noqa: B018


# Names that could run or read bytes of a file, and the only modules that may use each.
DANGEROUS: dict[str, set[str]] = {
    "safetensors": {"gentool.core.safetensors_io"},
    # between this process and its own
    "pickle": {
        "gentool.data.cache.workers",
        "gentool.data.cache.worker",
    },
    # for this machine's name; for a page that this machine alone can open
    "socket": {"gentool.training.run_lock", "gentool.explore.serving"},
    # names out of tables, none out of files
    "importlib": {
        "gentool",
        "gentool.diagnostics.doctor",
        "gentool.networks",
        "gentool.core.registry",
        "gentool.trackers.table",  # only asks whether a library is installed
    },
}
NEVER = {
    "marshal",
    "shelve",
    "dill",
    "joblib",
    "yaml",
    "ctypes",
    "urllib",
    "http",
    "requests",
}


@pytest.mark.parametrize("module", FILES)
def test_nothing_runs_or_reads_what_strangers_wrote_elsewhere(module: str) -> None:
    for found in IMPORTS[module]:
        name = found.target.split(".")[0]
        allowed = set() if name in NEVER else DANGEROUS.get(name, {module})
        assert module in allowed, f"{module}:{found.line} imports {name}"
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {
                "eval",
                "exec",
                "compile",
                "__import__",
                "os.system",
                "torch.load",
            }
            pickles = [
                k for k in node.keywords if k.arg in {"allow_pickle", "weights_only", "shell"}
            ]
            assert all(ast.unparse(k.value) == str(k.arg == "weights_only") for k in pickles)
