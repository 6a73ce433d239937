"""``hub:`` with the real library: local sets in this process, a server on 127.0.0.1 in another."""

import hashlib
import http.server
import io
import json
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import datasets
import numpy as np
import pytest
from conftest import HELPERS, draw, run_python
from PIL import Image

from gentool.core.errors import DataError
from gentool.core.images import ImageShape, Pixels
from gentool.core.picture_files import encode
from gentool.data import Preprocessing, Sample, open_source, prepare, resolve_shape
from gentool.data.encoded import BadImage
from gentool.data.opening import open_joined
from gentool.data.sources.hub import HubSource

PREPROCESSING = Preprocessing(ImageShape(16, 16, 3))
COUNT = 30
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
datasets.disable_progress_bars()


def files(count: int = COUNT) -> list[bytes]:
    return [encode(draw(k), ".png") for k in range(count)]


def bitmap(pixels: Pixels) -> bytes:
    """A file whose size does not depend on what it shows."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "bmp")
    return out.getvalue()


def write_parquet(folder: Path, features: datasets.Features, **columns: Any) -> Path:
    """A data set in two files of parquet, as most on the hub are."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = datasets.Dataset.from_dict(columns, features=features)
    half = len(whole) // 2
    for part, rows in enumerate((range(half), range(half, len(whole)))):
        name = f"train-{part:05d}-of-00002.parquet"
        whole.select(rows).to_parquet(str(folder / name), batch_size=5)
    return folder


def pictures(folder: Path) -> Path:
    kinds = datasets.Features(
        number=datasets.Value("int64"), picture=datasets.Image(),
        kind=datasets.ClassLabel(names=["disc", "bar"]), raw=datasets.Value("binary"),
    )  # fmt: skip
    return write_parquet(
        folder, kinds, number=list(range(COUNT)), kind=[k % 2 for k in range(COUNT)],
        picture=[{"bytes": data, "path": f"{k}.png"} for k, data in enumerate(files())],
        raw=files()[::-1],
    )  # fmt: skip


def assert_is_the_set(source: HubSource) -> None:
    assert (len(source), source.access) == (COUNT, "sequential")
    assert source.classes == ("disc", "bar")
    assert source.labels is not None
    assert source.labels.tolist() == [k % 2 for k in range(COUNT)]
    dataset = prepare(source, PREPROCESSING, max_bad=1)
    assert dataset.bad == ()
    assert all(np.array_equal(dataset.images[k], draw(k)) for k in range(COUNT))
    marks = [int.from_bytes(hashlib.sha256(d).digest()[:8], "little") for d in files()]
    assert dataset.hashes.tolist() == marks


def opened(spec: Path | str) -> HubSource:
    source = open_source(f"hub:{spec}")
    assert isinstance(source, HubSource)
    return source


# --- local folders ------------------------------------------------------------------------------


def test_a_local_set_of_parquet(tmp_path: Path, own_cache: Path) -> None:
    source = opened(pictures(tmp_path / "toys"))
    assert source.name == "toys"
    assert_is_the_set(source)
    assert source.describe(3) == f"hub:{tmp_path / 'toys'} image 3"


def test_a_column_can_be_named(tmp_path: Path) -> None:
    """Also one of plain bytes."""
    place = pictures(tmp_path / "toys")
    raw = opened(f"{place}:raw")
    assert np.array_equal(raw.load(0, PREPROCESSING).pixels, draw(COUNT - 1))
    assert raw.fingerprint != opened(place).fingerprint
    with pytest.raises(DataError, match=r"no column named 'x'\. Columns: \w+, \w+, \w+, raw"):
        opened(f"{place}:x")
    with pytest.raises(BadImage, match="no image in this row"):
        opened(f"{place}:number").read(0)


def test_any_order_works_though_slowly(tmp_path: Path) -> None:
    source = opened(pictures(tmp_path / "toys"))
    for k in (7, 8, 3, 3, 29, 0, 1, 16):
        assert source.read(k) == files()[k]
    for beyond in (-1, COUNT):
        with pytest.raises(IndexError):
            source.read(beyond)


