"""The page of a report in headless Chromium: film, charts, keys, themes, and nothing loaded."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, browser_or_skip
from conftest import gentool_command
from PIL import Image

FRAMES = 5
_VIEW = "document.querySelector('.chart svg').querySelectorAll('text')"
_SHOWN = "Number(document.querySelector('.reel img.current').dataset.images)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser; the tests are skipped where there is none."""
    with browser_or_skip(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def page(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with five sheets and a longer log."""
    run = Path(shutil.copytree(vae, tmp_path_factory.mktemp("browser") / "run"))
    for k in range(FRAMES - 1):
        sheet = np.full((142, 142, 3), 40 * k, dtype=np.uint8)
        Image.fromarray(sheet).save(run / "samples" / f"{10 * 2**k:09d}.png")
    with (run / "log.jsonl").open("w") as log:
        for k in range(1, 3000):
            line = {"images": k, "share": k / 3000, "images_per_second": 9.5, "elbo": -1000 / k}
            log.write(json.dumps({**line, "kl": k % 7, "kl/0": 1.0, "kl/1": 2.0}) + "\n")
    done = gentool_command("report", run, "--device", "cpu")
    assert done.code == 0, done.err
    return run / "report.html"


def ticks(browser: Chromium) -> list[str]:
    """The numbers at the axes of the first chart."""
    found: list[str] = browser.value(f"[...{_VIEW}].map(t => t.textContent)")
    return found


def test_nothing_is_loaded_and_nothing_is_wrong(browser: Chromium, page: Path) -> None:
    browser.events.clear()
    for width in (400, 1280, 3840):
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            assert browser.value("document.documentElement.scrollWidth") <= width
            ground = browser.value("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(18, 22, 27)") == dark
    asked = {url for url in browser.requests() if not url.startswith("data:")}
    assert asked == {page.as_uri()}
    assert browser.faults() == []


def test_every_picture_is_shown(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    small = "[...document.querySelectorAll('.chart svg text')].map(t => t.getBoundingClientRect())"
    browser.open(page, 400)
    assert browser.value(f"Math.min(...{small}.map(b => b.height).filter(h => h > 0))") > 9


def test_the_film_runs_by_keys_and_by_its_button(browser: Chromium, page: Path) -> None:
    browser.open(page)
    assert browser.value(_SHOWN) == 320
    browser.value("document.getElementById('scrub').focus()")
    browser.press("ArrowLeft", 37)
    assert browser.value(_SHOWN) == 80
    assert browser.value("document.getElementById('moment').textContent") == "80 images"
    browser.press("Home", 36)
    assert browser.value(_SHOWN) == 10
    browser.value("document.getElementById('play').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.value("document.getElementById('play').textContent") == "Pause"
    wait = "new Promise(r => setTimeout(r, 4000))"
    browser.call("Runtime.evaluate", expression=wait, awaitPromise=True)
    assert browser.value(_SHOWN) == 320
    assert browser.value("document.getElementById('play').textContent") == "Play"
    assert browser.value("document.querySelectorAll('.reel img.current').length") == 1


def test_charts_zoom_by_buttons_keys_wheel_and_drag(browser: Chromium, page: Path) -> None:
    browser.open(page)
    whole = ticks(browser)
    browser.click(".chart .tools button")
    assert (zoomed := ticks(browser)) != whole
    browser.click(".chart .tools button:nth-child(3)")
    assert ticks(browser) == whole
    browser.value("document.querySelector('.chart svg').focus()")
    browser.press("+", 187, "+")
    assert ticks(browser) == zoomed
    browser.press("0", 48, "0")
    browser.press("ArrowRight", 39)
    assert "images: " in browser.value("document.querySelector('.chart .readout').textContent")
    box = browser.value(
        "(() => { const b = document.querySelector('.chart svg').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]; })()"
    )
    middle = box[0] + box[2] / 2, box[1] + box[3] / 2
    browser.mouse("mouseWheel", *middle, deltaX=0, deltaY=-120)
    assert ticks(browser) != whole
    browser.press("0", 48, "0")
    assert ticks(browser) == whole
    browser.mouse("mousePressed", *middle, button="left", clickCount=1)
    browser.mouse("mouseMoved", middle[0] + box[2] / 5, middle[1], button="left")
    browser.mouse("mouseReleased", middle[0] + box[2] / 5, middle[1], button="left", clickCount=1)
    assert ticks(browser) != whole
    assert browser.faults() == []


def test_the_theme_can_be_chosen(browser: Chromium, page: Path) -> None:
    browser.open(page)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.value(ground)
    browser.click("#theme")
    assert browser.value(ground) != light
    assert browser.value("document.getElementById('theme').textContent") == "Light theme"
    browser.open(page)
    assert browser.value(ground) != light  # it is remembered
    browser.click("#theme")


def test_the_first_key_reaches_the_content(browser: Chromium, page: Path) -> None:
    browser.open(page)
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.className") == "skip"
    seen: list[Any] = []
    for _ in range(200):
        browser.press("Tab", 9)
        seen.append(browser.value("document.activeElement.tagName"))
    assert {"A", "BUTTON", "INPUT", "svg", "SUMMARY", "PRE"} <= set(seen)


def test_contrast_is_enough(browser: Chromium, page: Path) -> None:
    script = """(() => {
      const parse = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
      const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const light = (c) => parse(c).map(linear)
        .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
      const style = (s) => getComputedStyle(document.querySelector(s));
      const ground = light(style('#film').backgroundColor);
      return ['#film p', '.chart figcaption p', 'summary', '.good strong', 'dt', 'nav a']
        .map((s) => light(style(s).color))
        .map((l) => (Math.max(l, ground) + 0.05) / (Math.min(l, ground) + 0.05));
    })()"""
    for dark in (False, True):
        browser.open(page, dark=dark)
        assert min(browser.value(script)) >= 4.5  # WCAG 2.2, AA
