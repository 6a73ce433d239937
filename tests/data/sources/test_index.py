"""The index of names: lossless, small, and checked for damage."""

import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from gentool.core.errors import DataError
from gentool.data.sources.index import KEPT_ABOVE, Index, Names, index_place, keep, look_up


def many_names(count: int, seed: int = 0) -> list[bytes]:
    """Sorted names that share beginnings of all lengths, some not in UTF-8."""
    draw = random.Random(seed)
    found = {b"", b"a" * 300, b"a" * 300 + b"b", b"\xff\xfe.png", "日本\n.png".encode()}
    while len(found) < count:
        folder = b"/".join(b"%x" % draw.randrange(3) for _ in range(draw.randrange(4)))
        found.add(folder + b"/" + draw.randbytes(draw.randrange(12)).replace(b"\0", b"") + b".png")
    return sorted(found)


def an_index(count: int) -> Index:
    names = [b"class_%03d/%06d.jpg" % (k * 7 // count, k) for k in range(count)]
    labels = np.arange(count, dtype=np.int32) * 7 // count
    columns = {"offset": np.arange(count, dtype=np.uint64) << np.uint64(33), "none": np.empty(0)}
    return Index(Names.of(names), labels, tuple("abcdefg"), f"print-{count}", columns)


@pytest.mark.parametrize("count", [5, 16, 17, 1000])
def test_names_come_back(count: int) -> None:
    wanted = many_names(count)
    names = Names.of(wanted)
    assert list(names.raws()) == wanted
    assert [names.raw(k) for k in range(count)] == wanted
    decoded = [os.fsdecode(name) for name in wanted]
    assert list(names) == decoded
    assert (names[0], names[-1], names[2:4]) == (decoded[0], decoded[-1], tuple(decoded[2:4]))
    assert names == decoded
    assert names == tuple(decoded)
    assert names != decoded[:-1]
    assert names != [*decoded[:-1], "other"]
    for beyond in (count, -count - 1):
        with pytest.raises(IndexError):
            names[beyond]


def test_no_names() -> None:
    assert list(Names.of([])) == []
    assert Names.of([]) == ()


def test_a_name_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="zero byte"):
        Names.of([b"a\0b"])


def test_an_image_takes_few_bytes() -> None:
    index = an_index(50_000)
    assert index.nbytes / len(index) < 24  # 12 of them are the label and the offset


def test_a_saved_index_is_the_same_and_mapped(tmp_path: Path) -> None:
    index = an_index(5000)
    saved = index.save(tmp_path / "folder" / "index")
    assert saved.names == index.names
    assert saved.labels is not None
    assert index.labels is not None
    assert np.array_equal(saved.labels, index.labels)
    assert np.array_equal(saved.columns["offset"], index.columns["offset"])
    assert len(saved.columns["none"]) == 0
    assert (saved.classes, saved.fingerprint) == (index.classes, index.fingerprint)
    assert not saved.labels.flags.owndata
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["index"]


def test_pickled_it_is_its_place(tmp_path: Path) -> None:
    saved = an_index(5000).save(tmp_path / "index")
    words = pickle.dumps(saved)
    assert len(words) < 500
    assert pickle.loads(words).names == saved.names
    small = an_index(20)
    again = pickle.loads(pickle.dumps(small))
    assert again.names == small.names
    assert again.fingerprint == small.fingerprint


def test_another_index_in_its_place_is_noticed(tmp_path: Path) -> None:
    words = pickle.dumps(an_index(5000).save(tmp_path / "index"))
    an_index(4000).save(tmp_path / "index")
    with pytest.raises(DataError, match="images were changed"):
        pickle.loads(words)


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index"
    an_index(3000).save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:10], whole[:100], whole[:-1], whole + b"\0", b"x" + whole[1:],
                    whole.replace(b'"count": 3000', b'"count": 9000'),
                    whole.replace(b'"arrays"', b'"arrows"')):  # fmt: skip
        path.write_bytes(damaged)
        assert look_up(path) is None
    path.write_bytes(whole)
    assert look_up(path) is not None


def test_only_large_indexes_are_kept(own_cache: Path) -> None:
    place = index_place("a", "b")
    assert place.parent == own_cache
    assert place.name.startswith("index-")
    assert keep(an_index(KEPT_ABOVE), place).file is None
    assert not own_cache.exists()
    first = keep(an_index(KEPT_ABOVE + 1), place)
    assert first.file == place
    written = place.stat().st_ino
    keep(an_index(KEPT_ABOVE + 1), place)
    assert place.stat().st_ino == written
    keep(an_index(KEPT_ABOVE + 2), place)
    assert place.stat().st_ino != written


def test_without_a_cache_folder_it_stays_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    index = an_index(KEPT_ABOVE + 1)
    assert keep(index, tmp_path / "file" / "index") is index
