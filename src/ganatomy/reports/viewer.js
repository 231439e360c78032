// Viewer of stacks of slices in reports. It draws on 2D canvases and needs neither WebGL nor a network.
// Each <figure class="stack"> holds a still picture and, as JSON, the stack that `ganatomy.reports.viewer` wrote.
"use strict";

// Return the numbers of one slice, rows after rows. Written are the errors of a prediction from the neighbours to the
// left and above, folded to numbers that are not negative, first the low bytes of all, then the higher ones.
async function unpacked(text, length, columns) {
  const compressed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const values = new Uint16Array(length), planes = bytes.length / length;
  for (let i = 0; i < length; i++) {
    let folded = bytes[i];
    for (let plane = 1; plane < planes; plane++) folded += bytes[plane * length + i] * 256 ** plane;
    const left = i % columns ? values[i - 1] : 0, above = i < columns ? 0 : values[i - columns];
    const corner = i % columns && i >= columns ? values[i - columns - 1] : 0;
    const low = Math.min(left, above), high = Math.max(left, above);
    const guess = corner >= high ? low : corner <= low ? high : left + above - corner;
    values[i] = guess + (folded % 2 ? -(folded + 1) / 2 : folded / 2);
  }
  return values;
}

// Return 256 colours, interpolated between evenly spaced ones that are written as #rrggbb.
function palette(stops) {
  const parts = stops.map(stop => [1, 3, 5].map(start => parseInt(stop.slice(start, start + 2), 16)));
  return Array.from({length: 256}, (_, i) => {
    const place = i / 255 * (parts.length - 1), from = Math.min(Math.floor(place), parts.length - 2);
    return parts[from].map((low, c) => low + (parts[from + 1][c] - low) * (place - from));
  });
}

const GREY = palette(["#000000", "#ffffff"]);
const element = (name, kind, ...inside) => {
  const made = document.createElement(name);
  made.className = kind;
  made.append(...inside);
  return made;
};
const written = number => {
  const size = Math.abs(number), digits = size >= 100 || Number.isInteger(number) ? 0 : 1;
  return (size < 1 && size ? number.toPrecision(3) : number.toFixed(digits)).replaceAll("-", "\u2212");
};
const within = (number, low, high) => Math.min(Math.max(number, low), high);

class Viewer {
  constructor(figure, stack) {
    this.figure = figure;
    this.stack = stack;
    this.place = stack.first;
    this.window = [...stack.window];
    this.overlays = true;
    this.enlarged = null;
    this.cursor = null;
    this.known = new Map();
    this.columns = {};
    for (const name of ["difference", "map"]) this.columns[name] = palette(stack.colours[name]);
    this.build();
  }

  get slice() { return this.stack.slices[this.place]; }
  get unit() { return this.stack.unit ? ` ${this.stack.unit}` : ""; }

  // Return a slice of an image as numbers with its size; slices are unpacked once.
  image(index) {
    const key = `${index}:${this.place}`, image = this.stack.images[index];
    if (!this.known.has(key)) {
      this.known.set(key, this.unpacked(image, image.data[this.place], this.place === this.stack.first ? 1 : this.stack.times));
    }
    return this.known.get(key);
  }