@pytest.mark.parametrize("threads", [1, 8])
def test_in_order_the_stream_is_opened_once(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that overtake each other count as in order."""
    source = opened(pictures(tmp_path / "toys"))
    starts: list[int] = []
    whole = HubSource.image_stream

    def noted(self: HubSource, start: int) -> Any:
        starts.append(start)
        return whole(self, start)

    monkeypatch.setattr(HubSource, "image_stream", noted)
    source.read(0)
    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(source.read, range(1, COUNT))) == files()[1:]
    assert starts == [0]


def test_labels_are_found_once_and_kept(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = pictures(tmp_path / "toys")
    first = opened(place)
    (kept,) = own_cache.iterdir()
    assert re.fullmatch(r"index-\w+\.npy", kept.name)

    def never(*_: object) -> Iterator[int]:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(HubSource, "label_pass", never)
        second = opened(place)
        assert second.labels is not None
        assert first.labels is not None
        assert np.array_equal(second.labels, first.labels)
        assert second.fingerprint == first.fingerprint
    kept.write_bytes(b"damaged")
    assert len(opened(place)) == COUNT
    for file in place.iterdir():
        os.utime(file, (0, 0))
    assert opened(place).fingerprint != first.fingerprint


def test_images_without_labels_or_with_labels_that_are_missing(tmp_path: Path) -> None:
    images = [{"bytes": data, "path": None} for data in files(4)]
    plain = datasets.Features(image=datasets.Image())
    source = opened(write_parquet(tmp_path / "plain", plain, image=images))
    assert (len(source), source.classes, source.labels) == (4, (), None)
    kinds = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    place = write_parquet(tmp_path / "some", kinds, image=images, label=[0, 1, None, 1])
    assert opened(place).labels is None
    assert opened(place).notes == ("no classes: 1 of 4 images have no label",)
    words = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
    place = write_parquet(tmp_path / "words", words, image=images, label=["a", "b", "a", "b"])
    (told,) = opened(place).notes
    assert told.startswith("no classes: the column label is no ClassLabel")
    assert "class_encode_column('label')" in told


def test_a_folder_of_images_with_metadata(tmp_path: Path) -> None:
    for k in range(4):
        path = tmp_path / "toys" / "train" / ("disc", "bar")[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files()[k])
    source = opened(tmp_path / "toys")
    assert source.classes == ("bar", "disc")
    assert source.labels is not None
    images = {
        encode(np.asarray(source.open(k).image), ".png"): int(source.labels[k]) for k in range(4)
    }
    assert images == {data: (k + 1) % 2 for k, data in enumerate(files(4))}


def test_empty_rows_and_broken_images_are_bad_files(tmp_path: Path) -> None:
    kinds = datasets.Features(image=datasets.Image(decode=False))
    rows: list[Any] = [{"bytes": data, "path": None} for data in files(3)]
    rows += [None, {"bytes": b"broken", "path": None}]
    dataset = prepare(
        opened(write_parquet(tmp_path / "x", kinds, image=rows)), PREPROCESSING, max_bad=1
    )
    assert len(dataset) == 3
    assert [name.rpartition(" ")[2] for name, _ in dataset.bad] == ["3", "4"]


def test_a_path_that_points_outside_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(files()[0])
    (tmp_path / "toys" / "in").mkdir(parents=True)
    (tmp_path / "toys" / "in" / "x.png").write_bytes(files()[1])
    (tmp_path / "toys" / "link").symlink_to(secret)
    kinds = datasets.Features(path=datasets.Value("string"))
    paths = ["in/x.png", str(secret), "../secret.png", "link", "file://" + str(secret)]
    source = opened(f"{write_parquet(tmp_path / 'toys', kinds, path=paths)}:path")
    assert source.read(0) == files()[1]
    for k in (1, 2, 3):
        with pytest.raises(BadImage, match="points outside the data set"):
            source.read(k)
    with pytest.raises(FileNotFoundError):
        source.read(4)


@pytest.mark.parametrize("kind", ["csv", "json", "pandas", "script", "nothing"])
def test_what_is_not_read(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "toys"
    folder.mkdir()
    mark = tmp_path / "it ran"
    match kind:
        case "script":
            (folder / "toys.py").write_text(f"open({str(mark)!r}, 'w')")
        case "csv":
            (folder / "train.csv").write_text("image,label\na,1\n")
        case "json":
            (folder / "train.json").write_text('[{"image": "x"}]')
        case "pandas":
            (folder / "train.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(DataError, match="hub:"):
        opened(folder)
    assert not mark.exists()


def test_without_the_library_the_extra_is_named(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["datasets"] = None
from gentool.data import open_source
try:
    open_source("hub:user/name")
except Exception as error:
    print(type(error).__name__, error)
"""
    assert "gentool[hub]" in run_python("-c", code).out


# --- a hub --------------------------------------------------------------------------------------

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as reading a public data set takes."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer, without the file."""
        self._answer()

    def do_POST(self) -> None:
        """Answer what is asked of some paths."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        place = self.root / urlsplit(self.path).path.split("/")[4]
        if self.headers.get("Content-Type", "").startswith("application/json"):
            wanted = json.loads(body).get("paths", [])
        else:
            wanted = [unquote(word) for word in re.findall(r"paths=([^&]*)", body)]
        found = [place / name for name in wanted]
        self._json([self._entry(path, place) for path in found if path.exists()])

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        named = re.fullmatch(r"(/api)?/datasets/user/(\w+)(/.*)?", path)
        if named is None or not (self.root / named[2]).is_dir():
            self._missing()
            return
        place, rest = self.root / named[2], named[3] or ""
        if found := re.fullmatch(rf"/resolve/(?:main|{SHA})/(.+)", rest):
            self._file(place / found[1])
        elif rest in ("", "/revision/main", f"/revision/{SHA}"):
            names = sorted(p.relative_to(place).as_posix() for p in self._files(place))
            self._json({"id": f"user/{named[2]}", "sha": SHA, "private": False, "gated": False,
                        "disabled": False, "tags": [], "downloads": 0, "likes": 0,
                        "siblings": [{"rfilename": name} for name in names]})  # fmt: skip
        elif found := re.fullmatch(rf"/tree/(?:main|{SHA})/?(.*)", rest):
            deep = "recursive=true" in self.path.lower()
            below = place / found[1]
            if below.is_dir():
                listed = below.rglob("*") if deep else below.iterdir()
                self._json([self._entry(p, place) for p in sorted(listed)])
            else:
                self._missing()
        else:
            self._missing()

    def _files(self, folder: Path) -> list[Path]:
        return [p for p in folder.rglob("*") if p.is_file()]

    def _entry(self, path: Path, place: Path) -> dict[str, object]:
        name = path.relative_to(place).as_posix()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
        oid = hashlib.sha1(path.read_bytes()).hexdigest()
        return {"type": "file", "path": name, "oid": oid, "size": path.stat().st_size}

    def _missing(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self, path: Path) -> None:
        if not path.is_file():
            self._missing()
            return
        data, status = path.read_bytes(), 200
        whole, start = len(data), 0
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start = int(found[1])
            data, status = data[start : int(found[2] or whole - 1) + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha1(path.read_bytes()).hexdigest()}"')
        self.send_header("X-Repo-Commit", SHA)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{whole}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silence."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[type[Hub], dict[str, str]]]:
    """A hub over ``tmp_path/hub``, and the environment that leads to it."""
    handler = type("ThisHub", (Hub,), {"root": tmp_path / "hub", "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    env = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GENTOOL_CACHE": str(tmp_path / "hub-cache"),
    }
    yield handler, env
    server.shutdown()
    server.server_close()
    thread.join()


READ = """
import sys
import numpy as np
from conftest import draw
from gentool.data import Preprocessing, open_source, prepare
from gentool.core.errors import GentoolError
from gentool.core.images import ImageShape, Pixels

for spec in sys.argv[1:]:
    try:
        source = open_source(spec)
    except GentoolError as error:
        print(error)
        continue
    assert source.labels is None or source.labels.tolist() == [k % 2 for k in range(len(source))]
    dataset = prepare(source, Preprocessing(ImageShape(16, 16, 3)), max_bad=1)
    assert all(np.array_equal(dataset.images[k], draw(k)) for k in range(len(dataset)))
    print(len(dataset), source.name, source.classes, dataset.bad)
"""


def read(env: dict[str, str], *specs: str) -> list[str]:
    """What a process of its own makes of data sets, one line each."""
    paths = os.pathsep.join(map(str, (HELPERS.parent, HELPERS)))
    done = run_python("-c", READ, *specs, env={**env, "PYTHONPATH": paths})
    assert done.code == 0, done.err
    return done.lines


def test_sets_on_a_hub(hub: tuple[type[Hub], dict[str, str]], tmp_path: Path) -> None:
    """Parquet, a zip of images, and rows that name files of the set; no others are opened."""
    handler, env = hub
    pictures(handler.root / "toys")
    (handler.root / "zipped").mkdir()
    with zipfile.ZipFile(handler.root / "zipped" / "train.zip", "w") as archive:
        for k in range(4):
            archive.writestr(f"{k}.png", files()[k])
    (handler.root / "paths" / "more").mkdir(parents=True)
    for k in range(2):
        (handler.root / "paths" / "more" / f"{k}.png").write_bytes(files()[k])
    secret = tmp_path / "secret.png"
    secret.write_bytes(files()[0])
    paths = ["more/0.png", f"hf://datasets/user/paths@{SHA}/more/1.png", str(secret),
             f"file://{secret}", f"{env['HF_ENDPOINT']}/more/0.png", "../x.png",
             "hf://datasets/other/paths/more/1.png", f"simplecache::file://{secret}"]  # fmt: skip
    kinds = datasets.Features(path=datasets.Value("string"))
    write_parquet(handler.root / "paths", kinds, path=paths)
    (handler.root / "paths" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: '*.parquet'\n---\n"
    )
    names = ("toys", "toys:picture", "zipped", "paths:path", "toys:x", "none")
    told = read(env, *(f"hub:user/{name}" for name in names))
    assert told[:3] == [*["30 toys ('disc', 'bar') ()"] * 2, "4 zipped () ()"]
    assert told[3].startswith("2 paths ()")
    assert told[3].count("points outside the data set") == 6
    assert not [line for line in handler.asked if "other/paths" in line]
    assert "no column named 'x'" in told[4]
    assert "cannot read hub:user/none" in told[5]


def test_size_and_colours_are_found_from_the_front_of_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(pictures(tmp_path / "x"))
    seen: list[int] = []
    whole = HubSource.read

    def noted(self: HubSource, index: int) -> bytes:
        seen.append(index)
        return whole(self, index)

    monkeypatch.setattr(HubSource, "read", noted)
    shape, _ = resolve_shape(Sample(source, 5), None, None, 64)
    assert shape == ImageShape(16, 16, 3)
    assert seen == [0, 1, 2, 3, 4]


def test_files_rewritten_with_equal_sizes_and_times_are_seen(
    tmp_path: Path, own_cache: Path
) -> None:
    kinds = datasets.Features(
        picture=datasets.Image(), kind=datasets.ClassLabel(names=["disc", "bar"])
    )

    def write(first: int) -> None:
        images = [bitmap(draw(k)) for k in range(first, first + 4)]
        whole = datasets.Dataset.from_dict(
            {"picture": [{"bytes": data, "path": None} for data in images],
             "kind": [(k + first) % 2 for k in range(4)]}, features=kinds,
        )  # fmt: skip
        whole.to_parquet(str(tmp_path / "set" / "train.parquet"))

    (tmp_path / "set").mkdir()
    found, sizes = [], []
    for first in (0, 51):
        write(first)
        os.utime(tmp_path / "set" / "train.parquet", (10**9, 10**9))
        sizes.append((tmp_path / "set" / "train.parquet").stat().st_size)
        source = opened(tmp_path / "set")
        assert source.labels is not None
        assert source.labels.tolist() == [(k + first) % 2 for k in range(4)]
        data = prepare(source, PREPROCESSING)
        assert all(np.array_equal(data.images[k], draw(first + k)) for k in range(4))
        found.append(source.fingerprint)
    assert sizes[0] == sizes[1]
    assert found[0] == found[1]


def test_all_frames_of_a_stream(tmp_path: Path, own_cache: Path) -> None:
    """Images of the hub have no paths."""
    buffer = io.BytesIO()
    film = [Image.fromarray(draw(k)) for k in range(3)]
    film[0].save(buffer, "WEBP", save_all=True, append_images=film[1:], lossless=True)
    images = [{"bytes": data, "path": None} for data in (*files(1), buffer.getvalue(), *files(1))]
    place = write_parquet(tmp_path / "f", datasets.Features(image=datasets.Image()), image=images)
    source = open_joined([f"hub:{place}"], all_frames=True)
    assert len(source) == 5
    assert [name.rpartition(" ")[2] for name in source.names()] == ["0", "1", "1#1", "1#2", "2"]
    found = prepare(source, PREPROCESSING)
    assert found.bad == ()
    assert np.array_equal(found.images[1:4], np.stack([draw(k) for k in range(3)]))
