// What every view in a node has: a frame with a bar of buttons, a canvas, pages for the pictures of a batch, and a place
// for plain sentences. A view draws only what is seen: nothing is fetched or computed where it is closed or out of sight.

import { STYLE } from "./style.mjs";
import { filled } from "./texts.mjs";

const BAR = 24; // pixels of height of a closed view

export class View {
  /**
   * @param {object} frame what the view needs of the editor:
   *   texts, settings() -> {mode, size}, widgets() -> {name: value}, load(file) -> Promise<ImageBitmap>, resized(),
   *   remember(state), which `resume` is given when the node comes back
   */
  constructor(frame) {
    this.frame = frame;
    this.entries = [];
    this.page = 0;
    this.isOpen = true;
    this.seen = typeof IntersectionObserver === "undefined";
    this.loaded = null; // {entry, ...bitmaps} of the page that is shown
    this.ticket = 1; // of the pictures that are wanted now, so that what comes late for others is dropped
    this.fetching = 0; // the ticket of those that are on their way
    this.scheduled = false;
    this.problem = ""; // in place of the picture
    this.remark = ""; // below the picture
    this.build();
  }

  build() {
    const { texts } = this.frame;
    this.element = make("div", "maskwright-view");
    make("style", "", this.element).textContent = STYLE;
    this.bar = make("div", "maskwright-bar", this.element);
    this.tools = make("div", "maskwright-tools", this.bar);
    this.pages = make("div", "maskwright-pages", this.bar);
    this.button(this.pages, "‹", texts.previous, () => this.turn(-1));
    this.pageText = make("span", "maskwright-page", this.pages);
    this.button(this.pages, "›", texts.next, () => this.turn(1));
    this.toggle = this.button(this.bar, "▾", texts.close, () => this.setOpen(!this.isOpen));
    this.toggle.classList.add("maskwright-toggle");
    this.stage = make("div", "maskwright-stage", this.element);
    this.canvas = make("canvas", "maskwright-canvas", this.stage);
    this.message = make("div", "maskwright-message", this.stage);
    this.message.setAttribute("role", "status");
    this.note = make("div", "maskwright-note", this.element);
    // The node below must not be dragged by what is done here.
    for (const kind of ["pointerdown", "pointerup", "dblclick"]) {
      this.element.addEventListener(kind, (event) => event.stopPropagation());
    }
    if (!this.seen) {
      this.watcher = new IntersectionObserver((changes) => {
        this.seen = changes.at(-1).isIntersecting;
        if (this.seen) this.schedule();
      });
      this.watcher.observe(this.element);
    }
    this.addTools();
    this.refresh();
  }

  /** Buttons of the kind of view. */
  addTools() {}

  /** Which of an entry's files the drawing needs. */
  files() {
    return ["picture"];
  }

  button(parent, label, title, action) {
    const made = make("button", "maskwright-button", parent);
    made.type = "button";
    made.textContent = label;
    made.title = title;
    made.setAttribute("aria-label", title);
    made.addEventListener("click", action);
    return made;
  }

  // -- what the editor tells ------------------------------------------------------------------------------------------

  /** The pictures of a run. */
  show(entries) {
    this.entries = entries.filter((entry) => entry && typeof entry === "object");
    this.page = Math.min(this.page, Math.max(0, this.entries.length - 1));
    this.forget();
    this.problem = "";
    this.remark = "";
    this.refresh();
    this.schedule();
  }

  /** A sentence about the last run, which gave nothing: alone, or below what an earlier run gave. */
  tell(sentence) {
    const isShown = this.entries.length && !this.problem;
    this.remark = isShown && sentence ? `${sentence} ${this.frame.texts.shownBefore}` : sentence;
    this.refresh();
  }

  /** The node's widgets have changed. */
  changed() {
    this.schedule();
  }

  /** Free what the view holds; it may be shown again. */
  forget() {
    for (const bitmap of Object.values(this.loaded ?? {})) bitmap?.close?.();
    this.loaded = null;
    this.ticket += 1;
  }

  /** The view is gone for good. */
  leave() {
    this.watcher?.disconnect();
    this.forget();
  }

  // -- frame ----------------------------------------------------------------------------------------------------------

  get height() {
    return this.isOpen ? this.frame.settings().size : BAR;
  }

  setOpen(open) {
    this.isOpen = open;
    this.remember();
    if (!open) this.forget();
    this.refresh();
    this.frame.resized();
    this.schedule();
  }

