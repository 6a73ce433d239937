// Photos: dropped or opened, reconstructed by the encoder, and improved by a search where there is one.

import * as api from "./api.js";
import { app, emit, on } from "./app.js";
import { $, complain, paint, tell, when } from "./dom.js";
import { ofPhoto } from "./pictures.js";
import { drawAll, putFirst } from "./wall.js";

const MOST_BYTES = 32 * 2 ** 20;
const originals = new Map(); // name of a photo -> its pixels, as the model sees them
const errors = new Map(); // name of a photo -> PSNR of its reconstruction
let searching = null;

export function startPhotos() {
  on("chosen", show);
  on("painted", (tile) => tile === app.chosen && show(tile));
  when($("photo"), "click", () => $("photo-file").click());
  when($("photo-file"), "change", async () => {
    for (const file of $("photo-file").files) await open(file);
    $("photo-file").value = "";
  });
  when(document, "drop", dropped);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").hidden = !app.state?.encoder;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  when($("search"), "click", () => (searching ? searching.abort() : search()));
}

export function buildPhotos() {
  $("photo-field").hidden = !app.state.encoder;
  originals.clear();
  errors.clear();
}

// After a new save, what was said about the old one is no longer true.
export function forgetErrors() {
  errors.clear();
  if (app.chosen) show(app.chosen).catch(complain);
}

async function dropped(event) {
  event.preventDefault();
  $("drop").hidden = true;
  const files = [...event.dataTransfer.files];
  if (!files.length) return;
  if (!app.state.encoder) throw new Error("This model has no encoder, so it cannot take photos.");
  for (const file of files) await open(file);
}

async function open(file) {
  if (file.size > MOST_BYTES) throw new Error("This photo is larger than 32 MiB.");
  tell("Reconstructing the photo.");
  try {
    const { photo, psnr } = await api.sendPhoto(file);
    errors.set(photo, psnr);
    putFirst(ofPhoto(photo));
    tell(`The photo is on the wall, as the model reconstructs it (PSNR ${psnr} dB; higher is nearer).`);
  } catch (error) {
    tell("");
    throw error;
  }
}

async function show(tile) {
  const name = tile.picture.start.photo;
  $("original-view").hidden = !name;
  $("searching").hidden = !name || !app.state.search;
  if (!name) return;
  if (!searching) $("search-state").textContent = errors.has(name) ? `now ${errors.get(name)} dB` : "";
  if (!originals.has(name)) originals.set(name, await api.original(name).catch(() => null));
  const pixels = originals.get(name);
  if (tile !== app.chosen) return;
  $("original-view").hidden = !pixels;
  if (pixels) paint($("original"), pixels, 0, app.state);
}

async function search() {
  const tile = app.chosen;
  const { photo } = tile.picture.start;
  searching = new AbortController();
  $("search").textContent = "Stop the search";
  $("search-state").textContent = `searching, ${app.state.search} steps`;
  try {
    const found = await api.post("/search", { photo }, searching.signal);
    $("search-state").textContent = "";
    errors.set(found.photo, found.psnr);
    replaced(tile, photo, found.photo);
  } catch (error) {
    $("search-state").textContent = error.name === "AbortError" ? "stopped" : "";
    throw error;
  } finally {
    searching = null;
    $("search").textContent = "Search for a closer image";
  }
  await drawAll();
}

// The image that was found is a photo of its own, so that favourites of the other one stay as they are.
function replaced(tile, photo, found) {
  if (tile.picture.start.photo !== photo || !app.tiles.includes(tile)) {
    putFirst(ofPhoto(found));
    return;
  }
  tile.picture = { ...tile.picture, start: { photo: found } };
  emit("tile", tile);
  emit("steered", tile);
}
