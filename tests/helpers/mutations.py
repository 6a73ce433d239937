"""Mutated model files: mutation ``k`` of a seed is the same on every machine.

Half of the mutations damage bytes. The others change the content of a file and seal it again with
a correct checksum, so that the code behind the checksum is tested.
"""

import copy
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from forged_files import Json, gentool_header, join, split

KINDS, DAMAGES = 12, 4  # of mutations; the first few damage a file and leave its checksum alone
Mutation = Callable[[bytes, Random], bytes]


def deep(levels: int) -> object:
    """Lists in lists."""
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


VALUES: tuple[object, ...] = (
    0, 1, -1, 2, 3, 7, 255, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 2**64, 10**9, 10**19,
    0.0, 0.5, -0.5, 1.0, 1e-300, 1e308, True, False, None,
    "", "x", "none", "auto", "a+b", "gan", "vae", "F16", "I8", "U64", "BOOL", "F32", "../../x",
    "\x1b[31m", "\ud800", "[bold]", "os.system", "__class__", "__reduce__", "{0.__class__}", "%n",
    "y" * 10_000, [], {}, [0], [-1], [2**63], [2**32, 2**32], [1, 1, 1], ["a"], [None], [0, 2**62],
    {"a": 1}, {"__class__": "x"}, deep(10), deep(100), [1] * 1000, ["c"] * 100_001,
)  # fmt: skip