  /** What the user has set the view to, as far as it differs from how it is at first. */
  get state() {
    return this.isOpen ? {} : { closed: true };
  }

  remember() {
    this.frame.remember(Object.keys(this.state).length ? this.state : null);
  }

  /** As it was set. */
  resume(state) {
    this.isOpen = !state?.closed;
    this.refresh();
    this.schedule();
  }

  turn(by) {
    const count = this.entries.length;
    if (!count) return;
    this.page = (this.page + by + count) % count;
    this.problem = "";
    this.forget();
    this.refresh();
    this.schedule();
  }

  /** The frame as it should be now. */
  refresh() {
    const { texts } = this.frame;
    const pages = this.entries.length;
    this.element.style.minHeight = `${this.height}px`;
    this.element.classList.toggle("maskwright-closed", !this.isOpen);
    this.toggle.textContent = this.isOpen ? "▾" : "▸";
    this.toggle.title = this.isOpen ? texts.close : texts.open;
    this.toggle.setAttribute("aria-label", this.toggle.title);
    this.toggle.setAttribute("aria-expanded", String(this.isOpen));
    this.pages.hidden = !this.isOpen || pages < 2;
    this.pageText.textContent = filled(texts.page, { page: this.page + 1, pages });
    this.tools.hidden = !this.isOpen || !this.loaded;
    const instead = this.remark || (pages ? texts.loading : texts.nothingYet);
    const message = this.problem ? `${this.problem} ${this.remark}`.trim() : this.loaded ? "" : instead;
    this.message.textContent = message;
    this.message.hidden = !message;
    this.canvas.hidden = !!message;
    this.note.textContent = message ? "" : this.remark || this.hint();
    this.note.hidden = !this.isOpen || !this.note.textContent;
  }

  /** A sentence about what is shown; "" where there is nothing to say. */
  hint() {
    return "";
  }

  /** Draw at the next frame, however often this is called before. */
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.update();
    });
  }

  /** Fetch what is missing, and draw. Whatever goes wrong is said in the view. */
  async update() {
    if (!this.isOpen || !this.seen || !this.entries.length || this.problem) return;
    const { ticket } = this;
    try {
      if (!this.loaded) {
        if (this.fetching === ticket) return;
        await this.fetchPage(ticket);
      }
      if (ticket !== this.ticket) return;
      this.draw();
    } catch (error) {
      if (ticket !== this.ticket) return;
      this.forget();
      const { texts } = this.frame;
      this.problem = error?.isMissing ? texts.gone : filled(texts.unreadable, { reason: error?.message ?? error });
    }
    this.refresh();
  }

  async fetchPage(ticket) {
    this.fetching = ticket;
    const entry = this.entries[this.page];
    const names = this.files().filter((name) => entry[name]);
    const bitmaps = await Promise.all(names.map((name) => this.frame.load(entry[name])));
    if (ticket !== this.ticket) {
      bitmaps.forEach((bitmap) => bitmap.close?.());
      return;
    }
    this.loaded = Object.fromEntries(names.map((name, i) => [name, bitmaps[i]]));
    if (!this.loaded.picture) throw new Error("no picture");
    this.prepare(entry);
  }

  /** Called once when the files of an entry are here. */
  prepare() {}

  /** The canvas in the size of the picture, empty. */
  blank() {
    const { width, height } = this.loaded.picture;
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, width, height);
    return context;
  }

  draw() {
    this.blank().drawImage(this.loaded.picture, 0, 0);
  }
}

export function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent?.append(element);
  return element;
}

/** A canvas that is not shown, with these pixels. */
export function canvasOf(pixels, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const data = new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

/** Squares that say "nothing is here", in the size of the picture they lie behind. */
export function drawCheckerboard(context) {
  const { width, height } = context.canvas;
  const side = Math.max(4, Math.round(Math.max(width, height) / 48));
  const tile = document.createElement("canvas");
  tile.width = tile.height = 2 * side;
  const brush = tile.getContext("2d");
  brush.fillStyle = "#999";
  brush.fillRect(0, 0, 2 * side, 2 * side);
  brush.fillStyle = "#666";
  brush.fillRect(0, 0, side, side);
  brush.fillRect(side, side, side, side);
  context.fillStyle = context.createPattern(tile, "repeat");
  context.fillRect(0, 0, width, height);
}
