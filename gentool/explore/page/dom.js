// Small helpers for elements, canvases and files to save.

export const $ = (id) => document.getElementById(id);

// Make an element; names of properties as in the DOM, and "text" and "label" for short.
export function make(tag, props = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "text") element.textContent = value;
    else if (name === "label") element.setAttribute("aria-label", value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

// A canvas for eyes alone; what stands around it has the words.
export const silent = () => make("canvas", { "aria-hidden": "true" });

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

// Show picture k of a block of pixels (N, height, width, channels) in a canvas.
export function paint(canvas, bytes, k, { height, width, channels }) {
  canvas.width = width;
  canvas.height = height;
  const size = height * width;
  const start = k * size * channels;
  const image = new ImageData(width, height);
  const out = image.data;
  for (let i = 0, p = start; i < size; i += 1, p += channels) {
    const o = 4 * i;
    out[o] = bytes[p];
    out[o + 1] = channels === 1 ? bytes[p] : bytes[p + 1];
    out[o + 2] = channels === 1 ? bytes[p] : bytes[p + 2];
    out[o + 3] = channels === 4 ? bytes[p + 3] : 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function copyCanvas(from, to) {
  to.width = from.width;
  to.height = from.height;
  if (from.width && from.height) to.getContext("2d").drawImage(from, 0, 0);
}

export function saveFile({ blob, name }) {
  const address = URL.createObjectURL(blob);
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// A sentence about what happened, for eyes and for screen readers.
export function tell(words) {
  $("news").hidden = !words;
  $("news").textContent = words;
}

export function complain(error) {
  const words = error === null ? "" : String(error.message ?? error);
  $("trouble").hidden = !words;
  $("trouble").textContent = words;
}

// Run the work of a button; an error becomes a sentence on the page.
export function when(element, kind, work) {
  element.addEventListener(kind, async (event) => {
    try {
      complain(null);
      await work(event);
    } catch (error) {
      if (error.name !== "AbortError") complain(error);
    }
  });
}
