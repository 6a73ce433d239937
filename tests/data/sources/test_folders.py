"""Folders: links, odd names, unreadable folders, and when an index is trusted."""

import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import draw, write_images
from PIL import Image

from gentool.core.errors import DataError
from gentool.core.images import ImageShape
from gentool.data import Preprocessing, open_source
from gentool.data.encoded import BadImage
from gentool.data.sources import folder as folders
from gentool.data.sources.index import KEPT_ABOVE
from gentool.data.sources.table import FolderSource
from gentool.data.sources.walk import Walk


def touch(folder: Path, *names: str) -> Path:
    """Empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_paths_are_sorted_as_plain_strings(tmp_path: Path) -> None:
    """Though the walk holds one folder at a time: '-' < '.' < '/' < 'a'."""
    names = ["a/x.png", "a.png", "a-b/x.png", "a.b/c.png", "aa/x.png", "a/b/c.png", "a/b.png",
             "b/a/z.png", "ü/a.png", "u.png", "a/b-c/d.png"]  # fmt: skip
    assert open_source(str(touch(tmp_path, *names))).paths == sorted(names)


def test_a_tree_deeper_than_the_interpreter_recurses(tmp_path: Path) -> None:
    deep = os.fspath(tmp_path)
    for _ in range(1200):
        deep += "/d"
        os.mkdir(deep)  # noqa: PTH102 - pathlib's parents would recurse
    touch(Path(deep), "x.png")
    paths = open_source(str(tmp_path)).paths
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # pytest would recurse as well
    assert paths == ("d/" * 1200 + "x.png",)


def test_names_that_are_no_text_are_read_and_kept_as_they_are(tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.fromarray(draw(0)).save(plain)
    odd = os.fsencode(tmp_path) + b"/a\xff\n\x1b[31m\xc3\xbc.png"
    os.rename(plain, odd)  # noqa: PTH104 - bytes
    source = open_source(str(tmp_path))
    assert source.paths[0] == os.fsdecode(odd).rpartition("/")[2]
    assert os.fsencode(source.describe(0)) == b"a\xff\n\x1b[31m\xc3\xbc.png"
    shape = ImageShape(16, 16, 3)
    assert np.array_equal(source.load(0, Preprocessing(shape)).pixels, draw(0))


def test_a_linked_folder_is_walked_once(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside", "1.png", "deep/2.png")
    inside = touch(tmp_path / "inside", "real/0.png")
    (outside / "back").symlink_to(inside)
    (outside / "deep" / "up").symlink_to(outside)
    (inside / "link").symlink_to(outside)
    (inside / "same").symlink_to(outside)
    (inside / "a").symlink_to(inside / "real")
    wanted = ("link/1.png", "link/deep/2.png", "real/0.png")
    assert open_source(str(inside)).paths == wanted


def test_a_link_to_a_hidden_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, ".store/x/1.png")
    (tmp_path / "shown").symlink_to(tmp_path / ".store" / "x")
    assert open_source(str(tmp_path)).paths == ("shown/1.png",)


def test_links_that_lead_nowhere_are_bad_files(tmp_path: Path) -> None:
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    source = open_source(str(tmp_path))
    assert source.paths == ("circle.png", "dangling.png")
    for k in range(2):
        with pytest.raises(OSError):
            source.open(k)


def test_a_pipe_or_device_is_a_bad_file_and_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "empty.png").touch()
    source = open_source(str(tmp_path))
    assert source.paths == ("empty.png", "pipe.png", "zero.png")
    for k, reason in enumerate(("empty", "not a regular file", "not a regular file")):
        with pytest.raises(BadImage, match=reason):
            source.open(k)


def test_a_file_too_large_for_an_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(BadImage, match="larger than 1024 MB"):
        open_source(str(tmp_path)).open(0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "b").chmod(0)
    try:
        source = open_source(str(tmp_path))
        assert source.paths == ("a/1.png", "b/")
        assert source.classes == ("a", "b")
        with pytest.raises(PermissionError):
            source.open(1)
    finally:
        (tmp_path / "b").chmod(0o700)


def test_a_folder_whose_path_is_too_long_is_named(tmp_path: Path) -> None:
    """It cannot be listed, whoever asks."""
    touch(tmp_path, "a.png")
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=handle)
        deeper = os.open("x" * 250, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    source = open_source(str(tmp_path))
    assert len(source) == 2
    assert source.paths[1].endswith("x/")
    with pytest.raises(OSError, match="too long"):
        source.open(1)


# --- large folders ------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that counts as large."""
    monkeypatch.setattr(folders, "TRUSTED_ABOVE", KEPT_ABOVE)
    folder = tmp_path / "large"
    for k in range(3):
        write_images(folder / f"c{k}", 2)
        touch(folder / f"c{k}", *(f"{n:04d}.png" for n in range(KEPT_ABOVE // 3 + 1)))
    return folder


def walks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The roots of all walks from here on."""
    roots: list[bytes] = []
    whole = Walk.__init__

    def noted(self: Walk, root: bytes, **choices: bool) -> None:
        roots.append(root)
        whole(self, root, **choices)

    monkeypatch.setattr(Walk, "__init__", noted)
    return roots


def test_a_large_folder_is_walked_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FolderSource(large)
    roots = walks(monkeypatch)
    second = FolderSource(large)
    assert roots == []
    assert second.paths == first.paths
    assert second.fingerprint == first.fingerprint
    assert second.classes == ("c0", "c1", "c2")
    assert second.labels is not None
    assert first.labels is not None
    assert np.array_equal(second.labels, first.labels)


@pytest.mark.parametrize("change", ["new", "gone", "renamed", "folder", "deep"])
def test_a_change_in_a_large_folder_is_noticed(
    change: str, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FolderSource(large)
    roots = walks(monkeypatch)
    file = large / "c1" / "0001.png"
    match change:
        case "new":
            touch(large, "c2/z.png")
        case "gone":
            file.unlink()
        case "renamed":
            file.rename(file.with_name("z.png"))
        case "folder":
            (large / "c9").mkdir()
        case "deep":
            (large / "c1" / "disc" / "000.png").unlink()
    assert (FolderSource(large).fingerprint == first.fingerprint) == (change == "folder")
    assert len(roots) == 1


def test_a_file_written_over_needs_a_refresh(large: Path) -> None:
    first = FolderSource(large)
    (large / "c1" / "0001.png").write_bytes(b"other")
    assert FolderSource(large).fingerprint == first.fingerprint
    again = FolderSource(large, refresh=True)
    assert again.fingerprint != first.fingerprint
    assert FolderSource(large).fingerprint == again.fingerprint


def test_a_small_folder_is_looked_at_each_time(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "TRUSTED_ABOVE", 10**6)
    first = FolderSource(large)
    (large / "c1" / "0001.png").write_bytes(b"other")
    assert FolderSource(large).fingerprint != first.fingerprint


def test_a_worker_gets_little_and_opens_the_same(large: Path) -> None:
    source = FolderSource(large)
    words = pickle.dumps(source)
    assert len(words) < 1000
    again = pickle.loads(words)
    assert again.paths == source.paths
    k = list(source.paths).index("c0/bar/001.png")
    assert again.read(k) == (large / "c0" / "bar" / "001.png").read_bytes()


def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in the folder .*\.png"):
        open_source(str(tmp_path))
