"""The page of ``explore`` in headless Chromium: clicks, keys, photos, downloads, themes."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Chromium, browser_or_skip
from conftest import draw as draw_photo
from explorer import Explorer, sample
from numpy.typing import NDArray
from PIL import Image

from gentool.core.picture_files import read_recipe

_TILES = "[...document.querySelectorAll('.tile')]"
_READY = "document.documentElement.dataset.ready === 'yes'"
_CALM = f"{_TILES}.every(t => !t.classList.contains('waiting'))"
_CHOSEN = f"{_TILES}.findIndex(t => t.getAttribute('aria-selected') === 'true')"
_LABEL = "document.activeElement.getAttribute('aria-label')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser; the tests are skipped where there is none."""
    with browser_or_skip(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def of_vae(vae: Path) -> Iterator[Explorer]:
    with Explorer(vae) as explorer:
        yield explorer


@pytest.fixture
def page(browser: Chromium, of_vae: Explorer) -> Iterator[Chromium]:
    """The page of a VAE; at the end, nothing was wrong and nothing left the machine."""
    open_page(browser, of_vae)
    browser.value("sessionStorage.clear()")
    yield browser
    check(browser, of_vae)


def open_page(browser: Chromium, explorer: Explorer, width: int = 1280, **how: Any) -> None:
    browser.open("about:blank")
    browser.events.clear()
    browser.open(explorer.address, width, **how)
    browser.until(_READY)
    browser.until(_CALM)


def check(browser: Chromium, explorer: Explorer) -> None:
    assert browser.faults() == []
    own = (f"http://127.0.0.1:{explorer.port}/", f"blob:http://127.0.0.1:{explorer.port}/")
    assert [url for url in browser.requests() if not url.startswith(own)] == []


def pixels(browser: Chromium, selector: str) -> NDArray[np.int64]:
    """The RGB values of a canvas, (height, width, 3)."""
    found = browser.value(
        f"(() => {{ const from = document.querySelector({json.dumps(selector)});"
        "const to = document.createElement('canvas'); to.width = from.width;"
        "to.height = from.height; const seen = to.getContext('2d', {willReadFrequently: true});"
        "seen.drawImage(from, 0, 0);"
        "return [to.height, to.width, ...seen.getImageData(0, 0, to.width, to.height).data]; })()"
    )
    return np.array(found[2:]).reshape(*found[:2], 4)[..., :3]


def until_shown(
    browser: Chromium, selector: str, wanted: NDArray[Any], most: int = 0, seconds: float = 30
) -> None:
    """Wait until a canvas shows an image; values may differ by ``most``."""
    end = time.monotonic() + seconds
    while np.abs(pixels(browser, selector) - wanted).max() > most:
        assert time.monotonic() < end, f"{selector} never shows it"
        time.sleep(0.05)


def stored(browser: Chromium) -> Any:
    """The favourites that the browser keeps for this tab."""
    (kept,) = browser.value("Object.values({...sessionStorage})")
    return json.loads(kept)


def tile(number: int) -> str:
    return f".tile:nth-child({number + 1})"


def press(browser: Chromium, letter: str) -> None:
    browser.press(letter, ord(letter.upper()), letter)


def slide(browser: Chromium, element: str, steps: int) -> None:
    """Move a slider by keys, as a person does."""
    browser.value(f"document.getElementById('{element}').focus()")
    for _ in range(abs(steps)):
        browser.press("ArrowRight" if steps > 0 else "ArrowLeft", 39 if steps > 0 else 37)


def test_the_page_fits_every_screen_in_both_themes(browser: Chromium, of_vae: Explorer) -> None:
    for width in (400, 1280, 3840):
        for dark in (False, True):
            open_page(browser, of_vae, width, dark=dark)
            assert browser.value("document.documentElement.scrollWidth") <= width
            ground = browser.value("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(18, 22, 27)") == dark
            check(browser, of_vae)
    assert browser.value("location.search") == ""  # the token is not left in the address


def test_the_wall_shows_the_samples_of_the_seed(page: Chromium, of_vae: Explorer) -> None:
    count = page.value(f"{_TILES}.length")
    wanted = of_vae.draw(*[sample(0, k) for k in range(count)])
    for k in (0, 1, count - 1):
        until_shown(page, f"{tile(k)} canvas", wanted[k])
    until_shown(page, "#big", wanted[0])


def test_clicks_lock_and_draw_the_rest_anew(page: Chromium, of_vae: Explorer) -> None:
    page.click(tile(2))
    page.click("#lock")
    assert page.value("document.getElementById('lock').getAttribute('aria-pressed')") == "true"
    page.click("#anew")
    page.until("document.getElementById('seed').value === '1'")
    page.until(_CALM)
    old, new = of_vae.draw(sample(0, 2), sample(1, 3))
    until_shown(page, f"{tile(2)} canvas", old)
    until_shown(page, f"{tile(3)} canvas", new)


def test_keys_alone_choose_lock_pick_and_like(page: Chromium) -> None:
    page.press("Tab", 9)
    assert page.value("document.activeElement.className") == "skip"
    for _ in range(40):
        page.press("Tab", 9)
        if page.value("document.activeElement.getAttribute('role')") == "option":
            break
    assert page.value(_LABEL) == "seed 0, image 0"
    page.press("ArrowRight", 39)
    assert page.value(_CHOSEN) == 1
    press(page, "l")
    press(page, "f")
    press(page, "p")
    assert page.value(_LABEL) == "seed 0, image 1, locked, favourite, number 1 of the path"
    page.press("ArrowDown", 40)
    assert page.value(_CHOSEN) > 2
    page.press("End", 35)
    press(page, "p")
    page.until("!document.getElementById('path-tools').hidden")
    page.press("Home", 36)
    assert page.value(_CHOSEN) == 0
    press(page, "r")
    page.until("document.getElementById('seed').value === '1'")
    seen = set()
    for _ in range(60):
        page.press("Tab", 9)
        seen.add(page.value("document.activeElement.id"))
    assert {"lock", "like", "pick", "save", "direction-0", "direction-7", "reset", "scrub", "play",
            "keep", "sheet", "recipe", "copy", "commands"} <= seen  # fmt: skip


def test_a_slider_steers_the_image(page: Chromium, of_vae: Explorer) -> None:
    page.click(tile(4))
    slide(page, "direction-0", 12)
    before, after = of_vae.draw(
        sample(0, 4), {**sample(0, 4), "by": "principal", "moves": [[0, 1.2]]}
    )
    assert not np.array_equal(before, after)
    until_shown(page, "#big", after)
    until_shown(page, f"{tile(4)} canvas", after)
    assert "locked" in page.value(f"{_TILES}[4].getAttribute('aria-label')")
    assert "moved along 1 direction" in page.value("document.getElementById('caption').textContent")
    page.click("#reset")
    page.until("document.getElementById('direction-0').value === '0'")
    until_shown(page, "#big", before)


def test_a_path_leads_from_image_to_image(page: Chromium, of_vae: Explorer) -> None:
    for number in (1, 6):
        page.click(tile(number))
        page.click("#pick")
    page.until("!document.getElementById('path-tools').hidden")
    slide(page, "scrub", 50)
    assert page.value("document.getElementById('place').textContent") == "1.50 of 2"
    wanted = of_vae.draw({"start": {"keys": [sample(0, 1), sample(0, 6)], "at": 0.5}})[0]
    until_shown(page, "#path-view", wanted, most=1)
    count = page.value(f"{_TILES}.length")
    page.click("#keep")
    page.until(f"{_TILES}.length === {count + 1}")
    until_shown(page, f"{tile(0)} canvas", wanted)
    frames = "Number(document.getElementById('path-view').dataset.frames)"
    shown = page.value(frames)
    page.click("#play")
    page.until(f"{frames} > {shown + 5}")
    page.click("#play")
    assert page.value("document.getElementById('play').textContent") == "Play"


def test_favourites_become_files_and_commands(
    page: Chromium, of_vae: Explorer, vae: Path, tmp_path: Path
) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for number in (0, 1):
        page.click(tile(number))
        page.click("#like")
    commands = "document.getElementById('commands').textContent"
    page.until(f"{commands} !== ''")
    page.until(f"{commands}.includes('-n 2')")
    assert page.value(commands) == (f"gentool sample {vae} --seed 0 --start 0 -n 2 -o favourites")
    slide(page, "direction-1", -8)
    page.click("#like")
    page.until(f"{commands}.includes('--like recipe.toml')")
    for button, name in (("#sheet", "favourites.png"), ("#recipe", "recipe.toml"),
                         ("#save", "latents-")):  # fmt: skip
        page.click(button)
        end = time.monotonic() + 30
        while not (found := [p for p in tmp_path.glob(f"{name}*") if p.suffix != ".crdownload"]):
            assert time.monotonic() < end, name
            time.sleep(0.05)
        assert found[0].stat().st_size > 0
    assert read_recipe(tmp_path / "favourites.png") is not None
    text = (tmp_path / "recipe.toml").read_text()
    assert text.count("[[image]]") == 3
    open_page(page, of_vae)  # a reload keeps them
    page.until(f"{commands}.includes('--like recipe.toml')")
    page.click("#liked .away")
    page.until("document.querySelectorAll('#liked li').length === 2")
    page.click("#forget")
    page.until("document.getElementById('favourites-tools').hidden")


def test_a_photo_is_dropped_and_opened(page: Chromium, of_vae: Explorer, tmp_path: Path) -> None:
    for number in (3, 8):
        Image.fromarray(draw_photo(number, 48)).save(tmp_path / f"{number}.png")
    count = page.value(f"{_TILES}.length")
    data = {"items": [], "files": [str(tmp_path / "3.png")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)
    page.until(f"{_TILES}.length === {count + 1}")
    page.until("!document.getElementById('original-view').hidden")
    assert "photo, locked" in page.value(f"{_TILES}[0].getAttribute('aria-label')")
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    field = page.call("DOM.querySelector", nodeId=root, selector="#photo-file")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "8.png")])
    page.until(f"{_TILES}.length === {count + 2}")
    page.until(_CALM)
    assert "PSNR" in page.value("document.getElementById('news').textContent")
    slide(page, "direction-0", 5)
    assert "photo, moved" in page.value("document.getElementById('caption').textContent")


