"""Marks of the files that gentool writes, by which it recognises them later.

Every kind of result can be recognised again: images and arrays by the recipe in them, models and
latents by their header, zips by their comment, tables by their last column, reports by their
start, folders of shards by their index.
"""

import csv
import html
import json
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np

from gentool.core.atomic_files import open_regular
from gentool.core.errors import ModelFileError
from gentool.core.image_parts import mapped
from gentool.core.picture_files import read_recipe
from gentool.core.strict_json import parse_json
from gentool.data import is_folder

Recipe = Mapping[str, object]

PICTURE, ARRAYS, LATENTS, MODEL, ARCHIVE, TABLE, SHARDS, REPORT, EXPORTED, HUB = (
    "picture", "archive of arrays", "file of latents", "model file", "zip of images", "table",
    "folder of shards", "report", "exported model", "folder for a hub",
)  # fmt: skip
RECIPE_KEY = "gentool"  # name of the array with the recipe; first word of the comment of a zip
RECIPE_COLUMN = "recipe"  # last column of a table
HUB_FILES = ("model.safetensors", "config.json", "samples.png", "README.md")
PROGRAM_RECIPE = "gentool.json"  # extra file in a program of torch
_ONNX_KEY = b"\x0a\x07gentool\x12"  # an entry of the metadata: its key, and the tag of its value
OUTCOMES = frozenset(
    {"gentool", "psnr", "members"}
)  # not compared: the version, and keys that are known only after the work
REPORT_START = '<!doctype html>\n<html lang="en" data-made-by="gentool report">\n'
PAGE_START = '<!doctype html>\n<html lang="en" data-made-by="gentool export">\n'
_RECIPE_IN_HTML = re.compile(r'<meta name="gentool-recipe" content="([^"]*)">')
_HEAD_BYTES = 65_536  # of a report, in which its recipe is
_COMMENT_BYTES = 65_535
_MOST_RECIPE = 2**20  # bytes of a recipe that are read
_END_BYTES = 22  # of the end record of a zip, without its comment


@dataclass(frozen=True)
class Mark:
    """Kind and recipe of a file that gentool wrote.

    Attributes:
        kind: Such as ``PICTURE``.
        recipe: How the file was made; empty if a model or latents file does not store it.
    """

    kind: str
    recipe: Recipe


def read_mark(path: Path) -> Mark | None:
    """Return the mark of a file or folder; None if gentool did not write it or it is unreadable."""
    try:
        if is_folder(path):
            return _mark_of_shards(path) or _mark_of_hub_folder(path)
        if not path.is_file():  # reading a pipe or device could block for ever
            return None
        with open_regular(path) as file:
            start = file.read(16)
    except OSError:
        return None
    if start[8:9] == b"{":
        return _mark_of_tensors(path)
    if start.startswith(b"PK"):
        return _mark_of_zip(path)
    if start.startswith(b"<!doctype html>"):
        return _mark_of_page(path)
    if start[:1] == b"\x08":  # the first field of an ONNX file
        return _mark_of_onnx(path)
    recipe = read_recipe(path)
    return Mark(PICTURE, recipe) if recipe is not None else _mark_of_table(path)


def _mark_of_tensors(path: Path) -> Mark | None:
    """Return the mark of a model or latents file; None for a training state, which is no result."""
    from gentool.checkpoint import read_header  # imports torch, which "data check" does not need

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
    """Return the mark of an archive of arrays, or of a zip of packed images."""
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
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(f"/{PROGRAM_RECIPE}"):
                    return _mark(EXPORTED, archive.read(name))
            with archive.open(f"{RECIPE_KEY}.npy") as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
        return _mark(ARRAYS, str(array.item()).encode())
    except Exception:  # the readers raise many types of errors on files of other programs
        return None


