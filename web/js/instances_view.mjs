// The view of MaskInstances: every instance outlined and numbered. A click changes the widget `pick`.

import { Boxes, percent } from "./boxes.mjs";
import { pixel } from "./colors.mjs";
import { canvasOf, make, pixelsOf } from "./elements.mjs";
import { pickedOf, toggled } from "./pick.mjs";
import { filled } from "./texts.mjs";
import { View } from "./view.mjs";

const NEED_RUN = ["split", "sort_by", "min_area", "overlap", "limit"];
const CLICK = 4; // pixels that a pointer may move in a click
const COLORS = [
  [255, 225, 77], [77, 210, 255], [255, 122, 217], [141, 255, 107],
  [255, 169, 77], [183, 148, 255], [94, 255, 216], [255, 107, 107],
]; // by the instance's number
const NOT_PICKED = [190, 190, 190];
const FILL = 70; // opacity of a picked instance's color, 0..255
const DIM = 120; // opacity of the black over the others

export class InstancesView extends View {
  static widgets = ["pick", ...NEED_RUN];

  addTools() {
    this.numbers = new Numbers(this.stage, (index) => this.choose(index));
    const { canvas } = this;
    let start = [0, 0];
    canvas.addEventListener("pointerdown", (event) => {
      start = [event.clientX, event.clientY];
    });
    canvas.addEventListener("click", (event) => {
      const isDrag = Math.hypot(event.clientX - start[0], event.clientY - start[1]) > CLICK;
      const index = this.instanceAt(event);
      if (!isDrag && index >= 0) this.choose(index);
    });
    canvas.addEventListener("pointermove", (event) => {
      const index = this.instanceAt(event);
      canvas.style.cursor = index < 0 ? "" : "pointer";
      canvas.title = index < 0 ? "" : this.numbers.titleOf(index, this.frame.texts);
    });
  }

  files() {
    return ["image", "labels"];
  }

  prepare() {
    if (!this.loaded.labels) throw new Error("no labels");
    const { data, width, height } = pixelsOf(this.loaded.labels);
    const half = 2 * width * height; // of the RGBA values: the high bytes are above the low bytes
    this.map = { width, height: height / 2, labels: new Uint16Array((width * height) / 2) };
    const { labels } = this.map;
    for (let i = 0; i < labels.length; i++) labels[i] = 256 * data[4 * i] + data[half + 4 * i];
    this.map.isEdge = edges(this.map, Math.max(1, Math.round(Math.max(width, height / 2) / 300)));
  }

  forget() {
    super.forget();
    this.map = null;
  }

  /** The index of the instance below a pointer; -1 for none. */
  instanceAt(event) {
    if (!this.map) return -1;
    const { labels, width, height } = this.map;
    const [x, y] = this.pointOf(event).map(Math.floor);
    return x >= 0 && y >= 0 && x < width && y < height ? labels[y * width + x] - 1 : -1;
  }

  /** The widget's text; the run's text if a link feeds the widget. */
  get pick() {
    return String(this.frame.widgets().pick ?? this.entries[this.page]?.settings?.pick ?? "");
  }

  get hasMask() {
    return true;
  }

  /** The union of the picked instances. */
  maskImage() {
    const { labels, width, height } = this.map;
    const picked = new Set(pickedOf(this.pick, this.entries[this.page].count) ?? []);
    const pixels = Uint32Array.from(labels, (label) => (picked.has(label - 1) ? pixel(255, 255, 255) : pixel(0, 0, 0)));
    return canvasOf(pixels, width, height);
  }

  choose(index) {
    this.frame.change("pick", toggled(this.pick, index, this.entries[this.page].count));
  }

  draw() {
    const { boxes, size, count } = this.entries[this.page];
    const picked = new Set(pickedOf(this.pick, count) ?? []);
    const context = this.blank();
    context.drawImage(this.loaded.image, 0, 0);
    const { width, height, labels, isEdge } = this.map;
    const [lines, fills] = colorTables(boxes.length, picked);
    const pixels = new Uint32Array(labels.length);
    for (let i = 0; i < pixels.length; i++) if (labels[i]) pixels[i] = (isEdge[i] ? lines : fills)[labels[i]];
    context.drawImage(canvasOf(pixels, width, height), 0, 0, context.canvas.width, context.canvas.height);
    this.numbers.show(boxes, size);
    this.numbers.mark(picked, this.frame.texts);
    this.refresh();
  }

  refresh() {
    super.refresh();
    if (this.numbers && this.canvas.hidden) this.numbers.hide();
  }

  /** The editor's zoom has changed. */
  zoomed() {
    this.numbers.adapt();
  }

  hint() {
    const entry = this.entries[this.page];
    const { texts } = this.frame;
    if (!entry || !this.loaded) return "";
    const now = this.frame.widgets();
    const used = entry.settings ?? {};
    if (NEED_RUN.some((name) => now[name] !== undefined && used[name] !== undefined && now[name] !== used[name])) {
      return texts.otherSettings;
    }
    if (!entry.count) return texts.noInstance;
    const picked = pickedOf(this.pick, entry.count);
    if (!picked) return texts.pickUnreadable;
    return filled(texts.picked, { picked: picked.length, count: entry.count });
  }
}

/** The instances' numbers, from 0: buttons over the centers of their boxes. */
class Numbers extends Boxes {
  constructor(parent, choose) {
    super(parent);
    this.choose = choose;
  }

  child([x1, y1, x2, y2], index, width, height) {
    const element = make("button", "maskwright-number maskwright-instance");
    element.type = "button";
    element.textContent = String(index);
    element.style.setProperty("--maskwright-x", percent((x1 + x2) / 2, width));
    element.style.setProperty("--maskwright-y", percent((y1 + y2) / 2, height));
    element.addEventListener("click", () => this.choose(index));
    return element;
  }

  /** Show which instances are picked. */
  mark(picked, texts) {
    [...this.element.children].forEach((child, index) => {
      child.style.setProperty("--maskwright-color", `rgb(${colorOf(index, picked.has(index))})`);
      child.setAttribute("aria-pressed", String(picked.has(index)));
      child.title = this.titleOf(index, texts);
    });
  }

  titleOf(index, texts) {
    return filled(texts.togglePick, { number: index });
  }
}

function colorOf(index, isPicked) {
  return isPicked ? COLORS[index % COLORS.length] : NOT_PICKED;
}

/** The colors of outlines and of insides by label; label 0 is none. */
function colorTables(count, picked) {
  const lines = new Uint32Array(count + 1);
  const fills = new Uint32Array(count + 1);
  for (let i = 0; i < count; i++) {
    const isPicked = picked.has(i);
    lines[i + 1] = pixel(...colorOf(i, isPicked), 255);
    fills[i + 1] = isPicked ? pixel(...colorOf(i, true), FILL) : pixel(0, 0, 0, DIM);
  }
  return [lines, fills];
}

/** Which pixels have another label, or the border, within `line` pixels to the left, right, top or bottom. */
function edges({ labels, width, height }, line) {
  const isEdge = new Uint8Array(labels.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const label = labels[i];
      isEdge[i] = Number(
        label > 0 &&
          (x < line || y < line || x >= width - line || y >= height - line ||
            labels[i - line] !== label || labels[i + line] !== label ||
            labels[i - line * width] !== label || labels[i + line * width] !== label),
      );
    }
  }
  return isEdge;
}
