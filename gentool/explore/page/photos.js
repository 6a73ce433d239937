// Photos: dropped or opened, reconstructed by the encoder, and improved by a search where there is one.

import * as api from "./api.js";
import { app, on } from "./app.js";
import { $, paint, tell, when } from "./dom.js";
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
  const { photo } = app.chosen.picture.start;
  searching = new AbortController();
  $("search").textContent = "Stop the search";
  $("search-state").textContent = `searching, ${app.state.search} steps`;
  try {
    const { psnr } = await api.post("/search", { photo }, searching.signal);
    errors.set(photo, psnr);
    $("search-state").textContent = `now ${psnr} dB`;
    await drawAll();
  } catch (error) {
    $("search-state").textContent = error.name === "AbortError" ? "stopped" : "";
    throw error;
  } finally {
    searching = null;
    $("search").textContent = "Search for a closer image";
  }
}
