"""The page of ``export --page`` in headless Chromium: it draws the samples of gentool, offline."""

import io
import json
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import Chromium, browser_or_skip
from conftest import TINY, gentool_command, write_images
from numpy.typing import NDArray
from PIL import Image

from gentool.checkpoint import LoadedModel
from gentool.core.errors import UsageError
from gentool.core.images import ImageShape
from gentool.core.options import from_json, to_json
from gentool.export.page import make_page
from gentool.export.web_runtime import PINNED, SCRIPT_NAME, WASM_NAME, WebRuntime, read_runtime
from gentool.models import MODELS
from gentool.models.presets import PRESETS
from gentool.outputs.marks import EXPORTED, PAGE_START, read_mark, recipe_in_html

pytest.importorskip("onnxruntime")
VERSION = next(reversed(PINNED))
_READ = """(() => { const c = document.getElementById("picture");
  return [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]; })()"""
_SECONDS = 120.0


@pytest.fixture(scope="session")
def runtime(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The archive of ONNX Runtime Web from npm; the tests are skipped where npm cannot get it."""
    if shutil.which("npm") is None:
        pytest.skip("no npm here to get onnxruntime-web with")

    def pack(folder: Path) -> None:
        folder.mkdir()
        words = ["npm", "pack", f"onnxruntime-web@{VERSION}", "--silent"]
        subprocess.run(words, cwd=folder, timeout=180, capture_output=True, check=False)

    found = list(made_once("onnxruntime-web", pack).glob("*.tgz"))
    if not found:
        pytest.skip(f"npm cannot get onnxruntime-web {VERSION} here")
    return found[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser without a network; the tests are skipped where there is none."""
    with browser_or_skip(tmp_path_factory.mktemp("profile")) as started:
        started.call("Network.emulateNetworkConditions", offline=True, latency=0,
                     downloadThroughput=0, uploadThroughput=0)  # fmt: skip
        yield started


def exported(model: Path, runtime: Path, page: Path) -> dict[str, Any]:
    done = gentool_command("export", model, "--page", page, "--runtime", runtime, "--json")
    assert done.code == 0, done.err
    told: dict[str, Any] = json.loads(done.out)["page"]
    return told


def drawn(browser: Chromium) -> NDArray[np.uint8]:
    """The picture of the page, RGBA, after it was drawn."""
    end = time.monotonic() + _SECONDS
    while (state := browser.value("document.body.dataset.state")) != "ready":
        words = browser.value("document.getElementById('status').textContent")
        assert state != "failed" and time.monotonic() < end, words
        time.sleep(0.05)
    size = browser.value("[picture.height, picture.width]")
    return np.array(browser.value(_READ), np.uint8).reshape(*size, 4)


def choose(browser: Chromium, **controls: object) -> NDArray[np.uint8]:
    """Set controls as a user does, and return the picture."""
    for key, value in controls.items():
        browser.value(
            f"(() => {{ const e = document.getElementById({json.dumps(key)});"
            f"e.value = {json.dumps(str(value))};"
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind)); })()"
        )
    return drawn(browser)


def sampled(model: Path, folder: Path, *more: object) -> NDArray[np.uint8]:
    """One image of ``gentool sample``, RGBA."""
    done = gentool_command("sample", model, "-n", 1, *more, "-o", folder, "--overwrite")
    assert done.code == 0, done.err
    with Image.open(done.lines[0]) as image:
        return np.asarray(image.convert("RGBA"))


def apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(np.abs(a.astype(int) - b).max())


def check_quiet(browser: Chromium, page: Path) -> None:
    assert browser.faults() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {page.as_uri()}


@pytest.mark.parametrize("name", ["gan", "vae", "hvae"])
def test_the_page_draws_the_samples_of_gentool(
    name: str, trained: Callable[[str], Path], runtime: Path, browser: Chromium, tmp_path: Path
) -> None:
    model, page = trained(name), tmp_path / "page.html"
    told = exported(model, runtime, page)
    assert told["drawn_in_page"] and told["largest_difference"] <= 1e-4
    assert told["sliders"] > 0 and told["runtime"] == VERSION
    browser.events.clear()
    browser.open(page)
    assert apart(drawn(browser), sampled(model, tmp_path / "s")) <= 1
    for seed, index in ((7, 3), (2**63 - 1, 1_000_000)):
        wanted = sampled(model, tmp_path / "s", "--seed", seed, "--start", index)
        assert apart(choose(browser, seed=seed, index=index), wanted) <= 1
    before = drawn(browser)
    if browser.value("document.getElementById('knob') !== null"):
        knob = browser.value("document.querySelector('label[for=knob]').textContent").lower()
        more = ("--seed", seed, "--start", index, f"--{knob}", 0.5)
        assert apart(choose(browser, knob=0.5), sampled(model, tmp_path / "s", *more)) <= 1
        choose(browser, knob=1)
    assert apart(choose(browser, d0=2), before) > 1
    browser.click("#reset")
    assert apart(drawn(browser), before) == 0
    check_quiet(browser, page)


