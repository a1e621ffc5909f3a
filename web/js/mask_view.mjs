// Base class of the views that show a mask over an image: heat map, outline, cutout, black and white.

import { pixelTable } from "./colors.mjs";
import { canvasOf, drawCheckerboard, make } from "./elements.mjs";
import { outline } from "./selection.mjs";
import { View } from "./view.mjs";

export const MODES = ["heatMap", "outline", "cutout", "blackAndWhite"];
const OPACITY = { heatMap: 0.5, outline: 1, cutout: 1, blackAndWhite: 1 };

export class MaskView extends View {
  addTools() {
    const { texts } = this.frame;
    this.opacity = { ...OPACITY };
    this.modes = MODES.map((mode) => {
      const button = this.button(this.tools, texts[mode], texts[mode], () => {
        this.chosen = mode;
        this.setMode(mode);
        this.remember();
      });
      button.dataset.mode = mode;
      return button;
    });
    this.slider = make("input", "maskwright-opacity", this.tools);
    Object.assign(this.slider, { type: "range", min: 0, max: 1, step: 0.01, title: texts.opacity });
    this.slider.setAttribute("aria-label", texts.opacity);
    this.slider.addEventListener("input", () => {
      this.opacity[this.mode] = Number(this.slider.value);
      this.remember();
      this.schedule();
    });
    this.setMode();
  }

  get state() {
    const changed = Object.entries(this.opacity).filter(([mode, value]) => value !== OPACITY[mode]);
    return {
      ...super.state,
      ...(this.chosen ? { mode: this.chosen } : {}),
      ...(changed.length ? { opacity: Object.fromEntries(changed) } : {}),
    };
  }

  resume(state) {
    this.opacity = { ...OPACITY };
    for (const mode of MODES) {
      const value = state?.opacity?.[mode];
      if (typeof value === "number" && value >= 0 && value <= 1) this.opacity[mode] = value;
    }
    if (MODES.includes(state?.mode)) this.chosen = state.mode;
    this.setMode(this.chosen);
    super.resume(state);
  }

  setMode(mode = this.frame.settings().mode) {
    this.mode = MODES.includes(mode) ? mode : MODES[0];
    this.slider.value = this.opacity[this.mode];
    for (const button of this.modes) button.setAttribute("aria-pressed", String(button.dataset.mode === this.mode));
    this.schedule();
  }

  /**
   * The mask for the current settings, width x height: its brightness `levels` and color map `steps`, 0..255, whether it
   * `isEmpty`, and maybe the `lines` of its outline. Null while there is none.
   */
  selected() {
    return null;
  }

  get hasMask() {
    return true;
  }

  maskImage() {
    const { levels, width, height } = this.selected();
    return canvasOf(mapped(levels, pixelTable("greys")), width, height);
  }

  /** The current widget values; for widgets fed by a link, the run's values. Widgets with neither are left out. */
  valuesOf(names) {
    const now = this.frame.widgets();
    const used = this.entries[this.page].settings ?? {};
    const values = names.map((name) => [name, now[name] ?? used[name]]);
    return Object.fromEntries(values.filter(([, value]) => value !== undefined));
  }

  exported() {
    this.draw(false);
    const copy = document.createElement("canvas");
    copy.width = this.canvas.width;
    copy.height = this.canvas.height;
    copy.getContext("2d").drawImage(this.canvas, 0, 0);
    this.draw();
    return copy;
  }

  draw(withCheckerboard = true) {
    const mask = this.selected();
    const context = this.blank();
    const { image } = this.loaded;
    const { width, height } = context.canvas;
    if (!mask) {
      context.drawImage(image, 0, 0);
      return;
    }
    const opacity = this.opacity[this.mode];
    const lay = (levels, table) => {
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "low"; // bilinear
      context.drawImage(canvasOf(mapped(levels, pixelTable(table)), mask.width, mask.height), 0, 0, width, height);
    };
    if (this.mode === "cutout") {
      // Front to back on one canvas: the selection, the rest of the image as far as opacity leaves it, a checkerboard.
      context.drawImage(image, 0, 0);
      context.globalCompositeOperation = "destination-in";
      lay(mask.levels, "alpha");
      context.globalCompositeOperation = "destination-over";
      if (opacity < 1) {
        context.globalAlpha = 1 - opacity;
        context.drawImage(image, 0, 0);
        context.globalAlpha = 1;
      }
      if (withCheckerboard) drawCheckerboard(context);
      return;
    }
    context.drawImage(image, 0, 0);
    context.globalAlpha = opacity;
    if (this.mode === "blackAndWhite") lay(mask.levels, "greys");
    else if (this.mode === "outline") this.drawOutline(context, mask);
    else if (!mask.isEmpty) lay(mask.steps, "viridis"); // colored before resizing, as in the node
    context.globalAlpha = 1;
  }

  drawOutline(context, mask) {
    const { width, height } = context.canvas;
    const { width: w, height: h } = mask;
    const lines = mask.lines ?? outline(mask.levels, w, h, 127.5);
    const path = new Path2D();
    for (let i = 0; i < lines.length; i += 4) {
      path.moveTo((lines[i] * width) / w, (lines[i + 1] * height) / h);
      path.lineTo((lines[i + 2] * width) / w, (lines[i + 3] * height) / h);
    }
    const line = Math.max(1, Math.max(width, height) / 256);
    context.lineCap = "round";
    context.strokeStyle = "#000";
    context.lineWidth = 2 * line;
    context.stroke(path);
    context.strokeStyle = "#ffe14d";
    context.lineWidth = line;
    context.stroke(path);
  }
}

function mapped(levels, table) {
  const pixels = new Uint32Array(levels.length);
  for (let i = 0; i < levels.length; i++) pixels[i] = table[levels[i]];
  return pixels;
}
