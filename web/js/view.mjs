// Base class of the views: a bar of buttons, a canvas, pages for the images of a batch, and a line of text.
// A view that is closed or out of sight fetches and draws nothing.

import { make } from "./elements.mjs";
import { Larger } from "./larger.mjs";
import { STYLE } from "./style.mjs";
import { filled } from "./texts.mjs";

const BAR = 24; // pixels of height of a closed view

export class View {
  /**
   * @param {object} frame What the view needs from the editor: texts, settings() -> {mode, size},
   *   widgets() -> {name: value}, label(name) -> what people read on that widget, change(name, value) of a widget,
   *   load(file) -> Promise<ImageBitmap>, resize(change), remember(state) (`resume` gets
   *   the state when the node comes back), releaseFocus(), canEditMask() -> whether ComfyUI has a mask editor,
   *   editMask(file), which opens it.
   */
  constructor(frame) {
    this.frame = frame;
    this.entries = [];
    this.page = 0;
    this.isOpen = true;
    this.seen = typeof IntersectionObserver === "undefined";
    this.size = frame.settings().size; // pixels of height while open
    this.loaded = null; // the bitmaps of the current page
    this.ticket = 1; // of the images to show; late answers for others are dropped
    this.fetching = 0; // the ticket of the requests in progress
    this.scheduled = false;
    this.phase = ""; // of the run in progress; "" if it has nothing to do for this node
    this.fraction = 0; // of the node's work that is done
    this.problem = ""; // in place of the image
    this.remark = ""; // about the last run
    this.isError = false; // whether the remark is about an error
    this.warning = ""; // about a button that failed
    this.isRecalled = false; // whether the entries come from the server's history
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
    // Pointer events here must not drag the node below.
    for (const kind of ["pointerdown", "pointerup", "dblclick"]) {
      this.element.addEventListener(kind, (event) => event.stopPropagation());
    }
    this.larger = new Larger(this);
    this.watch();
    this.addTools();
    this.refresh();
  }

  /** Track whether the view is visible, and release the focus when it disappears. */
  watch() {
    this.element.addEventListener("focusin", () => {
      this.hadFocus = true;
    });
    if (this.seen) return;
    this.watcher = new IntersectionObserver((changes) => {
      this.seen = changes.at(-1).isIntersecting;
      if (this.seen) this.schedule();
      else this.passFocus();
    });
    this.watcher.observe(this.element);
  }

  passFocus() {
    const { activeElement, body } = document;
    if (this.hadFocus && (activeElement === body || this.element.contains(activeElement))) this.frame.releaseFocus();
    this.hadFocus = false;
  }

  /** Add the subclass's buttons. */
  addTools() {}

  /** Names of the entry's files that drawing needs. */
  files() {
    return ["image"];
  }

  button(parent, label, title, action) {
    const button = make("button", "maskwright-button", parent);
    button.type = "button";
    button.textContent = label;
    button.title = title;
    button.setAttribute("aria-label", title);
    button.addEventListener("click", action);
    return button;
  }

  // -- what the editor reports ----------------------------------------------------------------------------------------

  /** Show the images of a run. */
  show(entries) {
    this.entries = entries.filter((entry) => entry && typeof entry === "object");
    this.page = Math.min(this.page, Math.max(0, this.entries.length - 1));
    this.forget();
    this.problem = "";
    this.warning = "";
    this.say("");
    this.schedule();
  }

  /** Show a sentence about the last run, which gave no result: alone, or below the result of an earlier run. */
  say(sentence, isError = false) {
    const isShown = this.entries.length && !this.problem;
    this.remark = isShown && sentence ? `${sentence} ${this.frame.texts.shownBefore}` : sentence;
    this.isError = isError;
    this.report("");
    this.refresh();
  }

  /** Show a sentence about a button that failed; "" for none. */
  warn(sentence) {
    this.warning = sentence;
    this.refresh();
  }

  /**
   * Show the state of the run in progress.
   *
   * @param {string} phase "", "waiting", or a phase that the node reports
   * @param {number} fraction of the node's work that is done
   */
  report(phase, fraction = 0) {
    if (phase === this.phase && fraction === this.fraction) return;
    Object.assign(this, { phase, fraction });
    this.refresh();
  }

  /** The phase as a sentence. */
  phaseText() {
    const { texts } = this.frame;
    return texts[`phase${this.phase[0].toUpperCase()}${this.phase.slice(1)}`] ?? texts.phaseWork;
  }

  /** The state of the run in progress as a sentence; "" for none. */
  activity() {
    const { texts } = this.frame;
    if (!this.phase) return "";
    if (this.phase === "waiting") return this.entries.length ? "" : texts.waiting;
    const percent = Math.floor(100 * Math.min(1, this.fraction));
    return percent > 0 ? filled(texts.percent, { phase: this.phaseText(), percent }) : this.phaseText();
  }

