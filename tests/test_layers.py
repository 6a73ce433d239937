"""The house stands: no import upwards, no circle, no model's name above the waist."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gentool
from gentool.models import MODELS

PACKAGE = Path(gentool.__file__).parent
# A file may import only from lower floors, or from its own folder where that is a package.
FLOORS = {
    0: ["errors"],
    1: ["rng", "devices", "signals"],
    2: ["registry", "images"],
    3: ["config"],
    4: ["presets", "networks", "data"],
    5: ["settings", "models"],
    6: ["checkpoint"],
    7: ["blocks", "state", "runlog", "outputs"],
    8: ["inversion"],
    9: ["training", "sampling", "reconstruction", "interpolation"],
    10: ["cli"],
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
ABOVE_THE_WAIST = [n for floor, names in FLOORS.items() if floor > 5 for n in names]
FREE = ("__init__", "__main__", "config", "errors", "presets", "registry", "settings", "signals")
HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors"}
FILES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    """The file or folder directly under the package that ``path`` belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(tree: ast.AST) -> Iterator[str]:
    """Every module of gentool that a tree imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "gentool":
                names = [f"gentool.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "gentool")


def test_every_file_has_a_floor() -> None:
    rooms = {_room(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_imports_upwards_or_a_sibling(path: Path) -> None:
    room = _room(path)
    if room in ("__init__", "__main__"):
        return
    for name in _imports(ast.parse(path.read_text())):
        target = [*name.split("."), ""][1]
        if target in FLOOR_OF and target != room:
            assert FLOOR_OF[target] < FLOOR_OF[room], f"{path.name} imports {name}"


def test_no_import_circle_inside_a_package() -> None:
    modules = {
        ".".join(("gentool", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in FILES
    }
    graph = {
        name: {i for i in _imports(ast.parse(path.read_text())) if i in modules and i != name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _documentation(tree: ast.AST) -> set[int]:
    """The docstrings and typer help texts in a tree: words for people, by identity."""
    out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            out.add(id(node.value))
        if isinstance(node, ast.keyword) and node.arg == "help":
            out |= {id(n) for n in ast.walk(node)}
    return out


@pytest.mark.parametrize("room", ABOVE_THE_WAIST)
def test_no_model_is_named_above_the_waist(room: str) -> None:
    classes = {MODELS.get(name).__name__ for name in MODELS}
    for path in [p for p in FILES if _room(p) == room]:
        tree = ast.parse(path.read_text())
        words = _documentation(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in words:
                assert node.value not in set(MODELS), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Name):
                assert node.id not in classes, f"{path.name}:{node.lineno}"
        imported = set(_imports(tree))
        assert not imported & {f"gentool.models.{name}" for name in MODELS}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_torch_free_files_import_nothing_heavy_at_module_level(path: Path) -> None:
    inside = path.relative_to(PACKAGE).with_suffix("").as_posix()
    if inside not in FREE and _room(path) != "cli":
        return
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            assert (module or "").split(".")[0] not in HEAVY


def test_the_public_names_are_there() -> None:
    for name in gentool.__all__:
        assert callable(getattr(gentool, name))
    with pytest.raises(AttributeError, match="nonsense"):
        gentool.nonsense  # noqa: B018