def test_classes_and_styles(runtime: Path, browser: Chromium, tmp_path: Path) -> None:
    """A conditional model with styles: class, truncation and directions in w."""
    for kind in ("it's <b>", "all"):
        write_images(tmp_path / "data" / kind, 24)
    model, page = tmp_path / "run", tmp_path / "page.html"
    done = gentool_command("train", "stylegan2", "--data", tmp_path / "data", "--images", 64,
                           "--out", model, *TINY)  # fmt: skip
    assert done.code == 0, done.err
    exported(model, runtime, page)
    browser.events.clear()
    browser.open(page)
    drawn(browser)
    names = browser.value("[...document.querySelectorAll('#class option')].map(o => o.textContent)")
    assert names == ["any", "all", "it's <b>"]
    found = choose(browser, seed=4, knob=0.6, **{"class": 1})
    more = ("--seed", 4, "--truncation", 0.6, "--class", "it's <b>")
    assert apart(found, sampled(model, tmp_path / "s", *more)) <= 1
    command = browser.value("document.getElementById('command').textContent")
    assert command == r"gentool sample MODEL -n 1 --seed 4 --class 'it'\''s <b>' --truncation 0.6"
    choose(browser, **{"class": 0})
    assert browser.value("document.getElementById('command').textContent") == ""
    assert browser.value("document.getElementById('copy').disabled")
    note = browser.value("document.getElementById('command-note').textContent")
    assert "means every class" in note
    assert apart(choose(browser, knob=1, **{"class": -1}),
                 sampled(model, tmp_path / "s", "--seed", 4)) <= 1  # fmt: skip
    assert apart(choose(browser, d1=3), choose(browser, d1=-3)) > 1
    check_quiet(browser, page)


def test_a_model_with_codes_comes_with_a_table(
    trained: Callable[[str], Path], runtime: Path, browser: Chromium, tmp_path: Path
) -> None:
    model, page = trained("fsq"), tmp_path / "page.html"
    assert not exported(model, runtime, page)["drawn_in_page"]
    browser.open(page)
    assert browser.value("document.getElementById('seed')") is None
    assert apart(drawn(browser), sampled(model, tmp_path / "s")) <= 1
    wanted = sampled(model, tmp_path / "s", "--start", 127)
    assert apart(choose(browser, index=127), wanted) <= 1
    assert apart(choose(browser, index=128), wanted) <= 1
    assert "seed 0" in browser.value("document.getElementById('controls').textContent")


