// Before and after, with a divider to drag. A button changes the background of a cutout.

import { canvasOf, drawCheckerboard, pixelsOf } from "./elements.mjs";
import { View } from "./view.mjs";

const SPLIT = 0.5; // initial position of the divider, as a fraction of the width
// Backgrounds of a cutout: a name or a color. "mask" shows its alpha alone.
const BACKDROPS = ["checkerboard", "mask", "#000", "#fff", "#0b0", "image"];

export class ComparisonView extends View {
  static widgets = [];

  addTools() {
    this.split = SPLIT;
    const { canvas } = this;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-label", this.frame.texts.compare);
    canvas.title = this.frame.texts.compare;
    this.moveTo(this.split);
    [this.backdrop] = BACKDROPS;
    this.backdropButton = this.button(this.tools, this.frame.texts.backdrop, this.frame.texts.changeBackdrop, () => {
      this.backdrop = BACKDROPS[(BACKDROPS.indexOf(this.backdrop) + 1) % BACKDROPS.length];
      this.remember();
      this.schedule();
    });
    this.backdropButton.hidden = true;
    let dragging = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      dragging = true;
      canvas.setPointerCapture?.(event.pointerId);
      this.moveTo(this.placeOf(event));
      this.remember();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!dragging) return;
      event.stopPropagation();
      this.moveTo(this.placeOf(event));
      this.remember();
    });
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(kind, () => {
        dragging = false;
      });
    }
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.moveTo(this.split + by);
      this.remember();
    });
  }

  get state() {
    return {
      ...super.state,
      ...(this.split === SPLIT ? {} : { split: this.split }),
      ...(this.backdrop === BACKDROPS[0] ? {} : { backdrop: this.backdrop }),
    };
  }

  resume(state) {
    this.backdrop = BACKDROPS.includes(state?.backdrop) ? state.backdrop : BACKDROPS[0];
    this.moveTo(typeof state?.split === "number" ? state.split : SPLIT);
    super.resume(state);
  }

  moveTo(split) {
    this.split = Math.round(1000 * Math.min(1, Math.max(0, split))) / 1000 || 0;
    this.canvas.setAttribute("aria-valuenow", String(Math.round(100 * this.split)));
    this.schedule();
  }

  /** Horizontal position of a pointer, as a fraction of the image's width. */
  placeOf(event) {
    return this.pointOf(event)[0] / this.canvas.width;
  }

  files() {
    return ["image", "after", "alpha"];
  }

  prepare() {
    const { after, alpha } = this.loaded;
    this.result = after ?? null;
    this.isEmpty = false;
    if (after && alpha) {
      const levels = pixelsOf(alpha).data;
      this.isEmpty = !levels.some((level, i) => level > 0 && i % 4 === 0);
      this.result = withAlpha(after, levels);
    }
    this.backdropButton.hidden = !alpha;
  }

  forget() {
    super.forget();
    this.result = null;
  }

  draw() {
    const context = this.blank();
    const { image } = this.loaded;
    const { result, copies } = this;
    if (copies > 1) context.canvas.height = image.height * copies;
    const { width, height } = context.canvas;
    this.drawOriginal(context);
    if (result) {
      const from = Math.round(this.split * width);
      context.save();
      context.beginPath();
      context.rect(from, 0, width - from, height);
      context.clip();
      this.drawResult(context);
      context.restore();
      const line = Math.max(1, Math.round(width / 256));
      context.fillStyle = "#fff";
      context.fillRect(from - line / 2, 0, line, height);
      drawGrip(context, from, height / 2, Math.max(width, height) / 40);
    }
  }

  get hasMask() {
    return !!this.loaded?.alpha;
  }

  maskImage() {
    return this.loaded.alpha;
  }

  /** Several cutouts of one image are stacked vertically; the image is repeated beside them. */
  get copies() {
    const { result, loaded } = this;
    if (!result) return 1;
    return Math.max(1, Math.round((result.height * loaded.image.width) / (result.width * loaded.image.height)));
  }

  hint() {
    return this.isEmpty && this.loaded ? this.frame.texts.noInstance : "";
  }

  exported() {
    return this.result ?? this.loaded.image;
  }

  /** Draw the result on its backdrop. */
  drawResult(context) {
    const { width, height } = context.canvas;
    const { alpha } = this.loaded;
    const backdrop = alpha ? this.backdrop : BACKDROPS[0];
    if (backdrop === "mask") {
      context.drawImage(alpha, 0, 0, width, height);
      return;
    }
    if (backdrop === "checkerboard") drawCheckerboard(context);
    else if (backdrop === "image") {
      this.drawOriginal(context);
      context.fillStyle = "rgba(0, 0, 0, 0.7)";
      context.fillRect(0, 0, width, height);
    } else {
      context.fillStyle = backdrop;
      context.fillRect(0, 0, width, height);
    }
    context.drawImage(this.result, 0, 0, width, height);
  }
}

/** A disc with an arrow to each side, to show that the divider can be dragged. */
function drawGrip(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = "#333";
  for (const side of [-1, 1]) {
    context.beginPath();
    context.moveTo(x + side * radius * 0.75, y);
    context.lineTo(x + side * radius * 0.25, y - radius * 0.4);
    context.lineTo(x + side * radius * 0.25, y + radius * 0.4);
    context.fill();
  }
}

/** An image with the red channel of `levels`, RGBA pixels of the same size, as its alpha. */
function withAlpha(colors, levels) {
  const { width, height } = colors;
  const pixels = new Uint8ClampedArray(levels.length);
  for (let i = 0; i < levels.length; i += 4) pixels[i + 3] = levels[i];
  const cut = canvasOf(pixels, width, height);
  const brush = cut.getContext("2d");
  brush.globalCompositeOperation = "source-in";
  brush.drawImage(colors, 0, 0);
  return cut;
}
