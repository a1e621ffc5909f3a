// Before and after with a slider between them, the transparent over a checkerboard; and regions while they are worked on.

import { filled } from "./texts.mjs";
import { canvasOf, drawCheckerboard, View } from "./view.mjs";

export class ComparisonView extends View {
  static widgets = [];

  addTools() {
    this.split = 0.5; // where the pictures meet, as a part of the width
    const { canvas } = this;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-label", this.frame.texts.compare);
    canvas.title = this.frame.texts.compare;
    this.moveTo(this.split);
    let dragging = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      dragging = true;
      canvas.setPointerCapture?.(event.pointerId);
      this.moveTo(this.placeOf(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!dragging) return;
      event.stopPropagation();
      this.moveTo(this.placeOf(event));
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
    });
  }

  moveTo(split) {
    this.split = Math.min(1, Math.max(0, split));
    this.canvas.setAttribute("aria-valuenow", String(Math.round(100 * this.split)));
    this.schedule();
  }

  /** Where in the picture a pointer is, as a part of its width: it lies in the middle of its element, as a whole. */
  placeOf(event) {
    const { canvas } = this;
    const frame = canvas.getBoundingClientRect();
    const scale = Math.min(frame.width / canvas.width, frame.height / canvas.height) || 1;
    return (event.clientX - frame.left - (frame.width - canvas.width * scale) / 2) / (canvas.width * scale);
  }

  files() {
    return ["picture", "after", "alpha"];
  }

  prepare() {
    const { after, alpha } = this.loaded;
    this.result = after ?? null;
    if (after && alpha) this.result = withAlpha(after, alpha);
  }

  forget() {
    super.forget();
    this.result = null;
  }

  draw() {
    const context = this.blank();
    const { picture } = this.loaded;
    const { result } = this;
    // Several cutouts of one picture come below each other; before them lies the picture as often.
    const times = result ? Math.max(1, Math.round((result.height * picture.width) / (result.width * picture.height))) : 1;
    if (times > 1) context.canvas.height = picture.height * times;
    const { width, height } = context.canvas;
    for (let i = 0; i < times; i++) context.drawImage(picture, 0, (i * height) / times, width, height / times);
    if (result) {
      const from = Math.round(this.split * width);
      context.save();
      context.beginPath();
      context.rect(from, 0, width - from, height);
      context.clip();
      drawCheckerboard(context);
      context.drawImage(result, 0, 0, width, height);
      context.restore();
      const line = Math.max(1, Math.round(width / 256));
      context.fillStyle = "#fff";
      context.fillRect(from - line / 2, 0, line, height);
    }
    const entry = this.entries[this.page];
    this.drawBoxes(context, entry.boxes ?? [], entry.size);
  }

  /** The regions' boxes with their numbers; `current` is the one that is worked on. */
  drawBoxes(context, boxes, size, current = -1) {
    const { width, height } = context.canvas;
    const [scaleX, scaleY] = [width / (size?.[0] || width), height / (size?.[1] || height)];
    const line = Math.max(1, Math.round(Math.max(width, height) / 300));
    const letters = Math.max(9, Math.round(Math.max(width, height) / 40));
    context.font = `${letters}px sans-serif`;
    context.textBaseline = "top";
    boxes.forEach(([x1, y1, x2, y2], index) => {
      const colour = index === current ? "#ffe14d" : index < current || current < 0 ? "#6fdc8c" : "#ddd";
      const [left, top] = [x1 * scaleX, y1 * scaleY];
      context.lineWidth = line;
      context.strokeStyle = colour;
      context.strokeRect(left, top, (x2 - x1) * scaleX, (y2 - y1) * scaleY);
      const number = String(index + 1);
      const wide = context.measureText(number).width + letters / 2;
      context.fillStyle = colour;
      context.fillRect(left, top, wide, letters + 2);
      context.fillStyle = "#000";
      context.fillText(number, left + letters / 4, top + 1);
    });
  }
}

/** The same, with the regions while the node works: told by the event "maskwright.regions". */
export class RegionsView extends ComparisonView {
  /** @param {{size, boxes, current, picture}} work `picture` names a file, or is left out where it is the last one. */
  working(work) {
    if (work.picture) {
      if (this.entries[0]?.kind !== "regions") this.earlier = this.entries;
      this.entries = [{ kind: "regions", ...work }];
      this.page = 0;
      this.forget();
      this.problem = "";
      this.remark = "";
    } else if (this.entries[0]?.kind === "regions") {
      Object.assign(this.entries[0], work, { picture: this.entries[0].picture });
    }
    this.refresh();
    this.schedule();
  }

  /** What the work would have given is not to come: back to what an earlier run gave. */
  tell(sentence) {
    if (sentence && this.entries[0]?.kind === "regions") this.show(this.earlier ?? []);
    super.tell(sentence);
  }

  draw() {
    const entry = this.entries[this.page];
    if (entry.kind !== "regions") {
      super.draw();
      return;
    }
    const context = this.blank();
    context.drawImage(this.loaded.picture, 0, 0);
    this.drawBoxes(context, entry.boxes ?? [], entry.size, entry.current ?? -1);
  }

  hint() {
    const entry = this.entries[this.page];
    if (entry?.kind !== "regions" || !entry.boxes?.length) return "";
    return filled(this.frame.texts.region, { number: (entry.current ?? 0) + 1, count: entry.boxes.length });
  }
}

/** Colours with the brightness of another picture as their alpha. */
function withAlpha(colours, alpha) {
  const { width, height } = colours;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(alpha, 0, 0, width, height);
  const levels = context.getImageData(0, 0, width, height).data;
  const pixels = new Uint8ClampedArray(levels.length);
  for (let i = 0; i < levels.length; i += 4) pixels[i + 3] = levels[i];
  const cut = canvasOf(pixels, width, height);
  const brush = cut.getContext("2d");
  brush.globalCompositeOperation = "source-in";
  brush.drawImage(colours, 0, 0);
  return cut;
}