def test_the_page_fits_a_phone_and_works_by_keys(
    gan: Path, runtime: Path, browser: Chromium, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    exported(gan, runtime, page)
    mark = read_mark(page)
    assert mark is not None and mark.kind == EXPORTED and mark.recipe["part"] == "page"
    browser.events.clear()
    for width in (400, 1280, 3840):
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            assert browser.value("document.documentElement.scrollWidth") <= width
            ground = browser.value("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(18, 22, 27)") == dark
    first = drawn(browser)
    controls = "[...document.querySelectorAll('input, select')]"
    assert browser.value(f"{controls}.every(e => e.labels.length === 1)")
    browser.value("document.getElementById('later').focus()")
    browser.press("Enter", 13, "\r")
    second = drawn(browser)
    assert apart(first, second) > 1
    browser.value("document.querySelector('#wall button').focus()")
    browser.press("Enter", 13, "\r")
    assert apart(drawn(browser), first) == 0
    browser.value("document.getElementById('d0').focus()")
    for _ in range(5):
        browser.press("ArrowRight", 39)
    assert apart(drawn(browser), first) > 0
    assert not browser.value("document.getElementById('command-note').hidden")
    choose(browser, seed="-3")
    assert "whole number" in browser.value("document.getElementById('seed-error').textContent")
    check_quiet(browser, page)


# --- without a browser ------------------------------------------------------------------------


@pytest.fixture
def forged(tmp_path: Path) -> Path:
    """A folder with files of the right names and another content."""
    (tmp_path / "dist").mkdir()
    script = "/*! other */ const a = 1, b = 2;export{a as InferenceSession,b as env,a as Tensor};"
    (tmp_path / "dist" / SCRIPT_NAME).write_text(script)
    (tmp_path / "dist" / WASM_NAME).write_bytes(b"\0asm")
    return tmp_path


def packed(folder: Path, **more: tarfile.TarInfo) -> Path:
    target = folder / "onnxruntime-web-9.tgz"
    with tarfile.open(target, "w:gz") as archive:
        for info in more.values():
            archive.addfile(info, io.BytesIO(b"x" * info.size))
        archive.add(folder / "dist", "package/dist")
    return target


def test_an_unknown_runtime_needs_trust(forged: Path) -> None:
    for place in (forged, forged / "dist", forged / "dist" / WASM_NAME, packed(forged)):
        done = gentool_command("export", forged, "--page", "p.html", "--runtime", place)
        assert done.code == 2 and "--trust-runtime" in done.err
        found = read_runtime(place, trusted=True)
        assert found.version is None and found.wasm == b"\0asm"
        assert found.names == "{InferenceSession: a, Tensor: a, env: b}"
        assert found.script.endswith("const a = 1, b = 2;")


def test_a_page_of_another_model_is_refused_before_the_work(
    gan: Path, forged: Path, tmp_path: Path
) -> None:
    page, program = tmp_path / "old.html", tmp_path / "a.onnx"
    other = {"made_by": "export", "model": "vae", "model_sha256": "0" * 64, "part": "page"}
    page.write_text(f"{PAGE_START}<head>{recipe_in_html(other)}</head></html>")
    done = gentool_command("export", gan, "--onnx", program, "--page", page, "--runtime",
                           forged / "dist", "--trust-runtime")  # fmt: skip
    assert done.code == 2 and "old.html with other settings" in done.err
    assert not program.exists()


@pytest.mark.parametrize(("classes", "listed", "each"), [(3, 3, 32), (900, 896, 1)])
def test_a_table_holds_images_of_all_listed_classes(
    classes: int, listed: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the drawing of the latents and the programs, which take minutes."""

    def nothing_found(*_: object) -> None:
        raise UsageError("no directions")

    place = "gentool.export.page"
    monkeypatch.setattr(
        f"{place}_graphs.prior_blocks", lambda _, draws, __: torch.zeros(len(draws), 4)
    )
    monkeypatch.setattr(f"{place}_graphs.find_directions", nothing_found)
    monkeypatch.setattr(f"{place}.onnx_bytes", lambda *_: b"")
    monkeypatch.setattr(f"{place}.difference", lambda *_: 0.0)
    kind: Any = MODELS.get(PRESETS["fsq"].model)
    known = to_json(kind.Config())
    options = {k: v for k, v in PRESETS["fsq"].cpu.items() if k in known}
    torch.manual_seed(0)
    model = kind(from_json(kind.Config, {**options, "width": 8}), ImageShape(16, 16, 3), classes)
    header = {"model": "vae", "classes": [f"c{k}" for k in range(classes)], "training": {}}
    loaded = LoadedModel(model, header, "0" * 64, Path("x"))
    words = make_page(loaded, WebRuntime(None, "", "", b"", ("", "")), {}).content.decode()
    assert words.count("<option ") == 1 + listed
    assert (f"first {listed} of {classes} classes" in words) == (listed < classes)
    found = re.search(r'"parts": ?(\[\[.*?\]\])', words)
    assert found is not None
    assert json.loads(found[1]) == [[-1, 128], *([k, each] for k in range(listed))]


@pytest.mark.parametrize("script", ["no exports", "export{a as env};", "</script>"])
def test_a_script_of_another_form_is_refused(script: str, forged: Path) -> None:
    (forged / "dist" / SCRIPT_NAME).write_text(script)
    done = gentool_command(
        "export", forged, "--page", "p.html", "--runtime", forged, "--trust-runtime"
    )
    assert done.code == 2 and "has a form" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--page", "p.html"), "npm pack onnxruntime-web"),
        (("--page", "p.onnx", "--runtime", "x.tgz"), "must end with .html"),
        (("--runtime", "x.tgz"), "Give --page"),
        (("--page", "p.html", "--runtime", "none.tgz"), "cannot be read"),
        (("--page", "p.html", "--runtime", "."), "does not hold"),
    ],
)
def test_what_does_not_fit_is_refused(
    words: tuple[str, ...], message: str, gan: Path, tmp_path: Path
) -> None:
    done = gentool_command("export", gan, *words, cwd=tmp_path)
    assert done.code == 2
    assert message in done.err
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_none_and_links_in_one_are_refused(forged: Path) -> None:
    bad = forged / "bad.tgz"
    bad.write_bytes(b"no archive")
    link = tarfile.TarInfo(f"package/dist/{SCRIPT_NAME}")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    shutil.rmtree(forged / "dist")
    (forged / "dist").mkdir()
    for place in (bad, packed(forged, link=link)):
        done = gentool_command("export", forged, "--page", "p.html", "--runtime", place)
        assert done.code == 2 and "npm pack" in done.err
