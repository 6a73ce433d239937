"""The report of a run: what the page holds, that it loads nothing, and what damaged runs give."""

import base64
import itertools
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, gentool_command, write_images
from PIL import Image

import gentool
from gentool.core.escapes import shell_line
from gentool.outputs.marks import REPORT, read_mark
from gentool.report import writing
from gentool.report.facts import read_facts
from gentool.report.film import MOST_FRAMES, Preview, choose, encode_small, find_previews
from gentool.report.reading import read_run
from gentool.report.thinning import MOST_BUCKETS, read_log

_VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """A page: its elements, its text, and whether every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember the element."""
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that it closes the last element that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Remember text that is shown."""
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What is shown, in one line."""
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> Any:
        """The points of the charts."""
        words = re.search(r'id="data-of-page">(.*?)</script>', self.source, re.DOTALL)
        assert words is not None
        return json.loads(words[1])


def outside(page: Page) -> list[str]:
    """Attributes that name something outside the page."""
    names = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    return [
        attributes[name]
        for _, attributes in page.elements
        for name in names
        if name in attributes and not attributes[name].startswith(("#", "data:image/webp;base64,"))
    ]


def report(*runs: object, more: tuple[object, ...] = ()) -> Page:
    """Write the report of runs by the command, and read it."""
    done = gentool_command("report", *runs, "--device", "cpu", *more)
    assert done.code == 0, done.err
    return Page(Path(done.lines[0]))


@pytest.fixture
def run(vae: Path, tmp_path: Path) -> Path:
    """A copy of a trained run, to be changed."""
    return Path(shutil.copytree(vae, tmp_path / "vae-run"))


def train(*words: object) -> Path:
    """Train a tiny model; its run folder."""
    done = gentool_command("train", *words, *TINY)
    assert done.code == 0, done.err
    assert "warning" not in done.err
    return Path(done.lines[0]).parent


# --- what the page holds ------------------------------------------------------------------------


def test_training_writes_the_report(vae: Path) -> None:
    page = Page(vae / "report.html")
    assert "done" in page.text and "320" in page.text
    assert read_mark(vae / "report.html") is not None
    facts = read_facts(vae)
    assert facts is not None and facts.state == "done"
    assert ("batch", "16", "flag --batch") in facts.settings
    assert facts.classes == [("bar", 48), ("disc", 48)]
    assert not (vae / "report.html").with_suffix(".tmp").exists()


