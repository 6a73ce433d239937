// Favourites: they become a sheet, a recipe and shell commands.

import * as api from "./api.js";
import { app, emit, on } from "./app.js";
import { $, complain, copyCanvas, make, paint, saveFile, silent, tell, when } from "./dom.js";
import { copy, inWords, same } from "./pictures.js";
import { onPath } from "./path.js";

let apart = []; // pictures that cannot be drawn now; they stay stored

const key = () => `gentool-favourites-${app.state.name}-${app.state.key}`;

const list = new api.Latest(async () => {
  if (!app.liked.length) return;
  const { commands } = await api.post("/commands", { pictures: pictures() });
  $("commands").textContent = commands.join("\n");
  const needed = commands.some((line) => line.includes(" --like recipe.toml"));
  $("commands-hint").textContent = needed
    ? "The same images from a shell (the first command needs recipe.toml; the others draw samples without it):"
    : "The same images from a shell:";
});

export function startFavourites() {
  on("key-f", toggle);
  on("steered", follow);
  on("painted", follow);
  when($("like"), "click", toggle);
  when($("path-like"), "click", () => add(onPath(), null, $("path-view")));
  when($("sheet"), "click", async () => saveFile(await api.file("/sheet", pictures())));
  when($("recipe"), "click", async () => saveFile(await api.file("/recipe", pictures())));
  when($("copy"), "click", copyCommands);
  when($("forget"), "click", () => {
    apart = [];
    setLiked([]);
  });
}

// Favourites of this tab, which a reload does not lose; drawn again, since the model may be newer.
export async function restore() {
  app.liked = [...stored().map((picture) => ({ picture, tile: null, canvas: silent() })), ...app.liked];
  await drawLiked();
  build();
}

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(key()) ?? "[]");
  } catch {
    return []; // the browser keeps nothing, or not what this page wrote
  }
}

// Draw all favourites. Those that cannot be drawn now are set apart, so that the others can be used.
export async function drawLiked() {
  const size = Math.max(1, app.state.block);
  const all = app.liked;
  const failed = new Map();
  for (let start = 0; start < all.length; start += size) await drawPart(all.slice(start, start + size), failed);
  const lost = app.liked.filter((one) => failed.has(one));
  if (!lost.length) return;
  apart = [...apart, ...lost.map((one) => one.picture)];
  setLiked(app.liked.filter((one) => !failed.has(one)), lost.map((one) => one.tile));
  const words = lost.length === 1 ? "1 favourite cannot" : `${lost.length} favourites cannot`;
  const why = failed.get(lost[0]).message;
  tell(`${words} be drawn now (${why}). The page keeps what is missing; reload it to try again.`);
}

// Draw favourites together; if that fails, one by one, to find those that cannot be drawn.
async function drawPart(part, failed) {
  try {
    const pixels = await api.draw(part.map((one) => one.picture));
    if (pixels) part.forEach((one, k) => paint(one.canvas, pixels, k, app.state));
  } catch (error) {
    if (part.length === 1) failed.set(part[0], error);
    else for (const one of part) await drawPart([one], failed);
  }
}

const pictures = () => app.liked.map((one) => copy(one.picture));

function toggle() {
  const tile = app.chosen;
  const others = app.liked.filter((one) => one.tile !== tile);
  if (others.length < app.liked.length) setLiked(others, [tile]);
  else add(tile.picture, tile, tile.canvas).catch(complain);
}

async function add(picture, tile, shown) {
  const one = { picture: copy(picture), tile, canvas: silent() };
  copyCanvas(shown, one.canvas);
  setLiked([...app.liked, one], tile ? [tile] : []);
  const pixels = await api.draw([one.picture]); // what is shown may be a step behind
  if (pixels) paint(one.canvas, pixels, 0, app.state);
}

function setLiked(liked, touched = app.liked.map((one) => one.tile)) {
  app.liked = liked;
  for (const tile of touched) if (tile) emit("tile", tile);
  build();
  sessionStorage.setItem(key(), JSON.stringify([...pictures(), ...apart]));
}

// A tile that shows another picture now is no longer the favourite, which stays as it was.
function follow(tile) {
  const one = app.liked.find((other) => other.tile === tile);
  if (one && !same(one.picture, tile.picture)) {
    one.tile = null;
    emit("tile", tile);
  }
}

function build() {
  $("favourites-tools").hidden = app.liked.length === 0;
  $("favourites-hint").hidden = app.liked.length > 0;
  $("liked").replaceChildren(...app.liked.map(item));
  list.ask(null).catch((error) => {
    $("commands").textContent = error.message;
  });
}

function item(one) {
  const words = inWords(one.picture);
  const show = make("button", { type: "button", className: "show", label: `Favourite: ${words}`, title: words }, one.canvas);
  show.addEventListener("click", () => emit("show", copy(one.picture)));
  const away = make("button", { type: "button", className: "away", label: `Remove the favourite: ${words}`, text: "\u00d7" });
  away.addEventListener("click", () => setLiked(app.liked.filter((other) => other !== one), [one.tile]));
  return make("li", {}, show, away);
}

async function copyCommands() {
  await navigator.clipboard.writeText($("commands").textContent);
  tell("The commands are copied.");
}
