// The controls above the wall: seed, number of images, class, and how samples are drawn.

import { app, emit } from "./app.js";
import { $, make } from "./dom.js";

const COUNTS = [6, 12, 24, 48, 96];
const STEPS = 20; // between the ends of a slider

let drawing = {};

export const seed = () => Math.max(0, Math.floor(Number($("seed").value) || 0));
export const count = () => Number($("count").value);
export const className = () => ($("class").value === "" ? null : app.state.classes[Number($("class").value)]);
// Only what differs from the neutral values: these are the options that a command needs.
export const drawn = () => ({ ...drawing });

export function setSeed(value) {
  $("seed").value = value;
}

export function buildControls() {
  const { state } = app;
  const counts = [...new Set([...COUNTS, state.wall])].sort((a, b) => a - b);
  $("count").replaceChildren(...counts.map((n) => make("option", { value: n, text: n })));
  $("count").value = state.wall;
  const classes = [make("option", { value: "", text: "any" })];
  state.classes.forEach((name, k) => classes.push(make("option", { value: k, text: name })));
  $("class").replaceChildren(...classes);
  $("class-field").hidden = state.classes.length === 0;
  drawing = {};
  $("drawing").replaceChildren(...state.drawing.map(slider));
}

export function startControls() {
  $("class").addEventListener("change", () => emit("restyle"));
  $("seed").addEventListener("change", () => emit("reseed"));
  $("count").addEventListener("change", () => emit("recount"));
  $("anew").addEventListener("click", () => emit("anew"));
}

function slider({ name, help, low, high, value, whole }) {
  const id = `draw-${name}`;
  const label = name.replaceAll("_", " ");
  const step = whole ? 1 : (high - low) / STEPS;
  const kind = whole && high > 100 ? "number" : "range";
  const input = make("input", { id, type: kind, min: low, max: high, step, value, title: help });
  const output = make("output", { text: shown(value, whole) });
  output.htmlFor = id;
  input.addEventListener("input", () => {
    const now = Number(input.value);
    output.textContent = shown(now, whole);
    if (now === value) delete drawing[name];
    else drawing[name] = now;
    emit("restyle");
  });
  const words = label[0].toUpperCase() + label.slice(1);
  return make("div", { className: "slider" }, make("label", { htmlFor: id, text: words }), input, output);
}

const shown = (value, whole) => (whole ? String(value) : value.toFixed(2));