  /** The editor's zoom has changed. */
  zoomed() {}

  /** The node's widgets have changed. */
  changed() {
    this.schedule();
  }

  /** Free the bitmaps. They are fetched again when needed. */
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
    return this.isOpen ? this.size : BAR;
  }

  setOpen(open) {
    this.frame.resize(() => {
      this.isOpen = open;
      this.refresh();
    });
    this.remember();
    if (!open) this.forget();
    this.schedule();
  }

  /** The user's settings in the view that differ from the defaults. */
  get state() {
    return { ...(this.isOpen ? {} : { closed: true }), ...(this.page ? { page: this.page } : {}) };
  }

  remember() {
    const { state } = this;
    this.frame.remember(Object.keys(state).length ? state : null);
  }

  /** Restore the state from a node's property, which may have any value. */
  resume(state) {
    this.isOpen = !state?.closed;
    const page = Number.isInteger(state?.page) && state.page > 0 ? state.page : 0;
    if (page !== this.page) this.turnTo(page);
    this.refresh();
    this.schedule();
  }

  turn(by) {
    const count = this.entries.length;
    if (!count) return;
    this.turnTo((this.page + by + count) % count);
    this.remember();
  }

  turnTo(page) {
    this.page = this.entries.length ? Math.min(page, this.entries.length - 1) : page;
    this.problem = "";
    this.forget();
    this.refresh();
    this.schedule();
  }

  /** Update everything but the canvas. */
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
    this.larger.refresh();
    const activity = this.activity();
    const sentence = activity || this.warning || this.remark;
    let message = sentence || (pages ? texts.loading : texts.nothingYet);
    if (this.problem) message = `${this.problem} ${sentence}`.trim();
    else if (this.loaded) message = "";
    this.message.textContent = message;
    this.message.hidden = !message;
    this.message.title = message; // where it is too long for its place
    this.canvas.hidden = !!message;
    this.note.textContent = message ? "" : sentence || this.hint();
    this.note.hidden = !this.isOpen || !this.note.textContent;
    this.note.title = this.note.textContent;
    const isError = !!this.problem || (!activity && (this.isError || !!this.warning));
    this.message.classList.toggle("maskwright-error", isError);
    this.note.classList.toggle("maskwright-error", isError);
  }

  /** A sentence about the result; "" for none. */
  hint() {
    return "";
  }

  /** Draw at the next animation frame, once however often this is called. */
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.update();
    });
  }

  /** Fetch missing files, and draw. Errors are shown in the view. */
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
      // The history lists runs whose files are gone: then the view looks as if there had been no run.
      if (error?.isMissing && this.isRecalled) this.entries = [];
      else this.problem = error?.isMissing ? texts.gone : filled(texts.unreadable, { reason: error?.message ?? error });
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
    if (!this.loaded.image) throw new Error("no image");
    this.prepare(entry);
  }

  /** Whether the canvas shows the page, or why not. */
  get isDrawn() {
    return !!this.problem || (!!this.loaded && !this.scheduled);
  }

  async untilDrawn() {
    while (!this.isDrawn) await new Promise(requestAnimationFrame);
  }

  /** The page as a canvas or bitmap for a file: transparent where the view shows a checkerboard. */
  exported() {
    return this.canvas;
  }

  /** Whether the view shows a mask, which `maskImage` returns as a canvas or bitmap, white where selected. */
  get hasMask() {
    return false;
  }

  /** How many times the image is drawn, stacked vertically. */
  get copies() {
    return 1;
  }

  /** Draw the image over the whole canvas. */
  drawOriginal(context) {
    const { width, height } = context.canvas;
    const { copies } = this;
    for (let i = 0; i < copies; i++) {
      context.drawImage(this.loaded.image, 0, (i * height) / copies, width, height / copies);
    }
  }

  /** Called once when the files of an entry are here. */
  prepare() {}

  /** Clear the canvas and give it the size of the image. Returns its context. */
  blank() {
    const { width, height } = this.loaded.image;
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, width, height);
    return context;
  }

  /** Position of a pointer in pixels of the canvas, whose content is centered in its element. */
  pointOf(event) {
    const { canvas } = this;
    const frame = canvas.getBoundingClientRect();
    const scale = Math.min(frame.width / canvas.width, frame.height / canvas.height) || 1;
    return [
      (event.clientX - frame.left - (frame.width - canvas.width * scale) / 2) / scale,
      (event.clientY - frame.top - (frame.height - canvas.height * scale) / 2) / scale,
    ];
  }

  draw() {
    this.blank().drawImage(this.loaded.image, 0, 0);
  }
}
