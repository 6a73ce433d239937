// The studio: the chosen image, large, with a slider for each direction.

import * as api from "./api.js";
import { app, emit, on } from "./app.js";
import { $, copyCanvas, make, paint, saveFile, silent, when } from "./dom.js";
import { copy, distance, inWords, isMoved, withMove, withoutMoves } from "./pictures.js";

const FURTHEST = 4; // standard deviations to each side
const GLANCE = 2.5; // distance of the small pictures beside a slider
const PAUSE = 250; // milliseconds, after which these are drawn

let rows = []; // {input, output, less, more}
let pausing = 0;

const steer = new api.Latest(async ({ tile, exact }) => {
  const asked = tile.picture;
  const pixels = await (exact ? api.draw : api.sketch)([asked]);
  if (pixels === null || tile !== app.chosen) return;
  paint(tile.canvas, pixels, 0, app.state);
  copyCanvas(tile.canvas, $("big"));
  $("big").dataset.frames = Number($("big").dataset.frames ?? 0) + 1;
});

const glance = new api.Latest(async (tile) => {
  const shown = rows.flatMap((row, k) => [-GLANCE, GLANCE].map((x) => withMove(tile.picture, app.by, k, x)));
  if (!shown.length) return;
  const pixels = await api.draw(shown);
  if (pixels === null || tile !== app.chosen) return;
  rows.forEach((row, k) => {
    paint(row.less.firstChild, pixels, 2 * k, app.state);
    paint(row.more.firstChild, pixels, 2 * k + 1, app.state);
  });
});

export function startStudio() {
  on("chosen", show);
  on("painted", (tile) => tile === app.chosen && show(tile));
  on("renewed", () => app.chosen && show(app.chosen));
  on("tile", (tile) => tile === app.chosen && press(tile));
  on("picks", () => app.chosen && press(app.chosen));
  when($("lock"), "click", () => toggleLock());
  when($("save"), "click", save);
  when($("reset"), "click", reset);
  when($("by"), "change", () => findDirections($("by").value));
  on("key-l", toggleLock);
  on("key-s", () => $("save").click());
}

export function buildStudio() {
  const { methods } = app.state;
  $("by").replaceChildren(...methods.map((name) => make("option", { value: name, text: name })));
  $("by-field").hidden = methods.length < 2;
  $("reset").hidden = methods.length === 0;
  rows = [];
  $("directions").replaceChildren();
  if (methods.length === 0) {
    $("directions-state").textContent =
      "This model has no directions: its images are made from discrete codes.";
    return;
  }
  app.by = methods.includes(app.by) ? app.by : methods[0];
  $("by").value = app.by;
}

// Ask the program for directions, which takes seconds the first time.
export async function findDirections(by) {
  if (!app.state.methods.length) return;
  $("directions-state").textContent = "Finding directions. This takes some seconds the first time.";
  let found;
  try {
    found = await api.post("/directions", { by });
  } catch (error) {
    $("directions-state").textContent = error.message;
    return;
  }
  app.by = by;
  $("directions-state").textContent = "";
  rows = Array.from({ length: found.count }, (_, k) => direction(k));
  $("directions").replaceChildren(...rows.map((row) => row.element));
  show(app.chosen);
}

function direction(k) {
  const id = `direction-${k}`;
  const input = make("input", { id, type: "range", min: -FURTHEST, max: FURTHEST, step: 0.1, value: 0 });
  input.setAttribute("aria-label", `Direction ${k + 1}, in standard deviations`);
  const output = make("output", { text: "0" });
  output.htmlFor = id;
  const less = small(`Direction ${k + 1}: one less`);
  const more = small(`Direction ${k + 1}: one more`);
  const number = make("label", { htmlFor: id, text: k + 1 });
  const element = make("div", { className: "direction" }, number, less, input, more, output);
  input.addEventListener("input", () => move(k, Number(input.value), false));
  input.addEventListener("change", () => move(k, Number(input.value), true));
  const step = (by) => () => {
    input.value = Number(input.value) + by;
    move(k, Number(input.value), true);
  };
  less.addEventListener("click", step(-1));
  more.addEventListener("click", step(1));
  return { element, input, output, less, more };
}

const small = (label) => make("button", { type: "button", label }, silent());

function move(k, value, exact) {
  const tile = app.chosen;
  tile.picture = withMove(tile.picture, app.by, k, value);
  rows[k].output.textContent = signed(value);
  if (!tile.locked && isMoved(tile.picture)) {
    tile.locked = true; // so that it is not drawn anew by accident
    emit("tile", tile);
  }
  steer.ask({ tile, exact }).catch(complainLater);
  if (exact) {
    describe(tile);
    emit("tile", tile);
    emit("steered", tile);
    glanceSoon(tile);
  }
}

function reset() {
  const tile = app.chosen;
  tile.picture = withoutMoves(tile.picture);
  show(tile);
  emit("tile", tile);
  emit("steered", tile);
  return steer.ask({ tile, exact: true });
}

// Show the chosen tile: its image, its words, and where its sliders stand.
function show(tile) {
  copyCanvas(tile.canvas, $("big"));
  rows.forEach((row, k) => {
    const value = distance(tile.picture, app.by, k);
    row.input.value = value;
    row.output.textContent = signed(value);
  });
  describe(tile);
  press(tile);
  glanceSoon(tile);
}

function describe(tile) {
  $("caption").textContent = inWords(tile.picture);
  $("big").setAttribute("aria-label", `The chosen image: ${inWords(tile.picture)}`);
}

function press(tile) {
  $("lock").setAttribute("aria-pressed", tile.locked);
  $("lock").lastElementChild.textContent = tile.locked ? "Locked" : "Lock";
  $("pick").setAttribute("aria-pressed", app.picks.includes(tile));
  $("like").setAttribute("aria-pressed", app.liked.some((one) => one.tile === tile));
}

function glanceSoon(tile) {
  clearTimeout(pausing);
  pausing = setTimeout(() => {
    if (tile === app.chosen && !tile.waiting) glance.ask(tile).catch(complainLater);
  }, PAUSE);
}

const complainLater = () => {}; // the next request of the wall or of the pulse tells it

function toggleLock() {
  const tile = app.chosen;
  tile.locked = !tile.locked;
  emit("tile", tile);
}

async function save() {
  saveFile(await api.file("/picture", [copy(app.chosen.picture)]));
}

const signed = (value) => (value ? (value > 0 ? "+" : "\u2212") + Math.abs(value).toFixed(1) : "0");
