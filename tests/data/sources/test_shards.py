"""Shards: written and read back by litdata, from a folder and from a store on 127.0.0.1."""

import hashlib
import http.server
import json
import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import IMAGES, draw, run_python
from litdata.streaming import downloader
from litdata.streaming.writer import BinaryWriter
from PIL import Image

from gentool.core.errors import DataError, UsageError
from gentool.core.images import ImageShape
from gentool.core.picture_files import encode
from gentool.data import Dataset, Preprocessing, open_source, prepare
from gentool.data.sources import shards
from gentool.data.sources.shards import write_shards

PREPROCESSING = Preprocessing(ImageShape(16, 16, 3))
# litdata finds the chunks of these tests too small for its liking
pytestmark = pytest.mark.filterwarnings("ignore:An item was larger than the target chunk size")


@pytest.fixture
def written(image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared images as shards in a few chunks."""
    monkeypatch.setattr(shards, "CHUNK_BYTES", 3000)
    out = tmp_path / "out" / "shards"
    assert write_shards(open_source(str(image_folder)), PREPROCESSING, out) == []
    return out


def foreign(folder: Path, *items: Any) -> Path:
    """Shards as another program writes them."""
    writer = BinaryWriter(str(folder), chunk_bytes=2**20)
    for number, item in enumerate(items):
        writer.add_item(number, item)
    writer.done()
    writer.merge(1)
    return folder


def assert_same(found: Dataset, wanted: Dataset) -> None:
    assert np.array_equal(found.images[:], wanted.images[:])
    assert np.array_equal(found.hashes, wanted.hashes)
    assert found.labels is not None
    assert wanted.labels is not None
    assert found.labels.tolist() == wanted.labels.tolist()
    assert found.classes == wanted.classes
    assert found.fingerprint == wanted.fingerprint


def test_shards_hold_what_was_written(written: Path, image_folder: Path) -> None:
    assert len(list(written.glob("*.bin"))) > 2
    assert sorted(p.name for p in written.parent.iterdir()) == ["shards"]
    source = open_source(f"shards:{written}")
    assert (len(source), source.name, source.access) == (IMAGES, "shards", "threads")
    assert_same(
        prepare(source, PREPROCESSING), prepare(open_source(str(image_folder)), PREPROCESSING)
    )


def test_images_are_taken_by_number_in_any_order(written: Path) -> None:
    """Whatever litdata thinks of ranks and workers."""
    source = open_source(f"shards:{written}")
    wanted = [source.load(k, PREPROCESSING) for k in range(IMAGES)]
    order = np.random.default_rng(0).permutation(IMAGES).tolist()
    code = f"""
import hashlib, sys
from gentool.data import Preprocessing, open_source
from gentool.core.images import ImageShape
source = open_source("shards:{written}")
assert len(source) == {IMAGES}
for k in {order}:
    print(hashlib.sha256(source.load(k, Preprocessing(ImageShape(16, 16, 3))).pixels).hexdigest())
"""
    rank = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "DATA_OPTIMIZER_GLOBAL_RANK": "1",
            "DATA_OPTIMIZER_NUM_WORKERS": "3"}  # fmt: skip
    done = run_python("-c", code, env=rank)
    assert done.code == 0, done.err
    assert done.lines == [hashlib.sha256(wanted[k].pixels).hexdigest() for k in order]
    for k in order:
        found = source.load(k, PREPROCESSING)
        assert np.array_equal(found.pixels, wanted[k].pixels)
        assert found.content_hash == wanted[k].content_hash
    for beyond in (-1, IMAGES):
        with pytest.raises(IndexError):
            source.open(beyond)


def test_bad_images_are_left_out_of_shards_and_told(tmp_path: Path) -> None:
    for k in range(4):
        path = tmp_path / "in" / f"c{k % 2}" / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if k == 1 else encode(draw(k), ".png"))
    calls: list[tuple[int, int]] = []
    source = open_source(str(tmp_path / "in"))
    bad = write_shards(source, PREPROCESSING, tmp_path / "out", lambda *done: calls.append(done))
    assert bad == [("c1/1.png", "the file is empty")]
    assert (calls[0], calls[-1]) == ((0, 4), (4, 4))
    again = open_source(f"shards:{tmp_path / 'out'}")
    assert again.labels is not None
    assert again.labels.tolist() == [0, 0, 1]


def test_a_stopped_writer_leaves_nothing(image_folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(open_source(str(image_folder)), PREPROCESSING, tmp_path / "out", stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="out already exists"):
        write_shards(open_source(str(image_folder)), PREPROCESSING, tmp_path / "out")


@pytest.mark.parametrize("form", ["table", "pair", "bare", "pil"])
def test_shards_of_other_programs(form: str, tmp_path: Path) -> None:
    files = [encode(draw(k), ".png") for k in range(5)]
    items: list[Any] = [{"class": k, "picture": data} for k, data in enumerate(files)]
    match form:
        case "pair":
            items = [(data, k) for k, data in enumerate(files)]
        case "bare":
            items = list(files)
        case "pil":
            items = [{"x": Image.fromarray(draw(k)), "y": 0.5, "z": "text"} for k in range(5)]
    source = open_source(f"shards:{foreign(tmp_path / 'x', *items)}")
    assert (len(source), source.classes, source.labels) == (5, (), None)
    for k in (3, 0, 4):
        assert np.array_equal(source.load(k, PREPROCESSING).pixels, draw(k))
        assert np.array_equal(np.asarray(source.open(k).image), draw(k))


def test_jpegs_are_decoded_by_intake_not_by_litdata(tmp_path: Path) -> None:
    """Turned as their EXIF says, which litdata does not."""
    for k in range(2):
        exif = Image.Exif()
        exif[0x0112] = 3
        Image.fromarray(draw(k)).save(tmp_path / f"{k}.jpg", exif=exif, quality=100)
    with Image.open(tmp_path / "0.jpg") as first, Image.open(tmp_path / "1.jpg") as second:
        place = foreign(tmp_path / "x", {"image": first}, {"image": second})
    source = open_source(f"shards:{place}")
    wanted = np.asarray(Image.open(tmp_path / "0.jpg").rotate(180))
    assert np.abs(source.load(0, PREPROCESSING).pixels.astype(int) - wanted.astype(int)).mean() < 3


# --- what is refused ----------------------------------------------------------------------------


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    item = {"image": encode(draw(0), ".png"), "more": Trap(mark)}
    place = foreign(tmp_path / "x", item)
    with pytest.raises(DataError, match=r"'pickle'.* refused"):
        open_source(f"shards:{place}")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the trap works


@pytest.mark.parametrize("kind", ["pickle", "image:pickle", "graph:pickle", "graph", "numpy", "x"])
def test_an_index_that_lies_about_its_leaves_is_refused(kind: str, tmp_path: Path) -> None:
    """For litdata takes ``image:pickle`` for a pickle."""
    mark = tmp_path / "it ran"
    place = foreign(tmp_path / "x", {"image": pickle.dumps(Trap(mark))})
    index = json.loads((place / "index.json").read_text())
    index["config"]["data_format"] = [kind]
    (place / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="refused"):
        open_source(f"shards:{place}")
    assert not mark.exists()


def edits() -> dict[str, Any]:
    return {
        "a file outside": lambda whole: whole["chunks"][0].update(filename="../x.bin"),
        "an absolute file": lambda whole: whole["chunks"][0].update(filename="/etc/passwd"),
        "another loader": lambda whole: whole["config"].update(item_loader="TokensLoader"),
        "encryption": lambda whole: whole["config"].update(encryption={"algorithm": "rsa"}),
        "a foreign type": lambda whole: whole["config"].update(
            data_spec='[1, {"type": "os.system", "context": "x", "children_spec": []}]'),
        "nothing in it": lambda whole: whole.update(chunks=[]),
        "no leaves": lambda whole: whole["config"].update(data_format=[]),
        "no settings": lambda whole: whole.pop("config"),
        "bad sizes": lambda whole: whole["chunks"][0].update(chunk_size="x"),
    }  # fmt: skip


@pytest.mark.parametrize("edit", edits())
def test_a_damaged_or_hostile_index_is_refused(edit: str, written: Path) -> None:
    index = json.loads((written / "index.json").read_text())
    edits()[edit](index)
    (written / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError):
        open_source(f"shards:{written}")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_an_index_that_is_none(content: bytes, written: Path) -> None:
    (written / "index.json").write_bytes(content)
    with pytest.raises(DataError, match=r"index of shards:.* is damaged"):
        open_source(f"shards:{written}")


@pytest.mark.parametrize(
    "labels", [np.zeros(3, np.int32), np.full(IMAGES, 2, np.int32), np.full(IMAGES, -1, np.int32),
               np.zeros(IMAGES), np.array([object()] * IMAGES)]
)  # fmt: skip
def test_damaged_labels_are_refused(labels: Any, written: Path) -> None:
    np.save(written / "labels.npy", labels, allow_pickle=True)
    with pytest.raises(DataError, match="labels of these shards are damaged"):
        open_source(f"shards:{written}")


def test_shards_from_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no shards at .* index\.json cannot be read"):
        open_source(f"shards:{tmp_path}")


def test_http_is_refused_in_plain_words() -> None:
    with pytest.raises(UsageError, match=r"over http.*s3://"):
        open_source("shards:https://example.org/x")


def test_without_litdata_the_extra_is_named(written: Path) -> None:
    code = f"""
import sys
sys.modules["litdata"] = None
from gentool.data import open_source
try:
    open_source("shards:{written}")
except Exception as error:
    print(type(error).__name__, error)
"""
    assert "gentool[shards]" in run_python("-c", code).out


# --- a store ------------------------------------------------------------------------------------


class Store(http.server.BaseHTTPRequestHandler):
    """As much of S3 as reading takes: GET and HEAD of /bucket/key, with ranges."""

    root: Path
    asked: list[str]

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer, without the file."""
        self._answer()

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        file = self.root / self.path.lstrip("/").partition("?")[0]
        if not file.is_file():
            self.send_error(404, "NoSuchKey")
            return
        data, status = file.read_bytes(), 200
        whole = len(data)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(found[1]), int(found[2] or whole - 1)
            data, status = data[start : stop + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{whole}")
        self.send_header("ETag", f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Silence."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Store]]:
    """A store over ``tmp_path/store``, which boto3 finds through the environment."""
    handler = type("ThisStore", (Store,), {"root": tmp_path / "store", "asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    options = {**downloader._OBSTORE_CLIENT_OPTIONS, "allow_http": "true"}
    monkeypatch.setattr(downloader, "_OBSTORE_CLIENT_OPTIONS", options)  # a real store has TLS
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_shards_from_a_store(
    store: type[Store], written: Path, image_folder: Path, tmp_path: Path, own_cache: Path
) -> None:
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    written.rename(tmp_path / "store" / "bucket" / "toys")
    source = open_source("shards:s3://bucket/toys")
    assert (len(source), source.name) == (IMAGES, "toys")
    for k in (90, 3, 50):
        assert np.array_equal(
            source.load(k, PREPROCESSING).pixels, source.load(k, PREPROCESSING).pixels
        )
    assert_same(
        prepare(source, PREPROCESSING), prepare(open_source(str(image_folder)), PREPROCESSING)
    )
    chunks = [path for path in store.asked if ".bin" in path]
    assert len(chunks) <= 3 * len(set(chunks))  # by the chunk, not by the image
    with pytest.raises(DataError, match="no shards at s3://bucket/nothing"):
        open_source("shards:s3://bucket/nothing")


def test_other_files_in_a_store_are_seen_by_their_tags(
    store: type[Store], written: Path, tmp_path: Path, own_cache: Path
) -> None:
    """Even if the index, in which litdata writes a time, is the same."""
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    place = written.rename(tmp_path / "store" / "bucket" / "toys")
    before = open_source("shards:s3://bucket/toys")
    pixels = before.load(0, PREPROCESSING).pixels
    streamed = prepare(before, PREPROCESSING, cache="never")
    assert open_source("shards:s3://bucket/toys").stamp == before.stamp is not None
    chunk = min(place.glob("*.bin"))
    data, picture = chunk.read_bytes(), encode(pixels, ".png")
    assert data.count(picture) == 1
    other = encode(255 - pixels, ".png")[: len(picture)].ljust(len(picture), b"\0")
    chunk.write_bytes(data.replace(picture, other))
    after = open_source("shards:s3://bucket/toys")
    assert after.fingerprint == before.fingerprint
    assert after.stamp != before.stamp
    assert prepare(after, PREPROCESSING, cache="never").fingerprint != streamed.fingerprint
    assert not np.array_equal(after.load(0, PREPROCESSING).pixels, pixels)  # not from the old files


def test_a_store_that_does_not_answer_is_an_error_and_one_that_may_not_is_none(
    store: type[Store], written: Path, tmp_path: Path, own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without the tags, a run that continues would seem to have other images."""
    obstore = pytest.importorskip("obstore")
    (tmp_path / "store" / "bucket").mkdir(parents=True)
    written.rename(tmp_path / "store" / "bucket" / "toys")

    def failing(error: type[Exception]) -> None:
        def head(*args: object) -> None:
            raise error("no answer")

        monkeypatch.setattr(obstore, "head", head)

    failing(obstore.exceptions.PermissionDeniedError)
    assert open_source("shards:s3://bucket/toys").stamp is None
    failing(obstore.exceptions.GenericError)
    with pytest.raises(DataError, match="does not answer"):
        assert open_source("shards:s3://bucket/toys").stamp