  // Unpack a slice; one that was averaged over squares of pixels gets its size back.
  async unpacked(image, text, times) {
    const {rows, columns} = image, channels = image.kind === "colour" ? 3 : 1;
    const [down, across] = [rows, columns].map(length => Math.ceil(length / times));
    const small = await unpacked(text, channels * down * across, across);
    if (times === 1) return small;
    const values = new Uint16Array(channels * rows * columns);
    for (let c = 0, i = 0; c < channels; c++)
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++)
          values[i++] = small[(c * down + Math.floor(row / times)) * across + Math.floor(column / times)];
    return values;
  }

  build() {
    const {stack} = this;
    this.root = element("div", "viewer");
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "Slices. Up and down change the slice, left and right the width of the " +
      "window, with Shift its level; O hides overlays, R resets, Enter enlarges the first panel.");
    this.panels = stack.panels.map((panel, index) => this.panel(panel, index));
    const inside = element("div", "panels", ...this.panels.map(panel => panel.box)), count = this.panels.length;
    inside.style.setProperty("--across", Math.min(4, count < 5 ? Math.max(count, 2) : Math.ceil(count / 2)));
    const bar = element("div", "controls");
    this.told = element("span", "told");
    this.told.setAttribute("role", "status");
    if (stack.slices.length > 1) {
      this.slider = element("input", "slider");
      Object.assign(this.slider, {type: "range", min: 0, max: stack.slices.length - 1, step: 1});
      this.slider.setAttribute("aria-label", "Slice");
      this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
      bar.append(this.slider);
    }
    bar.append(this.told);
    for (const preset of stack.presets)
      bar.append(this.button(preset.name, () => { this.window = [...preset.window]; this.draw(); }));
    if (stack.panels.some(panel => panel.mask || panel.map)) {
      this.toggle = this.button("Overlay", () => this.hide());
      this.toggle.setAttribute("aria-pressed", "true");
      bar.append(this.toggle);
    }
    bar.append(this.button("Reset", () => this.reset()));
    bar.append(this.button("Still picture", () => this.figure.classList.toggle("still")));
    this.root.append(inside, bar, element("p", "hint", this.hint()));
    this.figure.prepend(this.root);
    this.figure.classList.add("live");
    this.root.addEventListener("keydown", event => this.key(event));
    // A notch of a wheel is one slice; the small steps of a touchpad add up to one.
    inside.addEventListener("wheel", event => {
      if (stack.slices.length < 2 || event.ctrlKey) return;
      event.preventDefault();
      const notch = event.deltaMode || Math.abs(event.deltaY) >= 50;
      this.turned = notch ? 40 * Math.sign(event.deltaY) : (this.turned || 0) + event.deltaY;
      const steps = Math.trunc(this.turned / 40);
      this.turned -= 40 * steps;
      if (steps) this.go(this.place + steps);
    }, {passive: false});
    addEventListener("resize", () => this.enlarge(this.enlarged));
  }

  hint() {
    const parts = [];
    if (this.stack.slices.length > 1) parts.push("wheel: slices");
    if (this.stack.grey) parts.push("drag: window width (across) and level (up and down)");
    const told = [...parts, "click: one panel in whole pixels"].join(" \u00b7 ");
    return `${told[0].toUpperCase()}${told.slice(1)}. ${this.stack.about}`;
  }

  button(text, pressed) {
    const made = element("button", "", text);
    made.type = "button";
    made.addEventListener("click", pressed);
    return made;
  }

  panel(panel, index) {
    const image = this.stack.images[panel.image], canvas = element("canvas", "");
    canvas.width = image.columns;
    canvas.height = image.rows;
    const [down, across] = this.stack.spacing;
    const field = element("div", "field", canvas);
    field.style.aspectRatio = `${image.columns * across} / ${image.rows * down}`;
    if (this.stack.letters)
      for (const [side, letter] of Object.entries(this.stack.letters)) field.append(element("span", `side ${side}`, letter));
    if (index === 0 && this.stack.bar) {
      const bar = element("span", "bar", `${this.stack.bar} mm`);
      bar.style.width = `${100 * this.stack.bar / (image.columns * across)}%`;
      field.append(bar);
    }
    const kind = panel.minus === undefined ? image.kind : "difference";
    const below = kind === "difference" || kind === "map"
      ? this.scale(panel, kind) : element("div", "note", panel.note || "\u00a0");
    for (const region of panel.mask?.regions || []) {
      const mark = element("span", "mark");
      mark.style.background = region.colour;
      below.append(" ", mark, ` ${region.name}`);
    }
    const value = element("span", "value");
    const heading = element("b", "", panel.name);
    const box = element("div", "panel", element("div", "name", heading, value), field, below);
    this.listen(field, index);
    return {...panel, kind, canvas, field, box, value, heading};
  }

  // A bar of the colours of a difference or a map, with the values at its ends.
  scale(panel, kind) {
    const {low, high} = this.limits(panel, kind), ends = element("div", "ends");
    const sign = number => (kind === "difference" && number > 0 ? "+" : "") + written(number);
    ends.append(...[low, (low + high) / 2, high].map(end => element("span", "", sign(end))));
    const colours = element("div", "colours");
    colours.style.background = `linear-gradient(to right, ${this.stack.colours[kind].join(", ")})`;
    return element("div", "scale", colours, ends);
  }

  limits(panel, kind) {
    if (kind === "difference") return {low: -this.stack.limit, high: this.stack.limit};
    const [low, high] = this.stack.images[panel.image].range;
    return {low, high};
  }

  listen(field, index) {
    let from = null;
    field.addEventListener("pointerdown", event => {
      from = {x: event.clientX, y: event.clientY, window: [...this.window], moved: false};
      field.setPointerCapture(event.pointerId);
    });
    field.addEventListener("pointermove", event => {
      const place = field.getBoundingClientRect();
      this.cursor = [(event.clientX - place.left) / place.width, (event.clientY - place.top) / place.height];
      this.read();
      if (!from) return;
      const [x, y] = [event.clientX - from.x, event.clientY - from.y];
      from.moved ||= Math.hypot(x, y) > 4;
      if (from.moved && this.stack.grey) this.change(from.window, x / 200, -y / 200);
    });
    field.addEventListener("pointerup", () => {
      if (from && !from.moved) this.enlarge(this.enlarged === index ? null : index);
      from = null;
    });
    field.addEventListener("pointercancel", () => { from = null; });
    field.addEventListener("pointerleave", () => { this.cursor = null; this.read(); });
  }

  // Widen a window by a factor e^width, and move it by a part of its width.
  change([low, high], width, level) {
    const size = Math.max((high - low) * Math.exp(width), 2 * this.stack.step);
    const middle = (low + high) / 2 + level * (high - low);
    this.window = [middle - size / 2, middle + size / 2];
    this.draw();
  }

  go(place) {
    this.place = within(place, 0, this.stack.slices.length - 1);
    this.draw();
  }

  hide() {
    this.overlays = !this.overlays;
    this.toggle?.setAttribute("aria-pressed", String(this.overlays));
    this.draw();
  }

  reset() {
    this.window = [...this.stack.window];
    this.place = this.stack.first;
    this.overlays = true;
    this.toggle?.setAttribute("aria-pressed", "true");
    this.enlarge(null);
    this.draw();
  }

  // Show one panel alone at a whole number of screen pixels for a pixel of the image; null shows all.
  enlarge(index) {
    this.enlarged = index;
    this.root.classList.toggle("single", index !== null);
    this.panels.forEach((panel, i) => {
      panel.box.hidden = index !== null && i !== index;
      panel.field.style.width = "";
      panel.heading.textContent = panel.name;
      if (i !== index) return;
      const ratio = devicePixelRatio || 1, {width, height} = panel.canvas, [down, across] = this.stack.spacing;
      const times = Math.max(1, Math.floor(Math.min(
        this.root.clientWidth * ratio / width, 0.85 * innerHeight * ratio * across / (height * down))));
      panel.field.style.width = `${width * times / ratio}px`;
      panel.heading.textContent = `${panel.name}, ${times} : 1`;
    });
  }

  key(event) {
    const steps = {ArrowUp: -1, ArrowDown: 1, PageUp: -5, PageDown: 5, Home: -1e6, End: 1e6};
    const sides = {ArrowLeft: -1, ArrowRight: 1}, key = event.key;
    if (event.target === this.slider || event.ctrlKey || event.metaKey || event.altKey) return;
    if (key in steps) this.go(this.place + steps[key]);
    else if (key in sides && this.stack.grey)
      this.change(this.window, event.shiftKey ? 0 : sides[key] / 10, event.shiftKey ? sides[key] / 20 : 0);
    else if (key === "o" || key === "O") this.hide();
    else if (key === "r" || key === "R") this.reset();
    else if (key === "Enter" && event.target === this.root) this.enlarge(this.enlarged === null ? 0 : null);
    else if (key === "Escape" && this.enlarged !== null) this.enlarge(null);
    else return;
    event.preventDefault();
  }

  async draw() {
    const turn = this.turn = (this.turn || 0) + 1;
    const needed = new Set(this.panels.flatMap(panel => [panel.image, panel.minus, panel.mask?.image, panel.map])
      .filter(index => index !== undefined));
    const values = new Map();
    for (const index of needed) values.set(index, await this.image(index));
    if (turn !== this.turn) return;
    this.values = values;
    for (const panel of this.panels) {
      if (panel.measuredAt !== this.place) panel.measured = this.measured(panel);
      panel.measuredAt = this.place;
      this.paint(panel);
    }
    const {stack} = this, many = stack.total > 1;
    const [low, high] = this.window.map(written);
    this.told.textContent = [
      many ? `Slice ${this.slice + 1} of ${stack.total}` : "",
      stack.grey ? `Window ${low} to ${high}${this.unit}` : "",
    ].filter(Boolean).join(" \u00b7 ");
    if (this.slider) this.slider.value = this.place;
    this.root.dataset.slice = this.slice + 1;
    this.read();
  }

  // Return what a panel shows in physical units, rows and columns; of differences of colours the mean over channels.
  measured(panel) {
    const {images} = this.stack, {rows, columns, kind} = images[panel.image], size = rows * columns;
    const shown = new Float32Array(size), channels = kind === "colour" ? 3 : 1;
    if (panel.kind === "colour") return null;
    for (const [index, sign] of [[panel.image, 1], [panel.minus, -1]]) {
      if (index === undefined) continue;
      const {base, step} = images[index], values = this.values.get(index);
      for (let c = 0; c < channels; c++)
        for (let i = 0; i < size; i++) shown[i] += sign * (base + step * values[i + c * size]) / channels;
    }
    return shown;
  }

  paint(panel) {
    const {canvas} = panel, image = this.stack.images[panel.image], size = image.rows * image.columns;
    const shown = canvas.getContext("2d"), picture = shown.createImageData(image.columns, image.rows);
    const data = picture.data, own = this.values.get(panel.image);
    const fixed = panel.kind === "difference" || panel.kind === "map";
    const colours = fixed ? this.columns[panel.kind] : GREY;
    const {low, high} = fixed ? this.limits(panel, panel.kind) : {low: this.window[0], high: this.window[1]};
    for (let i = 0; i < size; i++) {
      const colour = panel.kind === "colour" ? [own[i], own[i + size], own[i + 2 * size]]
        : colours[Math.round(within(255 * (panel.measured[i] - low) / (high - low), 0, 255))];
      for (let c = 0; c < 3; c++) data[4 * i + c] = colour[c];
      data[4 * i + 3] = 255;
    }
    if (this.overlays && panel.map !== undefined) this.warm(data, panel.map, size);
    if (this.overlays && panel.mask) this.outline(data, panel.mask, image);
    shown.putImageData(picture, 0, 0);
  }

  // Blend a map over the picture, the more the higher its values.
  warm(data, index, size) {
    const image = this.stack.images[index], [low, high] = image.range, values = this.values.get(index);
    for (let i = 0; i < size; i++) {
      const share = within((image.base + image.step * values[i] - low) / (high - low), 0, 1);
      const colour = this.columns.map[Math.round(255 * share)], weight = 0.75 * Math.sqrt(share);
      for (let c = 0; c < 3; c++) data[4 * i + c] += (colour[c] - data[4 * i + c]) * weight;
    }
  }

  // Colour the pixels of regions that touch a pixel outside; bit n of a mask is region n.
  outline(data, mask, {rows, columns}) {
    const values = this.values.get(mask.image);
    mask.regions.forEach((region, bit) => {
      const inside = i => values[i] >> bit & 1, colour = [1, 3, 5].map(c => parseInt(region.colour.slice(c, c + 2), 16));
      for (let row = 0; row < rows; row++)
        for (let column = 0; column < columns; column++) {
          const i = row * columns + column;
          if (!inside(i)) continue;
          const border = !row || !column || row === rows - 1 || column === columns - 1 ||
            !inside(i - 1) || !inside(i + 1) || !inside(i - columns) || !inside(i + columns);
          if (border) for (let c = 0; c < 3; c++) data[4 * i + c] = colour[c];
        }
    });
  }

  // Write the value below the cursor beside the name of every panel.
  read() {
    for (const panel of this.panels) {
      const {width, height} = panel.canvas;
      if (!this.cursor || !this.values) { panel.value.textContent = ""; continue; }
      const [column, row] = [Math.floor(this.cursor[0] * width), Math.floor(this.cursor[1] * height)];
      const value = row >= 0 && row < height && column >= 0 && column < width
        ? panel.measured?.[row * width + column] : undefined;
      panel.value.textContent = value === undefined ? "" : written(value) + (panel.kind === "map" ? "" : this.unit);
    }
  }
}

if ("DecompressionStream" in window)
  for (const figure of document.querySelectorAll("figure.stack")) {
    const viewer = new Viewer(figure, JSON.parse(figure.querySelector("script").textContent));
    viewer.draw().catch(() => {
      viewer.root.remove();
      figure.classList.remove("live");
    });
  }
