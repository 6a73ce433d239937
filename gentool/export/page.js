// Draws samples in the page: random numbers, then the prior and the decoder by ONNX Runtime.
const $ = (id) => document.getElementById(id);
const told = JSON.parse($("data-of-page").textContent);
const [height, width, channels] = told.shape;
const WALL = 12;
const shown = { seed: 0n, index: 0, label: -1, knob: 1, slides: [] }; // what the controls say
let session = null, directions = null, table = null, wanted = 0, working = false;

const say = (words) => { $("status").textContent = words; };
const breathe = () => new Promise((resolve) => setTimeout(resolve));

const fail = (error) => {
  say(`This page cannot draw here: ${error && error.message ? error.message : error}`);
  $("status").classList.add("failed");
  document.body.dataset.state = "failed";
};

const succeed = () => {
  $("status").classList.remove("failed");
  document.body.dataset.state = "ready";
};

const unpack = async (id) => { // a block of the page: base64 of data compressed with gzip
  const text = atob($(`data-${id}`).textContent);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
};

const open = async () => {
  if (typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined") {
    throw new Error("the browser is too old. Use one of 2023 or later");
  }
  Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary: await unpack("runtime") });
  ort.env.logLevel = "error";
  const load = async (id) =>
    ort.InferenceSession.create(new Uint8Array(await unpack(id)), { executionProviders: ["wasm"] });
  if (told.directions) directions = new Float32Array(await unpack("directions"));
  if (told.table) table = new Float32Array(await unpack("table"));
  session = { decoder: await load("decoder"), prior: told.noise ? await load("prior") : null };
};

const tensor = (values, ...shape) => new ort.Tensor("float32", Float32Array.from(values), shape);

// --- latents and pixels ---------------------------------------------------------------------

const rowsOf = (label) => { // the rows of the table for a class: [first row, count]
  let first = 0;
  for (const [kind, count] of told.table.parts) {
    if (kind === label) return [first, count];
    first += count;
  }
  return [0, 0];
};

const lastIndex = (label) => (told.table ? rowsOf(label)[1] - 1 : 1e9);

const latentsOf = async (seed, index, label, knob) => {
  if (told.table) {
    const length = told.table.width, row = rowsOf(label)[0] + index;
    return table.slice(row * length, (row + 1) * length);
  }
  const { size, normal, uniform } = told.noise;
  const noise = draws.normal(seed, normal, index, size);
  if (told.knob && told.knob.of === "noise") {
    const factor = Math.fround(knob);
    for (let k = 0; k < size; k++) noise[k] *= factor;
  }
  const inputs = {
    noise: tensor(noise, 1, size),
    uniform: tensor(draws.uniform(seed, uniform, index, 1), 1),
  };
  if (told.classes.length) inputs.label = new ort.Tensor("int64", [BigInt(label)], [1]);
  return (await session.prior.run(inputs)).latents.data;
};

const shiftOf = (slides) => {
  if (!told.directions) return null;
  const [count, length] = told.directions;
  const shift = new Float32Array(length);
  for (let k = 0; k < count; k++) {
    if (!slides[k]) continue;
    for (let n = 0; n < length; n++) shift[n] += slides[k] * directions[k * length + n];
  }
  return shift;
};

const pixelsOf = (data) => { // floats (C, H, W) in [-1, 1] as RGBA, rounded to even as torch does
  const area = height * width, found = new Uint8ClampedArray(4 * area);
  for (let k = 0; k < area; k++) {
    for (let c = 0; c < 4; c++) {
      if (c === 3 && channels < 4) { found[4 * k + c] = 255; continue; }
      const value = Math.fround(Math.fround(data[(channels < 3 ? 0 : c) * area + k] + 1) * 127.5);
      let level = Math.round(value);
      if (level - value === 0.5 && level % 2) level -= 1;
      found[4 * k + c] = level;
    }
  }
  return new ImageData(found, width, height);
};

const draw = async (seed, index, label, knob, slides) => {
  const latents = Float32Array.from(await latentsOf(seed, index, label, knob));
  const shift = shiftOf(slides), inputs = {};
  if (told.styleLength) {
    inputs.truncation = tensor([told.knob ? knob : 1], 1, 1);
    inputs.shift = tensor(shift || new Float32Array(told.styleLength), 1, told.styleLength);
  } else if (shift) {
    for (let k = 0; k < shift.length; k++) latents[k] += shift[k];
  }
  inputs.latents = tensor(latents, 1, latents.length);
  return pixelsOf((await session.decoder.run(inputs)).images.data);
};

const put = (canvas, image) => {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
};

// --- what is shown --------------------------------------------------------------------------

