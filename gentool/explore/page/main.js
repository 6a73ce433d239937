// The page of gentool explore: it loads the model's state, builds the controls, and follows a run.

import * as api from "./api.js";
import { app, emit, on } from "./app.js";
import { buildControls, startControls } from "./controls.js";
import { $, complain, copyCanvas, tell } from "./dom.js";
import { drawLiked, restore, startFavourites } from "./favourites.js";
import { buildPhotos, forgetErrors, startPhotos } from "./photos.js";
import { startPath } from "./path.js";
import { copy } from "./pictures.js";
import { buildStudio, findDirections, startStudio } from "./studio.js";
import { startTheme } from "./theme.js";
import { drawAll, fill, putFirst, startWall } from "./wall.js";

const PULSE = 2000; // milliseconds

let noted = ""; // what the last pulse complained about

const SAME = ["height", "width", "channels", "classes", "drawing", "methods", "encoder", "search"];

async function load() {
  const before = app.state;
  app.state = await api.get("/state");
  const { state } = app;
  document.title = `${state.name} - gentool explore`;
  $("name").textContent = state.name;
  $("summary").textContent = state.summary;
  for (const view of document.querySelectorAll(".view canvas")) {
    view.width = state.width;
    view.height = state.height;
  }
  const tile = Math.max(5.2, Math.min(11, state.width / 11));
  document.documentElement.style.setProperty("--tile", `${tile}rem`);
  if (before && SAME.every((key) => JSON.stringify(before[key]) === JSON.stringify(state[key]))) return false;
  buildControls();
  buildStudio();
  buildPhotos();
  return true;
}

async function start() {
  startTheme();
  history.replaceState(null, "", "/"); // the cookie holds the token; the address need not
  startControls();
  startWall();
  startStudio();
  startPath();
  startFavourites();
  startPhotos();
  on("key-r", () => emit("anew"));
  on("show", (picture) => putFirst(copy(picture)));
  await load();
  await fill();
  await restore();
  await findDirections(app.by);
  document.documentElement.dataset.ready = "yes";
  setTimeout(pulse, PULSE);
}

// Ask whether a new save of the run is there.
async function pulse() {
  try {
    const told = await api.get("/pulse");
    report(told.note);
    await follow(told);
  } catch (error) {
    $("run").hidden = true;
    report(error.message);
  } finally {
    setTimeout(pulse, PULSE);
  }
}

// Show a trouble that the pulse found; the one before, if it is still shown, has passed.
function report(words) {
  if (words) complain(words);
  else if (noted && $("trouble").textContent === noted) complain(null);
  noted = words;
}

async function follow({ generation, images, training }) {
  const seen = images === null ? "" : `${images.toLocaleString("en")} images seen`;
  $("run").hidden = !training && !seen;
  $("run").classList.toggle("training", training);
  $("run").textContent = [training ? "in training" : "", seen].filter(Boolean).join(", ");
  if (generation === app.state.generation) return;
  const other = await load();
  if (other) {
    location.reload();
    return;
  }
  tell(`A new save of the model was loaded${seen ? ` (${seen})` : ""}. All pictures are drawn again with it.`);
  forgetErrors();
  await drawAll();
  await drawLiked();
  copyCanvas(app.chosen.canvas, $("big"));
  emit("picks");
  await findDirections(app.by);
}

start().catch(complain);