def changed(value: Any, rng: Random) -> Any:
    """A copy of a JSON value, changed in one place at random."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        way = rng.random()
        rest = {k: v for k, v in value.items() if k != key}
        if way < 0.1:
            return rest
        if way < 0.2:
            return {**rest, str(rng.choice(VALUES)): value[key]}
        if way < 0.3:
            return {**value, key: value[rng.choice(sorted(value))]}
        return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        out, at = copy.copy(value), rng.randrange(len(value))
        out[at] = changed(value[at], rng)
        return out
    if type(value) is int and rng.random() < 0.4:
        return rng.choice((value + 1, value - 1, -value, value * 2, float(value), str(value)))
    return copy.deepcopy(rng.choice(VALUES))


# --- damage -------------------------------------------------------------------------------------


def flip_bits(data: bytes, rng: Random) -> bytes:
    """One to eight bits, half of the time in the table."""
    out = bytearray(data)
    within = len(data) if rng.random() < 0.5 else len(data) - len(split(data)[1])
    for _ in range(rng.randint(1, 8)):
        out[rng.randrange(within)] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(data: bytes, rng: Random) -> bytes:
    """At any 64th, or a byte or a few from one."""
    return data[: max(0, len(data) * rng.randrange(65) // 64 - rng.choice((0, 0, 1, 3, 8)))]


def change_length(data: bytes, rng: Random) -> bytes:
    """The length of the table."""
    (length,) = struct.unpack("<Q", data[:8])
    lies = (0, 1, 2, 8, length - 1, length + 1, length + 8, len(data) - 8, len(data) - 7, len(data),
            2**24, 2**24 + 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1, rng.getrandbits(64),
            rng.randrange(len(data)))  # fmt: skip
    return struct.pack("<Q", rng.choice(lies)) + data[8:]


def change_block(data: bytes, rng: Random) -> bytes:
    """Some bytes overwritten, dropped, doubled or put in."""
    begin = rng.randrange(len(data))
    end = min(len(data), begin + rng.choice((1, 2, 8, 100, 4096)))
    size = end - begin
    new = (bytes(size), b"\xff" * size, rng.randbytes(size), b"", data[begin:end] * 2,
           rng.randbytes(rng.randint(1, 64)) + data[begin:end])  # fmt: skip
    return data[:begin] + rng.choice(new) + data[end:]


# --- lies with the right checksum -----------------------------------------------------------------


def change_table(data: bytes, rng: Random) -> bytes:
    """The names, shapes, dtypes and places of tensors."""
    table, tensors = split(data)
    meta = table.pop("__metadata__")
    if rng.random() < 0.3 and len(table) > 1:
        one, other = rng.sample(sorted(table), 2)
        key = rng.choice(("data_offsets", "shape", "dtype"))
        table[one][key], table[other][key] = table[other][key], table[one][key]
        if rng.random() < 0.5:
            table[one][key] = table[other][key]
    else:
        table = changed(table, rng)
    if isinstance(table, dict):
        table = {"__metadata__": meta, **table}
    return join(table if isinstance(table, dict) else json.dumps(table).encode(), tensors)


def change_header(data: bytes, rng: Random) -> bytes:
    """What the file says of itself."""
    table, tensors = split(data)
    header = gentool_header(table)
    for _ in range(rng.randint(1, 3)):
        header = changed(header, rng)
        if not isinstance(header, dict):
            break
    table["__metadata__"]["gentool"] = json.dumps(header)
    return join(table, tensors)


def nest(data: bytes, rng: Random) -> bytes:
    """JSON in JSON in JSON, somewhere."""
    levels = rng.choice((17, 200, 990, 1100, 20_000, 150_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    inner = opening * levels + "0" + (closing * levels if rng.random() < 0.8 else "")
    table, tensors = split(data)
    where = rng.randrange(3)
    if where == 0:
        return join(inner.encode(), tensors)
    if where == 1:
        return join(f'{json.dumps(table)[:-1]}, "deep": {inner}}}'.encode(), tensors)
    words = table["__metadata__"]["gentool"]
    table["__metadata__"]["gentool"] = f'{words[:-1]}, "deep": {inner}}}'
    return join(json.dumps(table).encode(), tensors)


def give_twice(data: bytes, rng: Random) -> bytes:
    """One key twice, at the front or at the back, in the table or in the header."""
    table, tensors = split(data)
    header = gentool_header(table)
    inside = rng.random() < 0.5
    target: Json = header if inside else table
    key = rng.choice(sorted(target))
    value = target[key] if rng.random() < 0.3 else rng.choice(VALUES)
    pair, words = json.dumps({key: value})[1:-1], json.dumps(target)
    twice = f"{{{pair}, {words[1:]}" if rng.random() < 0.5 else f"{words[:-1]}, {pair}}}"
    if inside:
        table["__metadata__"]["gentool"] = twice
        twice = json.dumps(table)
    return join(twice.encode(), tensors)


# --- what is no model file at all ---------------------------------------------------------------


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.path, "it ran")


def foreign(sprung: Path) -> Mutation:
    """Files of other kinds; the pickles among them write ``sprung`` when they are opened."""
    pickles = [pickle.dumps(Trap(sprung), protocol) for protocol in range(6)]
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:  # as torch.save writes it
        archive.writestr("archive/data.pkl", pickles[2])
        archive.writestr("archive/version", "3\n")
    others = (
        b"", b"\n", b"{", b"{}", bytes(8), bytes(1000), b"\xff" * 1000, zipped.getvalue(),
        b"<!DOCTYPE html><html><script>alert(1)</script></html>", b"<?xml version='1.0'?><a/>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        b"\x89PNG\r\n\x1a\n" + bytes(50), b"\x1f\x8b\x08" + bytes(50), b"GGUF" + bytes(100),
        b"\x89HDF\r\n\x1a\n" + bytes(50), b"\x93NUMPY\1\0" + bytes(50), b"PK\5\6" + bytes(18),
        b"#!/bin/sh\ntouch ran\n", b"\x7fELF" + bytes(60), "Überschrift\r\n".encode("utf-16"),
    )  # fmt: skip

    def make(data: bytes, rng: Random) -> bytes:
        own = rng.choice(pickles) if rng.random() < 0.4 else rng.choice(others)
        way = rng.randrange(4)
        if way == 0:
            return own
        if way == 1:
            return struct.pack("<Q", len(own)) + own
        return own + data if way == 2 else own[: rng.randint(0, len(own))]

    return make


def mutations(files: Sequence[bytes], sprung: Path) -> Callable[[int], bytes]:
    """``k`` -> a file that lies, made of one of ``files``; the kinds take turns."""
    kinds: tuple[Mutation, ...] = (
        flip_bits, cut, change_length, change_block, change_table, change_table, change_header,
        change_header, nest, give_twice, foreign(sprung), _splice(files),
    )  # fmt: skip

    assert len(kinds) == KINDS

    def make(k: int) -> bytes:
        return kinds[k % KINDS](files[k // KINDS % len(files)], Random(f"gentool/{k}"))

    return make


def _splice(files: Sequence[bytes]) -> Mutation:
    def splice(data: bytes, rng: Random) -> bytes:
        """The table of one file over the tensors of another; or two files in one."""
        other = rng.choice(files)
        if rng.random() < 0.7:
            table, own = split(data)[0], split(other)[1]
            return join(table, own if rng.random() < 0.5 else own[: len(split(data)[1])])
        return data + other

    return splice


def hostile_settings(files: Sequence[bytes]) -> Callable[[int], bytes]:
    """``k`` -> a whole file whose header asks for something else than its model had."""

    def make(k: int) -> bytes:
        rng = Random(f"settings/{k}")
        table, tensors = split(files[k % len(files)])
        header = gentool_header(table)
        for _ in range(rng.randint(1, 3)):
            part = rng.choice(("config", "config", "config", "image", "classes", "training", ""))
            if part == "classes":
                lie = ["\x1b[31m", "../x", "[red]", "<b>", "\n", *map(str, range(rng.randrange(9)))]
                header["classes"] = lie if rng.random() < 0.7 else rng.choice(VALUES)
            else:
                target = header[part] if part else header
                if isinstance(target, dict):
                    key = rng.choice([*sorted(target), "depth", "__init__", "device"])
                    target[key] = copy.deepcopy(rng.choice(VALUES))
        table["__metadata__"]["gentool"] = json.dumps(header)
        return join(table, tensors)

    return make
