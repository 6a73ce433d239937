"""The tests use public names only, so that the inside of a file may change without them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(HERE.rglob("*.py"))
# Of Python, numpy, torch and other libraries, which offer nothing else.
FOREIGN = {
    "_replace", "_asdict", "_fields", "_exit", "_foreach_lerp_", "_OBSTORE_CLIENT_OPTIONS",
    "_codebook",
}  # fmt: skip


def is_private(name: str) -> bool:
    """Whether a name of gentool is private: one underscore, no double underscore."""
    return name.startswith("_") and not name.startswith("__") and name not in FOREIGN


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that a test file takes from elsewhere."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("gentool"):
                yield from (alias.name for alias in names if is_private(alias.name))
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name) if is_private(name):
                yield name
            case ast.Call(func=ast.Attribute(attr="setattr" | "delattr"), args=[first, *rest]):
                for given in (first, *rest[:1]):
                    if isinstance(given, ast.Constant) and isinstance(given.value, str):
                        name = given.value.rpartition(".")[2]
                        if is_private(name):
                            yield name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HERE).as_posix())
def test_no_private_name_is_used(path: Path) -> None:
    assert list(private_names(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "from gentool.core.rng import _x",
        "model._loss(batch)",
        "monkeypatch.setattr('gentool.core.rng._x', 1)",
        "monkeypatch.setattr(module, '_x', 1)",
    ],
)
def test_a_private_name_is_noticed(code: str) -> None:
    assert list(private_names(ast.parse(code)))
