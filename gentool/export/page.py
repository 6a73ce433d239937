"""A model in one HTML file that draws samples in a browser, without a server or the internet.

The file holds the decoder, the prior, and ONNX Runtime as WebAssembly, compressed with gzip. Its
Content-Security-Policy allows its one script and its one style, and no request. Random numbers are
computed as ``core.rng`` computes them, so the images are those of ``gentool sample``.
"""

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gentool.checkpoint import LoadedModel
from gentool.core.version import __version__
from gentool.export.onnx_files import difference, onnx_bytes
from gentool.export.page_graphs import Drawing, packed, plan_drawing
from gentool.export.web_runtime import WebRuntime
from gentool.outputs.marks import PAGE_START, Recipe, recipe_in_html
from gentool.report.markup import data_block, hash_for_policy, name, resource, text

_WALL = 12  # images beside each other; as in page.js
_AMOUNT = 3  # largest shift along a direction, in standard deviations
_LICENCE = """\
ONNX Runtime Web, Copyright (c) Microsoft Corporation. MIT License.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and \
associated documentation files (the "Software"), to deal in the Software without restriction, \
including without limitation the rights to use, copy, modify, merge, publish, distribute, \
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is \
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or \
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT \
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND \
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, \
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT \
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


@dataclass(frozen=True)
class Page:
    """A page, before it is written.

    Attributes:
        content: The HTML.
        differences: Largest difference of each part from the model, by name.
        drawn: Whether latents are drawn in the page; otherwise it holds a table of them.
        sliders: Number of directions.
    """

    content: bytes
    differences: dict[str, float]
    drawn: bool
    sliders: int


def make_page(loaded: LoadedModel, runtime: WebRuntime, recipe: Recipe) -> Page:
    """Return the page of a model, which is on the CPU.

    Raises:
        GentoolError: a part computes something else than the model.
    """
    model = loaded.model.eval().requires_grad_(False)
    drawing = plan_drawing(model)
    files = {part.name: onnx_bytes(part, recipe) for part in drawing.parts}
    differences = {part.name: difference(files[part.name], part) for part in drawing.parts}
    arrays = {key: array.astype("<f4").tobytes() for key, array in drawing.arrays.items()}
    blocks = {"runtime": runtime.wasm, **files, **arrays}
    content = _html(loaded, runtime, recipe, drawing, blocks).encode()
    shape = drawing.told.get("directions")
    sliders = shape[0] if isinstance(shape, list) else 0
    return Page(content, differences, "noise" in drawing.told, sliders)


def _html(
    loaded: LoadedModel, runtime: WebRuntime, recipe: Recipe, drawing: Drawing,
    blocks: Mapping[str, bytes],
) -> str:  # fmt: skip
    """Return the whole page."""
    style = resource("page.css") + _own("page.css")
    own = _own("draws.js") + _own("page.js")
    script = f"{runtime.script}\n((ort) => {{\n{own}}})({runtime.names});"
    policy = (
        f"default-src 'none'; style-src {hash_for_policy(style)}; "
        f"script-src 'wasm-unsafe-eval' {hash_for_policy(script)}; base-uri 'none'; "
        "form-action 'none'"
    )
    shape, classes = loaded.model.shape, list(loaded.header["classes"])
    told = {
        **drawing.told, "classes": classes if loaded.model.classes else [],
        "shape": [shape.height, shape.width, shape.channels],
    }  # fmt: skip
    title = loaded.header["training"].get("name") or f"{loaded.header['model']}, {shape}"
    summary = loaded.model.summary()
    data = "\n".join(_block(key, content) for key, content in blocks.items())
    return (
        f'{PAGE_START}<head>\n<meta charset="utf-8">\n{recipe_in_html(recipe)}\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{text(title)} - gentool</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the content</a>\n'
        f'<header><div class="head"><h1>{name(title)}</h1>'
        '<button type="button" id="theme">Dark theme</button></div>'
        f'<p class="model">{text(summary[:1].upper() + summary[1:])}. Images: {text(shape)}. '
        "Everything is computed in this page.</p></header>\n"
        f'<main id="main">\n{_body(told)}\n</main>\n{_footer(loaded, runtime)}\n'
        f"{data_block('data-of-page', told)}\n{data}\n"
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def _block(key: str, content: bytes) -> str:
    """Return an element with data for the script, compressed and in base64."""
    words = base64.b64encode(packed(content)).decode()
    return f'<script type="text/plain" id="data-{key}">{words}</script>'


def _own(file: str) -> str:
    """Return the text of a file beside this one."""
    return Path(__file__).with_name(file).read_text(encoding="utf-8")


def _body(told: Mapping[str, object]) -> str:
    """Return the picture, the controls and the wall of further images."""
    shape = told["shape"]
    assert isinstance(shape, list)
    height, width, channels = shape
    checks = ' class="checks"' if channels == 4 else ""  # behind what is transparent
    canvas = f'width="{width}" height="{height}"{checks}'
    note = "<p>Browsers round the colours of pixels that are nearly transparent.</p>"
    wall = "".join(
        f'<li><button type="button"><canvas {canvas}></canvas></button></li>' for _ in range(_WALL)
    )
    return (
        '<div class="work">\n<section aria-labelledby="picture-title">'
        '<h2 id="picture-title">Picture</h2>'
        f'<canvas id="picture" role="img" {canvas} aria-label="No picture yet"></canvas>'
        '<p id="caption"></p><p id="status" role="status">Opening the model ...</p>'
        f"{note if checks else ''}"
        '<p><button type="button" id="save">Save as PNG</button></p>'
        '<h3>The same picture with gentool</h3><div class="command"><pre tabindex="0">'
        '<code id="command"></code></pre><button type="button" id="copy">Copy</button></div>'
        '<p id="command-note" hidden></p></section>\n'
        '<section id="controls" aria-labelledby="controls-title">'
        f'<h2 id="controls-title">Controls</h2>{_which(told)}{_knob(told)}{_sliders(told)}'
        "</section>\n</div>\n"
        '<section aria-labelledby="wall-title"><h2 id="wall-title">More images of this seed</h2>'
        f'<ul id="wall">{wall}</ul></section>'
    )


def _which(told: Mapping[str, object]) -> str:
    """Return the controls that choose the image: seed, index and class."""
    seed = (
        '<div class="row"><label for="seed">Seed</label>'
        '<input id="seed" type="text" inputmode="numeric" value="0" autocomplete="off" '
        'aria-describedby="seed-error"><button type="button" id="another">Random</button></div>'
        '<p class="error" id="seed-error" role="alert"></p>'
    )
    table = told.get("table")
    if isinstance(table, dict):
        seed = (
            f"<p>The latents of this model are drawn code by code, which this page cannot do. It "
            f"holds those of the first {table['parts'][0][1]} images of seed 0.</p>"
        )
    classes = told["classes"]
    assert isinstance(classes, list)
    if isinstance(table, dict) and len(classes) > (there := len(table["parts"]) - 1):
        seed += f"<p>It holds only the first {there:,} of {len(classes):,} classes.</p>"
        classes = classes[:there]
    options = "".join(
        f'<option value="{k}">{text(kind)}</option>' for k, kind in enumerate(classes)
    )
    kinds = (
        '<div class="row"><label for="class">Class</label><select id="class">'
        f'<option value="-1">any</option>{options}</select></div>'
    )
    return (
        f"<fieldset disabled><legend>Which image</legend>{seed}"
        '<div class="row"><label for="index">Image</label>'
        '<input id="index" type="number" min="0" value="0" autocomplete="off">'
        '<button type="button" id="earlier" aria-label="Previous image">&lt;</button>'
        '<button type="button" id="later" aria-label="Next image">&gt;</button></div>'
        f"{kinds if classes else ''}</fieldset>"
    )


def _knob(told: Mapping[str, object]) -> str:
    """Return the slider of truncation or temperature, if the model has one."""
    knob = told["knob"]
    if not isinstance(knob, dict):
        return ""
    return (
        "<fieldset disabled><legend>How it is drawn</legend>"
        f'<div class="row"><label for="knob">{text(knob["name"].capitalize())}</label>'
        f'<input id="knob" type="range" min="0" max="{knob["most"]}" step="0.05" value="1" '
        'autocomplete="off"><output for="knob">1.00</output></div></fieldset>'
    )


def _sliders(told: Mapping[str, object]) -> str:
    """Return a slider for each direction, if the model has directions."""
    shape = told.get("directions")
    if not isinstance(shape, list):
        return ""
    rows = "".join(
        f'<div class="row"><label for="d{k}">Direction {k + 1}</label>'
        f'<input id="d{k}" type="range" min="-{_AMOUNT}" max="{_AMOUNT}" step="0.1" value="0" '
        f'autocomplete="off"><output for="d{k}">0.0</output></div>'
        for k in range(shape[0])
    )
    return (
        '<fieldset disabled id="directions"><legend>Change it, in standard deviations</legend>'
        f'{rows}<p><button type="button" id="reset">All to 0</button></p></fieldset>'
    )


def _footer(loaded: LoadedModel, runtime: WebRuntime) -> str:
    """Return what the page was made of."""
    version = runtime.version or "of an unknown version"
    return (
        f"<footer><p>Written by gentool {__version__} from a model with SHA-256 "
        f"{text(loaded.sha256)}. The page loads nothing from elsewhere.</p>"
        f"<details><summary>ONNX Runtime Web {text(version)}, inside this page</summary>"
        f'<p class="licence">{html.escape(_LICENCE)}</p></details></footer>'
    )
