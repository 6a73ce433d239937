// The wall of samples: a list box of tiles, of which one is chosen.

import * as api from "./api.js";
import { app, emit, on } from "./app.js";
import { className, count, drawn, seed, setSeed } from "./controls.js";
import { $, complain, icon, make, paint, silent } from "./dom.js";
import { inWords, isSample, sample } from "./pictures.js";

let drawingNow = null;

const redraw = new api.Latest(drawWaiting);

export function startWall() {
  on("restyle", restyle);
  on("reseed", () => renew(seed()));
  on("anew", () => renew(seed() + 1));
  on("recount", fill);
  on("tile", mark);
  $("wall").addEventListener("keydown", pressed);
}

// All tiles again, because the model is another one.
export function drawAll() {
  for (const tile of app.tiles) wait(tile);
  return update();
}

// As many tiles as are wanted: new ones are samples, those too many go, locked ones last.
export function fill() {
  while (app.tiles.length > count()) {
    const free = app.tiles.findLastIndex((tile) => !tile.locked && tile !== app.chosen);
    remove(app.tiles[free < 0 ? app.tiles.length - 1 : free]);
  }
  while (app.tiles.length < count()) addTile(sample(seed(), app.tiles.length, className(), drawn()));
  if (!app.tiles.includes(app.chosen)) choose(app.tiles[0]);
  return update();
}

// Put one more picture on the wall, before all others, and choose it.
export function putFirst(picture) {
  const tile = addTile(picture, true);
  tile.locked = true;
  mark(tile);
  choose(tile);
  tile.element.focus();
  update();
  return tile;
}

export function choose(tile) {
  if (tile === app.chosen) return;
  const before = app.chosen;
  app.chosen = tile;
  if (before) mark(before);
  mark(tile);
  emit("chosen", tile);
}

function addTile(picture, first = false) {
  const canvas = silent();
  canvas.width = app.state.width;
  canvas.height = app.state.height;
  const marks = make("span", { className: "marks" });
  const element = make("div", { className: "tile", role: "option", tabIndex: -1 }, canvas, marks);
  const tile = { picture, locked: false, canvas, element, marks };
  element.addEventListener("click", () => {
    choose(tile);
    element.focus();
  });
  if (first) {
    app.tiles.unshift(tile);
    $("wall").prepend(element);
  } else {
    app.tiles.push(tile);
    $("wall").append(element);
  }
  wait(tile);
  return tile;
}

function remove(tile) {
  app.tiles.splice(app.tiles.indexOf(tile), 1);
  app.picks = app.picks.filter((other) => other !== tile);
  tile.element.remove();
  emit("picks");
}

// Show on the tile what is true of it, for eyes and for screen readers.
function mark(tile) {
  const { element, marks } = tile;
  const pick = app.picks.indexOf(tile) + 1;
  const liked = app.liked.some((one) => one.tile === tile);
  element.setAttribute("aria-selected", tile === app.chosen);
  element.tabIndex = tile === app.chosen ? 0 : -1;
  const words = [inWords(tile.picture)];
  marks.replaceChildren();
  if (tile.locked) {
    words.push("locked");
    marks.append(make("span", { className: "mark" }, icon("lock")));
  }
  if (liked) {
    words.push("favourite");
    marks.append(make("span", { className: "mark heart" }, icon("heart")));
  }
  if (pick) {
    words.push(`number ${pick} of the path`);
    marks.append(make("span", { className: "mark", text: pick }));
  }
  element.setAttribute("aria-label", words.join(", "));
}

function wait(tile) {
  tile.waiting = true;
  tile.element.classList.add("waiting");
  mark(tile);
}

const free = () => app.tiles.filter((tile) => !tile.locked && isSample(tile.picture));

function restyle() {
  for (const tile of free()) {
    const start = { ...tile.picture.start, class: className(), drawing: drawn() };
    tile.picture = { ...tile.picture, start };
    wait(tile);
  }
  update();
}

// New samples in place of all tiles that are not locked.
function renew(value) {
  setSeed(value);
  app.tiles.forEach((tile, k) => {
    if (tile.locked) return;
    tile.picture = sample(value, k, className(), drawn());
    wait(tile);
  });
  emit("renewed");
  update();
}

function update() {
  drawingNow?.abort();
  return redraw.ask(null).catch((error) => {
    if (error.name !== "AbortError") complain(error);
  });
}

// Draw the tiles that wait, one block of the model at a time; the chosen one comes first.
async function drawWaiting() {
  drawingNow = new AbortController();
  const waiting = app.tiles.filter((tile) => tile.waiting);
  waiting.sort((a, b) => (b === app.chosen) - (a === app.chosen));
  const size = Math.max(1, app.state.block);
  for (let start = 0; start < waiting.length; start += size) {
    const part = waiting.slice(start, start + size);
    const asked = part.map((tile) => tile.picture);
    let pixels;
    try {
      pixels = await api.draw(asked, drawingNow.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      throw error;
    }
    if (pixels === null) return;
    part.forEach((tile, k) => {
      if (tile.picture !== asked[k]) return; // it has changed meanwhile, and is drawn again
      paint(tile.canvas, pixels, k, app.state);
      tile.waiting = false;
      tile.element.classList.remove("waiting");
      emit("painted", tile);
    });
  }
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const place = app.tiles.indexOf(app.chosen);
  const row = columns();
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row };
  const ends = { Home: 0, End: app.tiles.length - 1 };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  let next = null;
  if (key in steps) next = place + steps[key];
  else if (key in ends) next = ends[key];
  else if (["l", "f", "p", "s", "r"].includes(key)) emit(`key-${key}`);
  else return;
  event.preventDefault();
  if (next !== null && app.tiles[next]) {
    choose(app.tiles[next]);
    app.tiles[next].element.focus();
  }
}

function columns() {
  const top = app.tiles[0].element.offsetTop;
  const found = app.tiles.findIndex((tile) => tile.element.offsetTop !== top);
  return found < 0 ? app.tiles.length : found;
}
