"""The model file: byte-stable, written completely or not at all, and refused if anything is wrong.

Hostile files are built byte by byte here, so that they can contain what no writer would write.
Opening any file quickly gives a model or a ``ModelFileError``.
"""

import copy
import hashlib
import json
import os
import resource
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import gentool_command, run_python, took_less_than
from forged_files import Json, join, split, with_header, with_table
from safetensors.torch import load_file

from gentool.checkpoint import (
    FORMAT,
    build,
    check_classes,
    exported_tensors,
    load_model,
    read_file,
    verify,
    write_file,
)
from gentool.core.errors import GentoolError, ModelFileError, UsageError
from gentool.models import MODELS


@pytest.fixture(scope="module")
def good(gan: Path) -> bytes:
    """A whole model file."""
    return (gan / "model.safetensors").read_bytes()


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], str]:
    """Opens a file with these bytes, which must end in ``ModelFileError``; gives the message."""

    def open_bytes(data: bytes) -> str:
        path = tmp_path / "hostile.safetensors"
        path.write_bytes(data)
        with took_less_than(5), pytest.raises(ModelFileError) as caught:
            load_model(path)
        assert caught.value.exit_code == 4
        return str(caught.value)

    return open_bytes


# --- writing ------------------------------------------------------------------------------------


def some_tensors() -> dict[str, torch.Tensor]:
    """Tensors of several shapes and both dtypes."""
    return {
        "b.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
        "a": torch.tensor(7, dtype=torch.int64),
        "c.bias": torch.zeros(0),
        "b.turned": torch.arange(6, dtype=torch.float32).view(2, 3).T,
    }


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, some_tensors(), {"kind": "state", "note": "ü"})
    header, tensors = read_file(path)
    assert len(header.pop("content_sha256")) == 64
    assert header == {"kind": "state", "note": "ü", "format": FORMAT}
    assert set(tensors) == set(some_tensors())
    assert all(torch.equal(tensors[k], v) for k, v in some_tensors().items())


def test_bytes_do_not_depend_on_any_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_file(a, some_tensors(), {"kind": "model", "config": {"x": 1, "y": 2}})
    backwards = dict(reversed(some_tensors().items()))
    write_file(b, backwards, {"config": {"y": 2, "x": 1}, "kind": "model"})
    assert a.read_bytes() == b.read_bytes()


def test_there_is_one_metadata_key_with_sorted_json(good: bytes) -> None:
    table, _ = split(good)
    assert list(table["__metadata__"]) == ["gentool"]
    words = table["__metadata__"]["gentool"]
    assert words == json.dumps(json.loads(words), sort_keys=True)