def _mark_of_onnx(path: Path) -> Mark | None:
    """Return the mark of an ONNX file, whose metadata hold the recipe (protobuf: onnx.proto)."""
    try:
        with open_regular(path) as file, mapped(file) as data:
            place = data.rfind(_ONNX_KEY)
            if place < 0:
                return None
            place, length, shift = place + len(_ONNX_KEY), 0, 0
            while data[place] & 0x80:  # a number in groups of seven bits, the lowest first
                length |= (data[place] & 0x7F) << shift
                place, shift = place + 1, shift + 7
            length |= data[place] << shift
            return _mark(EXPORTED, bytes(data[place + 1 : place + 1 + min(length, _MOST_RECIPE)]))
    except (OSError, ValueError, IndexError):
        return None


def _mark_of_table(path: Path) -> Mark | None:
    """Return the mark of a CSV that ``evaluate`` wrote: each row ends with the recipe's hash."""
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


def recipe_in_html(recipe: Recipe) -> str:
    """Return the element of HTML that holds the recipe of a page."""
    words = html.escape(json.dumps(dict(recipe), sort_keys=True), quote=True)
    return f'<meta name="gentool-recipe" content="{words}">'


def _mark_of_page(path: Path) -> Mark | None:
    """Return the mark of a report, or of a page with a model."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
        found = _RECIPE_IN_HTML.search(head)
        kinds = {REPORT_START: REPORT, PAGE_START: EXPORTED}
        kind = next((kinds[start] for start in kinds if head.startswith(start)), None)
        if kind is None or found is None:
            return None
        return _mark(kind, html.unescape(found[1]).encode())
    except (OSError, ValueError):
        return None


def _mark_of_shards(folder: Path) -> Mark | None:
    """Return the mark of a folder that ``data shards`` wrote; None if it holds other files, too."""
    try:
        whole = json.loads((folder / "index.json").read_bytes())
        recipe = whole["gentool"]["recipe"]
        own = {"index.json", "labels.npy", *(chunk["filename"] for chunk in whole["chunks"])}
        foreign = {entry.name for entry in folder.iterdir()} - own
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Mark(SHARDS, recipe) if isinstance(recipe, dict) and not foreign else None


def _mark_of_hub_folder(folder: Path) -> Mark | None:
    """Return the mark of a folder that ``export --hub`` wrote; None if it holds other files."""
    try:
        told = json.loads((folder / "config.json").read_bytes())
        foreign = {entry.name for entry in folder.iterdir()} - set(HUB_FILES)
        digest = told["content_sha256"] if told["kind"] == "model" else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Mark(HUB, {"content_sha256": digest}) if digest and not foreign else None


def _mark(kind: str, words: bytes) -> Mark | None:
    """Return a mark with the recipe in a JSON text; None if the text is not a JSON object.

    Raises:
        ValueError: The text is not JSON, or breaks the limits of ``parse_json``.
    """
    recipe = parse_json(words)
    return Mark(kind, recipe) if isinstance(recipe, dict) else None


def comment_of(recipe: Recipe, members: int) -> bytes:
    """Return the comment that marks a zip as written by gentool.

    The mark is valid only while the zip has exactly ``members`` members.
    """
    told = {**recipe, "members": members}
    return f"{RECIPE_KEY} {json.dumps(told, sort_keys=True)}".encode()


def _members_in(recipe: Recipe) -> bytes:
    """Return the number of members (at most 65,535) as the two bytes in the end of a zip."""
    members = recipe.get("members")
    count = members if isinstance(members, int) and members >= 0 else 0
    return min(count, 0xFFFF).to_bytes(2, "little")


def hash_of_files(paths: Iterable[Path]) -> list[str]:
    """Return hashes (16 hex digits) of the content of files, for recipes.

    If a path is not a readable regular file, its absolute path is hashed instead.
    """
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
    """Return the hash (12 hex digits) of a recipe, for tables.

    It does not depend on the version of gentool.
    """
    told = {key: value for key, value in recipe.items() if key not in OUTCOMES}
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