def test_the_theme_can_be_chosen(page: Chromium, of_vae: Explorer) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.value(ground)
    page.click("#theme")
    assert page.value(ground) != light
    assert page.value("document.getElementById('theme').textContent") == "Light theme"
    open_page(page, of_vae)
    assert page.value(ground) != light  # it is remembered
    page.click("#theme")
    assert page.value(ground) == light


def test_contrast_is_enough(page: Chromium, of_vae: Explorer) -> None:
    script = """(() => {
      const parse = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255);
      const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
      const light = (c) => parse(c).map(linear)
        .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
      const style = (s) => getComputedStyle(document.querySelector(s));
      const pairs = [['#samples h2', '#samples'], ['#keys-short', '#samples'], ['#anew', '#anew'],
        ['.field', '#samples'], ['#summary', 'body'], ['#lock', '#lock'], ['footer', 'body']];
      return pairs.map(([a, b]) => [light(style(a).color), light(style(b).backgroundColor)])
        .map(([a, b]) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    })()"""
    for dark in (False, True):
        open_page(page, of_vae, dark=dark)
        assert min(page.value(script)) >= 4.5  # WCAG 2.2, AA


def test_everything_has_a_name_for_a_screen_reader(page: Chromium) -> None:
    pressed = (tile(0), "#pick", "#like", tile(1), "#pick", "#like")
    for selector in pressed:
        page.click(selector)
    page.until("document.querySelectorAll('#liked li').length === 2")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "slider", "spinbutton", "combobox", "option", "listbox", "image", "region"}
    nameless = [
        node for node in tree
        if not node.get("ignored") and node.get("role", {}).get("value") in roles
        and not node.get("name", {}).get("value")
    ]  # fmt: skip
    assert nameless == []