def test_the_file_is_plain_safetensors(gan: Path) -> None:
    loaded = load_model(gan)
    plain = load_file(gan / "model.safetensors")
    ours = exported_tensors(loaded.model)
    assert {k: v.shape for k, v in plain.items()} == {k: v.shape for k, v in ours.items()}
    assert all(torch.equal(plain[k], ours[k]) for k in plain)


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """The system itself refuses to write more than 4 KiB into a file."""
    path = tmp_path / "file"
    write_file(path, some_tensors(), {"kind": "state"})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_file(path, {"large": torch.zeros(100_000)}, {"kind": "state"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_still_reads_the_old_file(tmp_path: Path) -> None:
    """The new file takes the old one's name, it is not written into it."""
    path = tmp_path / "file"
    write_file(path, some_tensors(), {"kind": "state"})
    before = path.read_bytes()
    with path.open("rb") as reader:
        write_file(path, {"other": torch.ones(1000)}, {"kind": "state"})
        assert reader.read() == before
    assert set(read_file(path)[1]) == {"other"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        write_file(tmp_path / "none" / "file", some_tensors(), {})


def test_a_header_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="JSON"):
        write_file(path, some_tensors(), {"loss": float("nan")})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_file_mode_follows_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_file(tmp_path / "file", some_tensors(), {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_loaded_model_is_ready_for_use(
    model: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    path = trained(model) / "model.safetensors"
    loaded = load_model(path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert isinstance(loaded.model, MODELS.get(model))
    assert not loaded.model.training
    assert {n for n, _ in loaded.model.named_children()} == set(loaded.model.exported)
    assert not any(p.requires_grad or p.is_meta for p in loaded.model.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_a_header_builds_its_model_without_memory(
    model: str, trained: Callable[[str], Path]
) -> None:
    path = trained(model) / "model.safetensors"
    header, table = verify(path)
    built = build(header, path)
    assert all(p.is_meta for p in built.parameters())
    assert set(exported_tensors(built)) == set(table)


@pytest.mark.parametrize("extra", range(0, 256, 8))
def test_any_length_of_the_header_is_read(extra: int, good: bytes, tmp_path: Path) -> None:
    """The first byte of a file is the lowest one of that length, whatever it looks like."""
    table, tensors = split(good)
    words = json.dumps(table).encode()
    words += b" " * (extra - len(words) % 256 if len(words) % 256 <= extra
                     else extra + 256 - len(words) % 256)  # fmt: skip
    assert len(words) % 256 == extra
    path = tmp_path / "model"
    path.write_bytes(struct.pack("<Q", len(words)) + words + tensors)
    assert load_model(path).header["model"] == "gan"


MOST = {"many": tuple(map(str, range(100_000))), "long": ("é" * (2**22 // 7 - 2),)}


@pytest.mark.parametrize("names", MOST.values(), ids=MOST)
def test_as_many_classes_as_are_let_in_can_be_read(
    names: tuple[str, ...], vae: Path, tmp_path: Path
) -> None:
    check_classes(names)
    header, tensors = read_file(vae / "model.safetensors")
    changes = {"classes": names, "conditional": False}
    write_file(tmp_path / "model", tensors, {**header, **changes})
    assert load_model(tmp_path / "model").header["classes"] == list(names)


@pytest.mark.parametrize("names", MOST.values(), ids=MOST)
def test_more_classes_are_refused_before_a_run(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="Use --labels none, or fewer classes"):
        check_classes((*names, "another"))


def test_a_run_on_too_many_classes_does_not_begin(image_folder: Path, tmp_path: Path) -> None:
    paths = [p.relative_to(image_folder) for p in sorted(image_folder.rglob("*.png"))]
    rows = [f"{path},{k}{'x' * 60_000}" for k, path in enumerate(paths)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label", *rows]))
    done = gentool_command(
        "train", "vae", "--data", image_folder, "--labels", table, "--out", tmp_path / "run"
    )
    assert done.code == 2
    assert f"{len(paths)} classes with " in done.err
    assert not (tmp_path / "run").exists()


def test_a_file_cut_anywhere_is_refused(good: bytes, refused: Callable[[bytes], str]) -> None:
    for part in range(64):
        refused(good[: len(good) * part // 64])
    refused(good[:-1])
    refused(good + b"\0")


def opens_or_is_refused(data: bytes, path: Path) -> bool:
    """Whether a file with these bytes opens; any error but ``ModelFileError`` fails the test."""
    path.write_bytes(data)
    try:
        load_model(path)
    except ModelFileError:
        return False
    return True


def test_bits_flipped_in_the_length_are_refused(good: bytes, tmp_path: Path) -> None:
    for bit in range(64):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        assert not opens_or_is_refused(bytes(data), tmp_path / "flipped")


def test_bits_flipped_in_the_header_never_end_in_another_error(good: bytes, tmp_path: Path) -> None:
    """Some flips stay harmless (a letter of a class name); most must be noticed."""
    end = 8 + int.from_bytes(good[:8], "little")
    bits = np.random.default_rng(0).choice(np.arange(8 * 8, 8 * end), 600, replace=False)
    opened = 0
    for bit in bits.tolist():
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        opened += opens_or_is_refused(bytes(data), tmp_path / "flipped")
    assert opened < 300


def test_bytes_replaced_in_the_header_never_end_in_another_error(
    good: bytes, tmp_path: Path
) -> None:
    """Bytes that mean something to JSON: quotes, brackets, signs, digits, escapes."""
    end = 8 + int.from_bytes(good[:8], "little")
    rng = np.random.default_rng(1)
    for _ in range(300):
        data = bytearray(good)
        for place in rng.integers(8, end, rng.integers(1, 4)).tolist():
            data[place] = int(rng.choice(list(b'"{}[]:,-0129.eE\\ntfu\x00\xff')))
        opens_or_is_refused(bytes(data), tmp_path / "replaced")


# --- hostile tables -----------------------------------------------------------------------------


def first_name(table: Json, sides: int = 1) -> str:
    """Name of the first tensor with so many sides: 0 is a whole number, 1 a vector of floats."""
    return next(
        name for name, row in table.items() if name != "__metadata__" and len(row["shape"]) == sides
    )


def rows(table: Json) -> list[Json]:
    """The rows of tensors, by their place in the file."""
    found = [row for name, row in table.items() if name != "__metadata__"]
    return sorted(found, key=lambda row: row["data_offsets"])


def set_row(key: str, value: object, sides: int = 1) -> Callable[[Json], object]:
    """Change one field of the row of the first vector, or of the first number."""
    return lambda table: table[first_name(table, sides)].update({key: value})


def float_sides(table: Json) -> None:
    """The right shape in floats, which are equal to the right whole numbers."""
    row = table[first_name(table)]
    row["shape"] = [float(n) for n in row["shape"]]


def same_bytes_of_another_dtype(table: Json) -> None:
    """Two floats as one whole number: the sizes still agree."""
    row = table[first_name(table)]
    row["dtype"], row["shape"] = "I64", [row["shape"][0] // 2]


def overlap(table: Json) -> None:
    """Two tensors of the same size at the same place."""
    size_of: dict[int, list[int]] = {}
    for row in rows(table):
        begin, end = row["data_offsets"]
        if end - begin in size_of:
            row["data_offsets"] = size_of[end - begin]
            return
        size_of[end - begin] = row["data_offsets"]
    raise AssertionError("no two tensors of one size")


def hole(table: Json) -> None:
    """The first tensor dropped from the table, its bytes left in the file."""
    row = rows(table)[0]
    del table[next(name for name, r in table.items() if r is row)]


def shifted(by: int) -> Callable[[Json], object]:
    """All tensors moved within the file."""

    def change(table: Json) -> None:
        for row in rows(table):
            row["data_offsets"] = [n + by for n in row["data_offsets"]]

    return change


def reshaped(table: Json) -> None:
    """A shape with the right product and the wrong sides."""
    row = table[first_name(table, sides=2)]
    row["shape"] = row["shape"][::-1]


TABLES: dict[str, Callable[[Json], object]] = {
    "overlap": overlap,
    "hole": hole,
    "shifted": shifted(4),
    "shifted below zero": shifted(-4),
    "reshaped": reshaped,
    "negative shape": set_row("shape", [-1, -4]),
    "shape of 2^63": set_row("shape", [2**63]),
    "shape whose product wraps": set_row("shape", [2**32, 2**32, 4]),
    "a thousand sides": set_row("shape", [1] * 1000),
    "shape of floats": float_sides,
    "shape of booleans": set_row("shape", [True], sides=0),
    "shape of words": set_row("shape", ["4"]),
    "shape no list": set_row("shape", 4),
    "shape a word": set_row("shape", "4"),
    "shape an empty word": set_row("shape", "", sides=0),
    "shape an empty object": set_row("shape", {}, sides=0),
    "shape nothing": set_row("shape", None),
    "no such dtype": set_row("dtype", "F128"),
    "other dtype": set_row("dtype", "I64"),
    "other dtype of the same size": same_bytes_of_another_dtype,
    "half the size": set_row("dtype", "F16"),
    "dtype of no word": set_row("dtype", ["F32"]),
    "dtype nothing": set_row("dtype", None),
    "offsets backwards": set_row("data_offsets", [16, 0]),
    "offsets negative": set_row("data_offsets", [-16, 0]),
    "offsets huge": set_row("data_offsets", [0, 2**64]),
    "offsets floats": set_row("data_offsets", [0.0, 16.0]),
    "one offset": set_row("data_offsets", [0]),
    "three offsets": set_row("data_offsets", [0, 1, 2]),
    "offsets a word": set_row("data_offsets", "ab"),
    "offsets missing": lambda t: t[first_name(t)].pop("data_offsets"),
    "shape missing": lambda t: t[first_name(t)].pop("shape"),
    "dtype missing": lambda t: t[first_name(t)].pop("dtype"),
    "row a list": lambda t: t.update({first_name(t): [1, 2, 3]}),
    "row a number": lambda t: t.update({first_name(t): 3}),
    "row nothing": lambda t: t.update({first_name(t): None}),
    "one more, empty": lambda t: t.update(
        {"extra": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}
    ),
    "renamed": lambda t: t.update({"generator.other": t.pop(first_name(t))}),
    "renamed to a path": lambda t: t.update({"../../x\n\x1b[31m": t.pop(first_name(t))}),
    "no tensors": lambda t: [t.pop(k) for k in list(t) if k != "__metadata__"],
    "no metadata": lambda t: t.pop("__metadata__"),
    "metadata a list": lambda t: t.update({"__metadata__": ["gentool"]}),
    "metadata a word": lambda t: t.update({"__metadata__": "gentool"}),
    "header no word": lambda t: t["__metadata__"].update({"gentool": {"format": 1}}),
    "header no JSON": lambda t: t["__metadata__"].update({"gentool": "{"}),
    "header a list": lambda t: t["__metadata__"].update({"gentool": "[1]"}),
    "header a number": lambda t: t["__metadata__"].update({"gentool": "1"}),
    "header empty": lambda t: t["__metadata__"].update({"gentool": ""}),
    "header deep": lambda t: t["__metadata__"].update({"gentool": "[" * 10**6}),
    "other metadata no word": lambda t: t["__metadata__"].update({"other": 3}),
    "other metadata not a number": lambda t: t["__metadata__"].update({"other": float("nan")}),
    "other metadata half a letter": lambda t: t["__metadata__"].update({"other": "\ud800"}),
}


@pytest.mark.parametrize("change", TABLES.values(), ids=TABLES)
def test_hostile_table_is_refused(
    change: Callable[[Json], object], good: bytes, refused: Callable[[bytes], str]
) -> None:
    message = refused(with_table(good, change))
    assert len(message) < 500


def raw(words: bytes) -> Callable[[bytes], bytes]:
    """A file whose table is these bytes."""
    return lambda good: join(words, split(good)[1])


RAW: dict[str, Callable[[bytes], bytes]] = {
    "deep JSON": raw(b'{"a":' * 100_000),
    "deep lists": raw(b'{"a":' + b"[" * 8 * 2**20),
    "no object": raw(b"[1, 2, 3]"),
    "no JSON": raw(b"{nothing"),
    "not a number": raw(b'{"a": NaN}'),
    "endless number": raw(b'{"a": ' + b"9" * 10_000 + b"}"),
    "no UTF-8": raw(b'{"\xff\xfe": 1}'),
    "UTF-16": lambda good: join(json.dumps(split(good)[0]).encode("utf-16-le"), split(good)[1]),
    "zero bytes": raw(b"{" + b"\0" * 100),
    "empty table": raw(b"{}"),
    "length of zero": lambda good: bytes(8) + good[8:],
    "length of one": lambda good: struct.pack("<Q", 1) + good[8:],
    "huge length": lambda good: struct.pack("<Q", 2**63 - 1) + good[8:],
    "largest length": lambda good: b"\xff" * 8 + good[8:],
    "length beyond the file": lambda good: struct.pack("<Q", len(good) - 7) + good[8:],
    "header beyond the bound": lambda good: join(json.dumps(split(good)[0]).encode()
                                                 + b" " * 17 * 2**20, split(good)[1]),
    "seven bytes": lambda good: good[:7],
    "eight bytes": lambda good: good[:8],
}  # fmt: skip


@pytest.mark.parametrize("make", RAW.values(), ids=RAW)
def test_hostile_bytes_are_refused(
    make: Callable[[bytes], bytes], good: bytes, refused: Callable[[bytes], str]
) -> None:
    refused(make(good))


def test_a_name_twice_opens_only_with_the_right_weights(good: bytes, tmp_path: Path) -> None:
    """Readers of JSON differ on that: what was checked must be what is used."""
    table, tensors = split(good)
    other = json.dumps({first_name(table): {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    own = json.dumps(table)
    path = tmp_path / "twice"
    for words in (other[:-1] + ", " + own[1:], own[:-1] + ", " + other[1:]):
        if opens_or_is_refused(join(words.encode(), tensors), path):
            found = load_model(path).model.state_dict()
            path.write_bytes(good)
            wanted = load_model(path).model.state_dict()
            assert all(torch.equal(found[k], wanted[k]) for k in wanted)


# --- hostile headers ----------------------------------------------------------------------------


def put(value: object, *path: str) -> Callable[[Json], object]:
    """Set one value deep in a header."""

    def change(header: Json) -> None:
        for key in path[:-1]:
            header = header[key]
        header[path[-1]] = value

    return change


# Annotated, since an inline tuple of such a mixture has no type that a checker finds by itself.
BAD_CLASSES: list[object] = [None, "bar", [1], [None], [["bar"]], {"bar": 1}, 3, ["a", True]]
BAD_RECORDS: list[object] = [None, [], "x", 3]

HUGE = 10**400  # larger than any float
HEADERS: dict[str, Callable[[Json], object]] = {
    **{f"model {value!r:.20}": put(value, "model")
       for value in ("gon", "", None, 3, ["gan"], {"gan": 1}, "x" * 10**6, "os.system", "vae")},
    **{f"width {value!r:.20}": put(value, "config", "width")
       for value in (0, -4, 1025, 2**31, 2**63, HUGE, 4.0, "4", True, None, [4], float("nan"))},
    **{f"latent_size {value!r:.20}": put(value, "config", "latent_size")
       for value in (0, 7, 9, 4096, HUGE, -HUGE, False, float("inf"))},
    **{f"penalty {value!r:.20}": put(value, "config", "penalty")
       for value in (-1, 1e9, HUGE, "1", True, None, float("nan"), float("inf"), [1.0])},
    **{f"loss {value!r:.20}": put(value, "config", "loss")
       for value in ("hinged", "", 3, None, ["hinge"], True, "__class__", "y" * 10**6)},
    "unknown option": put(1, "config", "depth"),
    "option with a long name": put(1, "config", "z" * 10**6),
    "option __class__": put("x", "config", "__class__"),
    "config a list": put([1], "config"),
    "config nothing": put(None, "config"),
    "config missing": lambda h: h.pop("config"),
    **{f"height {value!r:.20}": put(value, "image", "height")
       for value in (0, 8, 17, 20, 516, -16, 2**63, HUGE, HUGE + 1, 16.0, "16", True, None, [16])},
    **{f"width of images {value!r:.20}": put(value, "image", "width") for value in (32, 18, HUGE)},
    **{f"channels {value!r:.20}": put(value, "image", "channels")
       for value in (0, 1, 2, 4, 5, -3, 3.0, "3", True, None, [3], HUGE)},
    "image missing": lambda h: h.pop("image"),
    "image a list": put([16, 16, 3], "image"),
    "image empty": put({}, "image"),
    **{f"classes {value!r:.20}": put(value, "classes") for value in BAD_CLASSES},
    "too many classes": put(["a"] * 100_001, "classes"),
    "classes missing": lambda h: h.pop("classes"),
    **{f"training {value!r:.20}": put(value, "training") for value in BAD_RECORDS},
    "training missing": lambda h: h.pop("training"),
    **{f"kind {value!r:.20}": put(value, "kind") for value in ("state", "", None, 3, ["model"])},
    "kind missing": lambda h: h.pop("kind"),
    **{f"format {value!r:.20}": put(value, "format")
       for value in (2, 0, -1, HUGE, "1", 1.0, None, [1], True)},
    "format missing": lambda h: h.pop("format"),
    "nothing": lambda h: h.clear(),
}  # fmt: skip


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_hostile_header_is_refused_in_few_words(
    change: Callable[[Json], object], good: bytes, refused: Callable[[bytes], str]
) -> None:
    data = with_header(good, change)
    assert len(refused(data)) < 1000


@pytest.mark.parametrize("model", MODELS)
def test_weights_of_another_model_are_refused(
    model: str, trained: Callable[[str], Path], refused: Callable[[bytes], str]
) -> None:
    data = (trained(model) / "model.safetensors").read_bytes()
    other_data = (trained(next(m for m in MODELS if m != model)) / "model.safetensors").read_bytes()
    _, tensors = split(other_data)
    other_table, _ = split(other_data)
    own_table, _ = split(data)
    other_table["__metadata__"] = own_table["__metadata__"]
    message = refused(join(other_table, tensors))
    assert "does not hold the weights that its header describes" in message


def test_lines_of_a_hostile_name_do_not_become_lines_of_the_message(
    good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(with_header(good, put("gan\nerror: all is well\x1b[2J", "model")))
    done = gentool_command("info", path)
    assert done.code == 4
    assert len(done.err.splitlines()) == 1
    assert "\x1b" not in done.err


def test_hostile_words_of_a_good_file_do_not_reach_the_terminal(
    good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(with_header(good, put(["\x1b[31m[bold]b", "a\u202eb"], "classes")))
    done = gentool_command("info", path)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    assert "[bold]b" in done.out


@pytest.mark.parametrize("training", [{}, {"data": None}, {"data": [1]}, {"data": {"images": []}},
                                      {"images": None}, {"x": {"y": "z"}}])  # fmt: skip
def test_info_bears_any_training_record(training: Json, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(with_header(good, put(training, "training")))
    assert gentool_command("info", path).code == 0


MEMORY = """
import resource, sys
from pathlib import Path
from gentool.checkpoint import load_model
from gentool.core.errors import ModelFileError
good, *hostile = map(Path, sys.argv[1:])
load_model(good)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in hostile:
    try:
        load_model(path)
    except ModelFileError:
        continue
    raise SystemExit(f"{path} was opened")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_nothing_is_allocated_for_a_small_file_that_claims_a_huge_model(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    """The largest model that a header may ask for would take gigabytes."""
    paths = [trained("gan") / "model.safetensors"]
    for model in MODELS:
        data = (trained(model) / "model.safetensors").read_bytes()

        def claim(header: Json) -> None:
            header["config"] |= {"width": 1024, "latent_size": 4096}
            header["image"] |= {"height": 512, "width": 512}

        def claim_in_the_table(table: Json) -> None:
            set_row("shape", [2**20, 2**20])(table)
            set_row("data_offsets", [0, 2**42])(table)

        for number, bytes_ in enumerate([with_header(data, claim),
                                         with_table(data, claim_in_the_table)]):  # fmt: skip
            paths.append(tmp_path / f"{model}{number}")
            paths[-1].write_bytes(bytes_)
    done = run_python("-c", MEMORY, *paths)
    assert done.code == 0, done.err
    grown = int(done.out) * (1 if os.uname().sysname == "Darwin" else 1024)
    assert grown < 64 * 2**20


def test_a_changed_header_alone_opens(good: bytes, tmp_path: Path) -> None:
    """The tests above would prove little if every rewritten file were refused."""
    path = tmp_path / "same"
    path.write_bytes(with_header(good, lambda header: None))
    assert load_model(path).model.shape.height == 16
    table, tensors = split(good)
    backwards = dict(reversed(copy.deepcopy(table).items()))
    path.write_bytes(join(backwards, tensors))
    load_model(path)


def test_errors_of_the_file_are_errors_of_gentool() -> None:
    assert issubclass(ModelFileError, GentoolError)


def test_a_class_is_found_in_any_unicode_form(gan: Path) -> None:
    loaded = load_model(gan)
    stored = copy.copy(loaded.header) | {"classes": ["cafe\u0301", "caf"]}
    object.__setattr__(loaded, "header", stored)
    assert loaded.class_number("caf\u00e9") == 0
    assert loaded.class_number("caf") == 1
    with pytest.raises(UsageError, match="no class named"):
        loaded.class_number("caff\u00e9")
