// The path between picked images: a slider moves from one to the next.

import * as api from "./api.js";
import { app, emit, on } from "./app.js";
import { $, copyCanvas, make, paint, silent, when } from "./dom.js";
import { between } from "./pictures.js";
import { choose, putFirst } from "./wall.js";

const SECONDS = 2; // from one image to the next
let playing = 0;

const scrub = new api.Latest(async ({ at, exact }) => {
  if (app.picks.length < 2) return;
  const picture = between(app.picks.map((tile) => tile.picture), Math.min(at, app.picks.length - 1));
  const pixels = await (exact ? api.draw : api.sketch)([picture]);
  if (pixels === null) return;
  paint($("path-view"), pixels, 0, app.state);
  $("path-view").dataset.frames = Number($("path-view").dataset.frames ?? 0) + 1;
});

export const onPath = () => between(app.picks.map((tile) => tile.picture), Number($("scrub").value));

export function startPath() {
  on("key-p", toggle);
  on("picks", build);
  on("painted", (tile) => app.picks.includes(tile) && build());
  on("steered", (tile) => app.picks.includes(tile) && build());
  when($("pick"), "click", toggle);
  when($("clear"), "click", () => setPicks([]));
  when($("play"), "click", () => (playing ? stop() : play()));
  when($("keep"), "click", () => putFirst(onPath()));
  $("scrub").addEventListener("input", () => go(Number($("scrub").value), false));
  $("scrub").addEventListener("change", () => go(Number($("scrub").value), true));
}

function toggle() {
  const tile = app.chosen;
  const others = app.picks.filter((other) => other !== tile);
  setPicks(app.picks.includes(tile) ? others : [...others, tile]);
}

function setPicks(tiles) {
  const touched = new Set([...app.picks, ...tiles]);
  app.picks = tiles;
  for (const tile of touched) emit("tile", tile);
  emit("picks");
}

function build() {
  const enough = app.picks.length >= 2;
  if (!enough) stop();
  $("path-tools").hidden = !enough;
  $("path-hint").hidden = enough;
  if (app.picks.length === 1) {
    $("path-hint").textContent = "One image is picked. Pick at least one more.";
  }
  $("keys").replaceChildren(...app.picks.map(key));
  $("scrub").max = Math.max(1, app.picks.length - 1);
  if (enough) go(Number($("scrub").value), true);
}

function key(tile, k) {
  const canvas = silent();
  copyCanvas(tile.canvas, canvas);
  const button = make("button", { type: "button", label: `Go to picked image ${k + 1}` }, canvas);
  button.addEventListener("click", () => {
    $("scrub").value = k;
    choose(tile);
    go(k, true);
  });
  return make("li", {}, button);
}

function go(at, exact) {
  $("place").textContent = `${(at + 1).toFixed(2)} of ${app.picks.length}`;
  scrub.ask({ at, exact }).catch(stop);
}

function play() {
  $("play").textContent = "Pause";
  const end = app.picks.length - 1;
  const began = performance.now() - (Number($("scrub").value) % end) * SECONDS * 1000;
  const frame = (now) => {
    const at = ((now - began) / 1000 / SECONDS) % (2 * end);
    $("scrub").value = at > end ? 2 * end - at : at; // there and back
    go(Number($("scrub").value), false);
    playing = requestAnimationFrame(frame);
  };
  playing = requestAnimationFrame(frame);
}

function stop() {
  cancelAnimationFrame(playing);
  playing = 0;
  $("play").textContent = "Play";
}