@pytest.mark.parametrize("model", ["gan", "vae"])
def test_the_page_has_every_section(
    model: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    page = report(trained(model), more=("-o", tmp_path / "page.html"))
    keys = [attributes["id"] for attributes in page.all("section")]
    assert keys == ["summary", "film", "health", "charts", "reconstructions", "neighbours",
                    "traversal", "classes", "commands", "settings", "data"]  # fmt: skip
    assert outside(page) == []
    assert re.findall(r"\w+://[\w./]+", page.source) == ["http://www.w3.org/2000/svg"]  # a name
    assert len(page.source) < 3_000_000
    assert all(image["alt"] for image in page.all("img"))
    assert "bar" in page.text and "flag --batch" in page.text
    assert shell_line(["gentool", "sample", str(trained(model)), "-n", "64"]) in page.text


def test_headings_are_in_order_and_elements_have_names(vae: Path, tmp_path: Path) -> None:
    page = report(vae, more=("-o", tmp_path / "page.html"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for a in page.all("a")]
    assert set(links) <= set(ids)
    assert [tag for tag, _ in page.elements if tag in ("header", "nav", "main", "footer")]
    assert not any("style" in attributes for _, attributes in page.elements)
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)


def test_the_policy_allows_nothing_from_elsewhere(vae: Path) -> None:
    page = Page(vae / "report.html")
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_charts_hold_the_log_and_stand_beside_tables(vae: Path) -> None:
    page = Page(vae / "report.html")
    lines = [json.loads(line) for line in (vae / "log.jsonl").read_text().splitlines()]
    charts = {str(chart["title"]): chart["lines"] for chart in page.data["charts"]}
    assert charts["Bound on log p(x)"] == [
        {"run": 0, "name": "elbo", "x": [line["images"] for line in lines],
         "y": [float(f"{line['elbo']:.5g}") for line in lines], "low": [], "high": []}
    ]  # fmt: skip
    assert sum("data-chart" in figure for figure in page.all("figure")) == len(charts)


def test_command_and_python_write_alike(image_folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "size": 16,
        "batch": 16,
        "width": 4,
        "precision": "float32",
        "device": "cpu",
    }
    gentool.train("vae", image_folder, out=tmp_path / "a", images=64,
                  options={"latent_size": 8}, **settings)  # fmt: skip
    train("vae", "--data", image_folder, "--out", tmp_path / "b", "--images", 64)
    pages = [Page(tmp_path / name / "report.html") for name in "ab"]
    shapes = [[tag for tag, _ in page.elements] for page in pages]
    assert shapes[0] == shapes[1]
    a, b = read_facts(tmp_path / "a"), read_facts(tmp_path / "b")
    assert a is not None and b is not None
    assert [row[:2] for row in a.settings if row[0] != "out"] == [
        row[:2] for row in b.settings if row[0] != "out"
    ]
    assert set(a.command.split()) == set(b.command.split())


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_images(folder, 32)
    (folder / "bar").rename(folder / "<script>alert(1)<")
    (folder / "disc").rename(folder / "a\"b'c\u202e&amp;")
    title = '</title><script>alert("x")</script>\u202e \u2028'
    out = train("vae", "--data", folder, "--out", tmp_path / 'r"<b>', "--images", 32,
                "--name", title)  # fmt: skip
    page = report(out)
    assert len(page.all("script")) == 2 and not page.all("b")
    assert "<script>alert(1)<" in page.text and "a\"b'c\\u202e&amp;" in page.text
    assert "\u202e" not in page.source and "\u2028" not in page.source
    assert page.data["runs"] == [title]
    assert outside(page) == []


# --- several runs, other files ------------------------------------------------------------------


def test_several_runs_stand_side_by_side(vae: Path, gan: Path, tmp_path: Path) -> None:
    page = report(vae, gan, more=("-o", tmp_path / "both.html"))
    keys = [attributes["id"] for attributes in page.all("section")]
    assert keys.index("differences") < keys.index("film")
    (speed,) = [c for c in page.data["charts"] if c["title"] == "Speed"]
    assert [line["run"] for line in speed["lines"]] == [0, 1]
    reels = [f for f in page.all("figure") if f.get("class") == "reel"]
    assert [reel["data-run"] for reel in reels] == ["0", "1"]
    again = gentool_command("report", vae, gan, "--quick", "-o", tmp_path / "both.html")
    assert again.code == 0


def test_a_page_is_replaced_by_the_same_command_alone(vae: Path, gan: Path, tmp_path: Path) -> None:
    page, mine = tmp_path / "page.html", tmp_path / "mine.html"
    mine.write_text("<!doctype html>\nmy own page")
    words = ("report", vae, "--quick", "-o")
    assert gentool_command(*words, mine).code == 2
    assert mine.read_text() == "<!doctype html>\nmy own page"
    for _ in range(2):
        assert gentool_command(*words, page).code == 0
    assert gentool_command("report", gan, "--quick", "-o", page).code == 2
    assert gentool_command("report", gan, "--quick", "-o", page, "--overwrite").code == 0
    assert gentool_command("report", vae, gan).code == 2
    assert gentool_command(*words, tmp_path / "page.png").code == 2
    assert gentool_command("report", tmp_path, "--quick").code == 4
    mark = read_mark(page)
    assert mark is not None and mark.kind == REPORT


@pytest.mark.parametrize("name", ["report.html", "run.json"])
def test_a_file_of_that_name_that_gentool_did_not_write_is_kept(
    name: str, image_folder: Path, tmp_path: Path
) -> None:
    words = ("train", "gan", "--data", image_folder, "--images", 32, *TINY)
    mine = tmp_path / "a" / name
    mine.parent.mkdir()
    mine.write_text("mine")
    done = gentool_command(*words, "--out", tmp_path / "a")
    assert done.code == 2 and "already exists" in done.err
    assert mine.read_text() == "mine"
    begun = gentool_command(*words, "--out", tmp_path / "b", "--stop-after", 16)
    assert begun.code == 75
    (tmp_path / "b" / name).write_text("mine")
    assert gentool_command(*words, "--out", tmp_path / "b").code == 0
    assert (tmp_path / "b" / name).read_text() == "mine"


def test_json_names_the_report(image_folder: Path, tmp_path: Path) -> None:
    done = gentool_command("train", "gan", "--data", image_folder, "--images", 32, *TINY, "--json",
                           "--out", tmp_path / "run")  # fmt: skip
    assert json.loads(done.out)["report"] == str(tmp_path / "run" / "report.html")
    assert done.err.count("report:") == 2
    done = gentool_command("report", tmp_path / "run", "--quick", "--json")
    assert json.loads(done.out)["runs"] == {str(tmp_path / "run"): "done"}


# --- runs that are not whole --------------------------------------------------------------------


def test_a_stopped_run_says_so_and_how_to_go_on(image_folder: Path, tmp_path: Path) -> None:
    words = ("train", "vae", "--data", image_folder, "--out", tmp_path / "run", *TINY)
    assert gentool_command(*words, "--images", 64, "--stop-after", 16).code == 75
    page = Page(tmp_path / "run" / "report.html")
    assert "The run is stopped" in page.text and "Continue the run" in page.text
    facts = read_facts(tmp_path / "run")
    assert facts is not None
    assert facts.command.startswith("gentool train vae --data ")
    again = gentool_command(*words, "--images", 64)
    assert again.code == 0, again.err
    assert "The run is stopped" not in Page(tmp_path / "run" / "report.html").text


def test_a_damaged_run_has_a_report_that_tells(run: Path) -> None:
    with (run / "log.jsonl").open("ab") as log:
        log.write(b'{"images": 5, "x": \xff\n[1, 2]\n{"images": -1}\n{"images": 1e400, "a": 1}\n')
        log.write(b'{"images": 400, "elbo": null, "seconds": "x", "images_per_second": null}\n')
        log.write(b'{"images": 330, "setback": "loss <b>", "lr": 0.1}\n{"images": 34')
    (run / "run.json").write_text('{\n "made_by": "train", "settings": 7')
    (run / "model.safetensors").write_bytes(b"no model")
    (run / "samples" / "000000999.png").write_bytes(b"no picture")
    page = report(run)
    assert "5 lines of log.jsonl are damaged" in page.text
    assert "model.safetensors cannot be read" in page.text
    assert "run.json" in page.text
    assert "halved its learning rate" in page.text


def test_a_run_without_files_has_a_report(run: Path) -> None:
    for name in ("run.json", "log.jsonl", "report.html"):
        (run / name).unlink()
    shutil.rmtree(run / "samples")
    page = report(run)
    assert "No sheet of samples was saved yet" in page.text
    assert "There is no log.jsonl yet" in page.text


def test_a_run_before_its_first_save_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "log.jsonl").write_text('{"images": 0}\n')
    page = report(tmp_path / "run")
    assert "There is no model.safetensors yet" in page.text


