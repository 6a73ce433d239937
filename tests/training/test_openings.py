"""On the way into training no image file is opened more than once."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import write_images

import gentool
from gentool.data.sources.archive import ArchiveSource
from gentool.data.sources.base import FileSource
from gentool.data.sources.folder import FolderSource

COUNT = 100  # more than the sample that size and options are chosen by
SMALL: dict[str, Any] = {
    "batch": 16, "width": 4, "precision": "float32", "device": "cpu", "images": 48,
    "options": {"latent_size": 8}, "max_bad": 0.1,
}  # fmt: skip


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """How often the file of each image was read."""
    found: Counter[int] = Counter()
    for kind in (FolderSource, ArchiveSource):
        read = kind.read

        def counted(self: FileSource, index: int, read: Any = read) -> bytes:
            found[index] += 1
            return read(self, index)  # type: ignore[no-any-return]

        monkeypatch.setattr(kind, "read", counted)
    yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, of which one is broken."""
    images = write_images(tmp_path / "toys", COUNT)
    (images / "disc" / "000.png").write_bytes(b"no image")
    return images


@pytest.mark.parametrize("given", [{}, {"size": 16}, {"size": 16, "mode": "rgb"}], ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_each_file_is_read_once(
    packed: bool, given: dict[str, Any], folder: Path, reads: Counter[int], own_cache: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    data = Path(shutil.make_archive(str(tmp_path / "toys"), "zip", folder)) if packed else folder
    settings = {**SMALL, **given}
    with pytest.warns(UserWarning, match="1 of 100 images cannot be read"):
        run = gentool.train("vae", data, out=tmp_path / "run", holdout=0.1, **settings)
    assert run.images == 48
    assert reads == dict.fromkeys(range(COUNT), 1)
    reads.clear()
    with pytest.warns(UserWarning, match="1 of 100 images cannot be read"):  # now from the cache
        gentool.train("vae", data, out=tmp_path / "again", holdout=0.1, **settings)
    assert set(reads.values()) <= {1}
    assert len(reads) <= 64
