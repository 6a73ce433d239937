"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data-of-page").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const HEIGHT = 250, LEFT = 58, RIGHT = 12, TOP = 10, BOTTOM = 26;
  const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
  const charts = [];
  let moment = null; // images seen at the frame of the film that is shown

  const make = (tag, attributes, parent) => {
    const made = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1e9) return `${+(value / 1e9).toPrecision(3)}G`;
    if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
    if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
    if (size > 1e-12 && size < 1e-3) return value.toExponential(1);
    if (size <= 1e-12) return "0";
    return String(+value.toPrecision(3));
  };
  const whole = (value) => Math.round(value).toLocaleString("en");
  const ticks = (low, high, count, finest = 0) => {
    const rough = Math.max((high - low) / count || 1, finest);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) found.push(t);
    return found;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  class Chart {
    constructor(figure) {
      this.told = page.charts[Number(figure.dataset.chart)];
      this.lines = this.told.lines;
      const all = this.lines.flatMap((line) => line.x);
      this.least = Math.min(...all);
      this.most = Math.max(...all);
      if (this.most === this.least) { this.least -= Math.max(1, this.least / 2); this.most *= 1.5; }
      [this.from, this.to] = [this.least, this.most];
      this.at = null;
      this.pointers = new Map();
      const plot = figure.querySelector(".plot");
      this.svg = make("svg", {
        role: "img", tabindex: "0",
        "aria-label": `${this.told.title} over images seen. Arrow keys move the cursor, plus and minus zoom, ` +
          "shift with an arrow key moves the view, 0 shows everything. The table below holds the values.",
      });
      plot.append(this.svg, this.tools());
      this.listen();
      this.width = 560;
      new ResizeObserver(() => this.fit(plot)).observe(plot);
      this.draw();
    }

    tools() {
      const bar = document.createElement("div");
      bar.className = "tools";
      const buttons = [["+", "Zoom in", () => this.zoom(0.6)], ["\u2212", "Zoom out", () => this.zoom(1 / 0.6)],
        ["Reset", "Show everything", () => this.reset()]];
      for (const [word, label, act] of buttons) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = word;
        button.setAttribute("aria-label", `${label}: ${this.told.title}`);
        button.addEventListener("click", act);
        bar.append(button);
      }
      this.readout = document.createElement("output");
      this.readout.className = "readout";
      bar.append(this.readout);
      return bar;
    }

    // One unit of the drawing is a sixteenth of the font size, so that letters can be read everywhere.
    fit(plot) {
      const unit = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
      const width = Math.round(plot.clientWidth / unit);
      if (width > LEFT + RIGHT && width !== this.width) {
        this.width = width;
        this.draw();
      }
    }

    reset() { this.view(this.least, this.most); }

    view(from, to) {
      const least = (this.most - this.least) / 1000;
      const span = clamp(to - from, least, this.most - this.least);
      this.from = clamp(from, this.least, this.most - span);
      this.to = this.from + span;
      this.draw();
    }

    zoom(factor, at = this.at ?? (this.from + this.to) / 2) {
      this.view(at - (at - this.from) * factor, at + (this.to - at) * factor);
    }

    px(x) { return LEFT + ((x - this.from) / (this.to - this.from)) * (this.width - LEFT - RIGHT); }
    py(y) { return HEIGHT - BOTTOM - ((y - this.low) / (this.high - this.low)) * (HEIGHT - TOP - BOTTOM); }
    imagesAt(event) {
      const box = this.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * this.width;
      const share = clamp((x - LEFT) / (this.width - LEFT - RIGHT), 0, 1);
      return this.from + share * (this.to - this.from);
    }

    // The first and the last point of a line in view, with one point beyond each edge.
    visible(line) {
      let first = line.x.findIndex((x) => x >= this.from);
      let last = line.x.findLastIndex((x) => x <= this.to);
      if (first < 0) first = line.x.length - 1;
      return [Math.max(0, first - 1), Math.min(line.x.length - 1, last + 1)];
    }

    scale() {
      let low = Infinity, high = -Infinity;
      for (const line of this.lines) {
        const [first, last] = this.visible(line);
        for (let k = first; k <= last; k++) {
          low = Math.min(low, line.low.length ? line.low[k] : line.y[k]);
          high = Math.max(high, line.high.length ? line.high[k] : line.y[k]);
        }
      }
      const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
      [this.low, this.high] = [low - room, high + room];
    }

    draw() {
      this.scale();
      this.svg.replaceChildren();
      this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
      const bottom = HEIGHT - BOTTOM;
      for (const t of ticks(this.low, this.high, 4)) {
        make("line", { class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: this.py(t), y2: this.py(t) }, this.svg);
        make("text", { x: LEFT - 6, y: this.py(t) + 4, "text-anchor": "end" }, this.svg).textContent = short(t);
      }
      for (const t of ticks(this.from, this.to, 5, 1)) {
        if (this.px(t) > this.width - 24) continue;
        make("text", { x: this.px(t), y: bottom + 17, "text-anchor": "middle" }, this.svg).textContent = short(t);
      }
      make("line", { class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: bottom, y2: bottom }, this.svg);
      const clip = `clip${charts.length}-${this.told.title.length}-${Math.random().toString(36).slice(2)}`;
      const frame = make("clipPath", { id: clip }, this.svg);
      make("rect", { x: LEFT - 4, y: 0, width: this.width - LEFT - RIGHT + 8, height: bottom + 4 }, frame);
      const inner = make("g", { "clip-path": `url(#${clip})` }, this.svg);
      const names = [...new Set(this.lines.map((line) => line.name))];
      for (const line of this.lines) this.stroke(line, names, inner);
      if (moment !== null && moment >= this.from && moment <= this.to) {
        make("line", { class: "marker", x1: this.px(moment), x2: this.px(moment), y1: TOP, y2: bottom }, this.svg);
      }
      this.cursor = make("line", { class: "cursor", y1: TOP, y2: bottom, visibility: "hidden" }, this.svg);
      this.brush = make("rect", { class: "brush", y: TOP, height: bottom - TOP, visibility: "hidden" }, this.svg);
      this.tell();
    }

    stroke(line, names, inner) {
      const colour = `var(--run${(page.runs.length > 1 ? line.run : names.indexOf(line.name)) % 8})`;
      const dash = DASHES[(names.length > 1 ? names.indexOf(line.name) : line.run) % DASHES.length];
      const [first, last] = this.visible(line);
      const point = (k, values) => `${this.px(line.x[k]).toFixed(1)} ${this.py(values[k]).toFixed(1)}`;
      if (line.low.length) {
        const up = [], down = [];
        for (let k = first; k <= last; k++) { up.push(point(k, line.high)); down.unshift(point(k, line.low)); }
        const band = make("path", { class: "band", d: `M${[...up, ...down].join("L")}Z` }, inner);
        band.style.fill = colour;
      }
      const points = [];
      for (let k = first; k <= last; k++) points.push(point(k, line.y));
      const path = make("path", { class: "line", d: `M${points.join("L")}`, "stroke-dasharray": dash }, inner);
      path.style.stroke = colour;
      if (points.length <= 30) {
        for (const dot of points) {
          const [cx, cy] = dot.split(" ");
          make("circle", { cx, cy, r: 2.6 }, inner).style.fill = colour;
        }
      }
    }

    tell() {
      if (this.at === null) { this.readout.textContent = ""; return; }
      const several = new Set(this.lines.map((line) => line.name)).size > 1;
      const values = this.lines.map((line) => {
        let best = 0;
        line.x.forEach((x, k) => { if (Math.abs(x - this.at) < Math.abs(line.x[best] - this.at)) best = k; });
        const label = [page.runs.length > 1 ? page.runs[line.run] : "", several ? line.name : ""].filter(Boolean);
        return `${label.join(" ")}${label.length ? ": " : ""}${+line.y[best].toPrecision(4)}`;
      });
      this.readout.textContent = `${whole(this.at)} images: ${values.slice(0, 12).join("; ")}`;
      this.cursor.setAttribute("x1", this.px(this.at));
      this.cursor.setAttribute("x2", this.px(this.at));
      this.cursor.setAttribute("visibility", "visible");
    }

    point(images) { this.at = clamp(images, this.from, this.to); this.tell(); }

    listen() {
      const svg = this.svg;
      svg.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey && document.activeElement !== svg) return; // the page scrolls
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.imagesAt(event));
      }, { passive: false });
      svg.addEventListener("pointerdown", (event) => {
        this.pointers.set(event.pointerId, this.imagesAt(event));
        if (event.pointerType !== "touch") svg.setPointerCapture(event.pointerId);
        this.began = this.imagesAt(event);
      });
      svg.addEventListener("pointermove", (event) => this.moved(event));
      const done = (event) => {
        const end = this.imagesAt(event);
        const wide = Math.abs(end - this.began) > (this.to - this.from) * 0.02;
        if (this.pointers.size === 1 && event.type === "pointerup" && event.pointerType !== "touch" && wide) {
          this.view(Math.min(this.began, end), Math.max(this.began, end));
        }
        this.pointers.delete(event.pointerId);
        this.brush.setAttribute("visibility", "hidden");
      };
      svg.addEventListener("pointerup", done);
      svg.addEventListener("pointercancel", done);
      svg.addEventListener("dblclick", () => this.reset());
      svg.addEventListener("keydown", (event) => this.key(event));
    }

    moved(event) {
      const now = this.imagesAt(event);
      if (this.pointers.size === 2 && this.pointers.has(event.pointerId)) { // pinch
        const [a, b] = [...this.pointers.values()];
        const other = [...this.pointers.entries()].find(([id]) => id !== event.pointerId)[1];
        const factor = Math.abs(a - b) / Math.max(Math.abs(now - other), (this.to - this.from) / 100);
        this.pointers.set(event.pointerId, now);
        this.zoom(clamp(factor, 0.5, 2), (now + other) / 2);
        return;
      }
      this.point(now);
      if (this.pointers.size === 1 && event.pointerType !== "touch") {
        const [a, b] = [this.px(Math.min(this.began, now)), this.px(Math.max(this.began, now))];
        this.brush.setAttribute("x", a);
        this.brush.setAttribute("width", b - a);
        this.brush.setAttribute("visibility", "visible");
      }
    }

    key(event) {
      const step = (this.to - this.from) / 40;
      const sign = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (sign && event.shiftKey) this.view(this.from + sign * 4 * step, this.to + sign * 4 * step);
      else if (sign) this.point((this.at ?? (sign > 0 ? this.from - step : this.to + step)) + sign * step);
      else if (event.key === "+" || event.key === "=") this.zoom(0.6);
      else if (event.key === "-") this.zoom(1 / 0.6);
      else if (event.key === "0" || event.key === "Escape") this.reset();
      else if (event.key === "Home") this.point(this.from);
      else if (event.key === "End") this.point(this.to);
      else return;
      event.preventDefault();
    }
  }

  function startFilm() {
    const bar = document.querySelector(".scrubber");
    if (!bar) return;
    const reels = [...document.querySelectorAll(".reel")].map((reel) => ({
      frames: [...reel.querySelectorAll("img")], told: reel.querySelector(".when"),
    }));
    const moments = [...new Set(reels.flatMap((reel) => reel.frames.map((frame) => Number(frame.dataset.images))))]
      .sort((a, b) => a - b);
    const scrub = document.getElementById("scrub"), play = document.getElementById("play");
    const output = document.getElementById("moment");
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    let timer = null;
    const show = (changed) => {
      const images = moments[Number(scrub.value)];
      output.textContent = `${whole(images)} images`;
      scrub.setAttribute("aria-valuetext", `${whole(images)} images seen`);
      for (const reel of reels) {
        const before = reel.frames.filter((frame) => Number(frame.dataset.images) <= images);
        const now = before.length ? before[before.length - 1] : reel.frames[0];
        for (const frame of reel.frames) {
          frame.classList.toggle("current", frame === now);
          if (frame === now) frame.removeAttribute("aria-hidden");
          else frame.setAttribute("aria-hidden", "true");
        }
        if (now) reel.told.textContent = `${whole(Number(now.dataset.images))} images`;
      }
      if (changed) { moment = images; charts.forEach((chart) => chart.draw()); }
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
    };
    play.addEventListener("click", () => {
      if (timer !== null) { stop(); return; }
      if (Number(scrub.value) >= moments.length - 1) scrub.value = 0;
      show(true);
      play.textContent = "Pause";
      play.setAttribute("aria-pressed", "true");
      timer = setInterval(() => {
        if (Number(scrub.value) >= moments.length - 1) { stop(); return; }
        scrub.value = Number(scrub.value) + 1;
        show(true);
      }, still.matches ? 1500 : 450);
    });
    scrub.addEventListener("input", () => { stop(); show(true); });
    bar.hidden = moments.length < 2;
    if (!bar.hidden && reels.length === 1) reels[0].told.hidden = true; // the bar says it
    show(false);
  }

  function startTheme() {
    const button = document.getElementById("theme"), root = document.documentElement;
    const prefers = matchMedia("(prefers-color-scheme: dark)");
    const kept = (() => { try { return localStorage.getItem("gentool-theme"); } catch { return null; } })();
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches);
    const label = () => { button.textContent = dark() ? "Light theme" : "Dark theme"; };
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try { localStorage.setItem("gentool-theme", root.dataset.theme); } catch { /* a page without storage */ }
      label();
    });
    prefers.addEventListener("change", label);
    button.hidden = false;
    label();
  }

  function startCopying() {
    for (const button of document.querySelectorAll("button.copy")) {
      const line = button.parentElement.querySelector("code").textContent;
      button.hidden = false;
      button.addEventListener("click", async () => {
        let done = true;
        try {
          await navigator.clipboard.writeText(line);
        } catch {
          getSelection().selectAllChildren(button.parentElement.querySelector("code"));
          done = document.execCommand("copy");
        }
        button.textContent = done ? "Copied" : "Press Ctrl+C";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
    }
  }

  startTheme();
  startCopying();
  for (const figure of document.querySelectorAll(".chart")) charts.push(new Chart(figure));
  startFilm();
})();