def test_a_report_that_fails_is_one_warning(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_page", full)
    monkeypatch.setattr(writing, "COST", 0.0)
    done = gentool_command("train", "gan", "--data", image_folder, "--images", 64, *TINY,
                           "--save-every", 16, "--out", tmp_path / "run")  # fmt: skip
    assert done.code == 0
    assert done.err.count("the report cannot be written") == 1
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_frequent_saves_write_few_reports(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    whole = writing.write_page

    def counted(*given: Any) -> None:
        written.append(1)
        whole(*given)

    monkeypatch.setattr(writing, "write_page", counted)
    train("gan", "--data", image_folder, "--images", 320, "--save-every", 16,
          "--out", tmp_path / "run")  # fmt: skip
    assert len(written) < 10  # of 20 saves: the first, the last, and few between


# --- thinning and the film ----------------------------------------------------------------------


def test_a_long_log_is_thinned_and_keeps_its_peaks(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with path.open("w") as out:
        for k in range(20_000):
            peak = 1000.0 if k == 12_345 else -1000.0 if k == 7 else float(k % 10)
            out.write(f'{{"images": {k}, "images_per_second": 1.0, "loss": {peak}}}\n')
    log = read_log(path)
    buckets = log.lines.buckets
    assert MOST_BUCKETS / 2 < len(buckets) <= 2 * MOST_BUCKETS
    assert max(b.high("loss") for b in buckets) == 1000
    assert min(b.low("loss") for b in buckets) == -1000
    assert sum(b.lines for b in buckets) == 20_000
    assert buckets[-1].images == 19_999 and log.last["images"] == 19_999
    whole = sum(b.series["loss"][2] for b in buckets)
    assert whole == sum(k % 10 for k in range(20_000)) + 1000 - 5 - 1000 - 7


@pytest.mark.parametrize("count", [1, 2, 24, 25, 100, 1000])
def test_sheets_are_chosen_evenly_in_log_time(count: int) -> None:
    previews = [Preview(100 * (k + 1), Path(str(k))) for k in range(count)]
    chosen = choose(previews)
    assert len(chosen) == min(count, MOST_FRAMES)
    assert chosen[0] == previews[0] and chosen[-1] == previews[-1]
    numbers = [preview.images for preview in chosen]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_frame_is_small_and_keeps_its_shape(mode: str) -> None:
    frame = encode_small(Image.new(mode, (3000, 1500)), 50_000)
    assert (frame.width, frame.height) == (1056, 528)
    data = base64.b64decode(frame.uri.removeprefix("data:image/webp;base64,"))
    assert data[:4] == b"RIFF" and len(data) < 50_000


def test_previews_are_found_by_name(vae: Path) -> None:
    samples, reconstructions = find_previews(vae)
    assert samples[-1].images == reconstructions[-1].images == 320
    assert read_run(vae).samples == samples