const nameOf = (label) => (label < 0 ? "" : told.classes[label]);
const quoted = (word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

const commandOf = () => { // empty if gentool has none: its class "all" means every class
  if (nameOf(shown.label) === "all") return "";
  const words = ["gentool", "sample", "MODEL", "-n", "1", "--seed", String(shown.seed)];
  if (shown.index) words.push("--start", String(shown.index));
  if (shown.label >= 0) words.push("--class", quoted(nameOf(shown.label)));
  if (told.knob && shown.knob !== 1) words.push(`--${told.knob.name}`, String(shown.knob));
  return words.join(" ");
};

const moved = () => shown.slides.some((amount) => amount);

const describe = () => {
  const kind = shown.label < 0 ? "" : `, class ${nameOf(shown.label)}`;
  const changed = moved() ? ", changed by the sliders" : "";
  const words = `Image ${shown.index} of seed ${shown.seed}${kind}${changed}`;
  $("picture").setAttribute("aria-label", words);
  $("caption").textContent = words;
  $("command").textContent = commandOf();
  $("copy").disabled = !commandOf();
  $("command-note").hidden = !moved() && commandOf() !== "";
  $("command-note").textContent = commandOf() === ""
    ? "No command draws only this class: for gentool, the class all means every class."
    : "The command makes the picture before the sliders changed it.";
};

let wallShown = "";
const drawWall = async (turn) => {
  const { seed, label, knob, index } = shown;
  const first = Math.floor(index / WALL) * WALL;
  const key = [seed, label, knob, first].join();
  const canvases = [...document.querySelectorAll("#wall button")];
  canvases.forEach((button, k) => {
    button.setAttribute("aria-current", String(first + k === index));
    button.hidden = first + k > lastIndex(label);
    button.setAttribute("aria-label", `Image ${first + k}`);
    button.dataset.index = first + k;
  });
  if (key === wallShown) return;
  for (const [k, button] of canvases.entries()) {
    if (button.hidden) continue;
    put(button.firstElementChild, await draw(seed, first + k, label, knob, []));
    await breathe();
    if (turn !== wanted) return;
  }
  wallShown = key;
};

const refresh = async () => {
  wanted += 1;
  describe();
  document.body.dataset.state = "drawing";
  if (working) return;
  working = true;
  try {
    for (let turn = -1; turn !== wanted;) {
      turn = wanted;
      const began = performance.now();
      const { seed, index, label, knob, slides } = shown;
      put($("picture"), await draw(seed, index, label, knob, [...slides]));
      if (turn === wanted) say(`Drawn in ${Math.round(performance.now() - began)} ms.`);
      await breathe();
      if (turn === wanted) await drawWall(turn);
    }
    succeed();
  } catch (error) { fail(error); } finally { working = false; }
};

// --- controls -------------------------------------------------------------------------------

const setIndex = (value) => {
  const number = Number.isFinite(value) ? Math.trunc(value) : 0;
  shown.index = Math.min(Math.max(number, 0), lastIndex(shown.label));
  $("index").value = shown.index;
  refresh();
};

const setSeed = (text) => {
  const good = /^\d{1,19}$/.test(text.trim()) && BigInt(text) <= 2n ** 63n - 1n;
  $("seed").setAttribute("aria-invalid", String(!good));
  $("seed-error").textContent = good ? "" : "A seed is a whole number from 0 to 2^63 - 1.";
  if (!good) return;
  shown.seed = BigInt(text);
  refresh();
};

const slide = (input, output, change) => {
  const read = () => {
    output.textContent = Number(input.value).toFixed(input.step < 0.1 ? 2 : 1);
    change(Number(input.value));
  };
  input.addEventListener("input", () => { read(); refresh(); });
  read();
};

const reset = () => {
  document.querySelectorAll("#directions input").forEach((input, k) => {
    input.value = 0;
    input.nextElementSibling.textContent = "0.0";
    shown.slides[k] = 0;
  });
  refresh();
};

const save = () => {
  $("picture").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    const kind = shown.label < 0 ? "" : `${nameOf(shown.label).replace(/[^\w-]/g, "_")}-`;
    link.download = `${kind}seed${shown.seed}-${shown.index}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
};

const copy = async () => {
  try {
    await navigator.clipboard.writeText(commandOf());
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("command"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
};

const theme = () => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const label = () => { $("theme").textContent = dark() ? "Light theme" : "Dark theme"; };
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();
};

const listen = () => {
  if ($("seed")) {
    $("seed").addEventListener("input", () => setSeed($("seed").value));
    $("another").addEventListener("click", () => {
      $("seed").value = Math.floor(Math.random() * 1e6);
      setSeed($("seed").value);
    });
  }
  $("index").addEventListener("input", () => { if ($("index").value !== "") setIndex($("index").valueAsNumber); });
  $("earlier").addEventListener("click", () => setIndex(shown.index - 1));
  $("later").addEventListener("click", () => setIndex(shown.index + 1));
  if ($("class")) {
    $("class").addEventListener("change", () => {
      shown.label = Number($("class").value);
      setIndex(shown.index);
    });
  }
  if ($("knob")) slide($("knob"), $("knob").nextElementSibling, (value) => { shown.knob = value; });
  document.querySelectorAll("#directions input").forEach((input, k) => {
    slide(input, input.nextElementSibling, (value) => { shown.slides[k] = value; });
  });
  if ($("reset")) $("reset").addEventListener("click", reset);
  document.querySelectorAll("#wall button").forEach((button) => {
    button.addEventListener("click", () => setIndex(Number(button.dataset.index)));
  });
  $("save").addEventListener("click", save);
  $("copy").addEventListener("click", copy);
};

theme();
say("Opening the model ...");
open().then(() => {
  listen();
  document.querySelectorAll("#controls fieldset").forEach((part) => { part.disabled = false; });
  return refresh();
}).catch(fail);