def test_options_and_classes_of_a_gan_change_the_wall(browser: Chromium, gan: Path) -> None:
    with Explorer(gan) as explorer:
        open_page(browser, explorer)
        slide(browser, "draw-truncation", -10)
        browser.until(_CALM)
        browser.value("document.getElementById('class').focus()")
        for _ in range(2):
            browser.press("ArrowDown", 40)
        browser.until("document.getElementById('class').value === '1'")
        wanted = explorer.draw(sample(0, 1, "disc", truncation=0.5))[0]
        until_shown(browser, f"{tile(1)} canvas", wanted)
        check(browser, explorer)


def test_a_new_save_is_shown_at_once(browser: Chromium, vae: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(vae, tmp_path / "run"))
    with Explorer(run) as explorer:
        open_page(browser, explorer)
        new = run / "new.safetensors"
        shutil.copy(run / "model.safetensors", new)
        new.replace(run / "model.safetensors")
        browser.until("document.getElementById('news').textContent.includes('A new save')")
        browser.until(_CALM)
        assert "320 images seen" in browser.value("document.getElementById('run').textContent")
        check(browser, explorer)


def test_a_favourite_stays_what_it_shows(browser: Chromium, gan: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(gan, tmp_path / "run"))
    Image.fromarray(draw_photo(3, 48)).save(tmp_path / "photo.png")
    said = "document.getElementById('search-state').textContent"
    with Explorer(run) as explorer:
        open_page(browser, explorer)
        root = browser.call("DOM.getDocument")["root"]["nodeId"]
        field = browser.call("DOM.querySelector", nodeId=root, selector="#photo-file")["nodeId"]
        browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "photo.png")])
        browser.until(f"/^now .* dB$/.test({said})")
        first = browser.value(said)
        browser.click("#like")
        (kept,) = stored(browser)
        browser.click("#search")
        browser.until(f"/^now .* dB$/.test({said}) && {said} !== {json.dumps(first)}")
        browser.until(_CALM)
        assert stored(browser) == [kept]
        before = explorer.draw(kept)[0]
        until_shown(browser, "#liked canvas", before)
        assert not np.array_equal(pixels(browser, f"{tile(0)} canvas"), before)
        assert "favourite" not in browser.value(f"{_TILES}[0].getAttribute('aria-label')")
        new = run / "new.safetensors"
        shutil.copy(run / "model.safetensors", new)
        new.replace(run / "model.safetensors")
        browser.until("document.getElementById('news').textContent.includes('A new save')")
        browser.until(f"{said} === ''")
        browser.until(_CALM)
        until_shown(browser, f"{tile(0)} canvas", before)  # from the encoder of the new save
        check(browser, explorer)


def test_favourites_that_cannot_be_drawn_are_not_lost(page: Chromium, of_vae: Explorer) -> None:
    open_page(page, of_vae)  # without the favourites of another test
    page.click(tile(2))
    page.click("#like")
    gone = {"start": {"photo": "0" * 16}, "moves": []}
    page.value(
        "(() => { const key = Object.keys(sessionStorage)[0];"
        "sessionStorage.setItem(key, JSON.stringify("
        f"[{json.dumps(gone)}, ...JSON.parse(sessionStorage.getItem(key))])); }})()"
    )
    open_page(page, of_vae)
    until_shown(page, "#liked canvas", of_vae.draw(sample(0, 2))[0])
    assert "1 favourite cannot be drawn now (this photo is no longer kept here" in page.value(
        "document.getElementById('news').textContent"
    )
    page.click(tile(3))
    page.click("#like")
    assert [one["start"].get("index") for one in stored(page)] == [2, 3, None]
    page.click("#forget")
    assert stored(page) == []
    page.events.clear()  # the refusals of what cannot be drawn


def test_following_goes_on_after_a_pulse_that_failed(page: Chromium) -> None:
    page.value(
        "(() => { const real = window.fetch; window.fetch = (path, how) => {"
        "if (path !== '/pulse') return real(path, how);"
        "window.fetch = real; return Promise.reject(new TypeError('lost')); }; })()"
    )
    trouble = "document.getElementById('trouble')"
    page.until(f"{trouble}.textContent.includes('does not answer')")
    page.until(f"{trouble}.hidden")


def test_names_in_the_model_are_only_text(browser: Chromium, gan: Path, tmp_path: Path) -> None:
    from gentool.checkpoint import read_file, write_file

    header, tensors = read_file(gan / "model.safetensors")
    nasty = "<img src=x onerror=alert(1)>\ud800"
    path = tmp_path / "<script>alert(2)<"
    path.mkdir()
    write_file(path / "model.safetensors", tensors, {**header, "classes": [nasty, "'\"><b>"]})
    with Explorer(path) as explorer:
        open_page(browser, explorer)
        assert browser.value("document.getElementById('name').textContent") == path.name
        options = "[...document.getElementById('class').options].map(o => o.textContent)"
        assert browser.value(options)[2] == "'\"><b>"
        assert browser.value("document.querySelectorAll('img, b, main script').length") == 0
        check(browser, explorer)
