// The live mask of CLIPSeg and CLIPSegMasking: the last run's probabilities with the current widget values.

import { pixelTable } from "./colors.mjs";
import { canvasOf, drawCheckerboard, make, pixelsOf } from "./elements.mjs";
import * as selection from "./selection.mjs";
import { View } from "./view.mjs";

export const MODES = ["heatMap", "outline", "cutout", "blackAndWhite"];
const OPACITY = { heatMap: 0.5, outline: 1, cutout: 1, blackAndWhite: 1 };

/** Widgets that the view follows, and those whose changes need another run. */
const LIVE = ["threshold", "blur", "dilation_factor", "normalization"];
const NEED_RUN = ["text", "negative_text", "resolution"];

export class SelectionView extends View {
  static widgets = [...LIVE, ...NEED_RUN];

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

  files() {
    return ["image", "probabilities"];
  }

  prepare(entry) {
    const { probabilities } = this.loaded;
    if (!probabilities) throw new Error("no probabilities");
    const { data, width, height } = pixelsOf(probabilities);
    this.map = selection.probabilitiesOf(data, width, height, entry.bits, entry.high ?? 1);
    this.mask = { key: "" };
  }

  forget() {
    super.forget();
    this.map = null;
    this.mask = null;
  }

  /** The current widget values; for widgets fed by a link, the run's values. */
  settings() {
    const entry = this.entries[this.page];
    const now = this.frame.widgets();
    const values = {};
    for (const name of LIVE) {
      const value = now[name] ?? entry.settings?.[name];
      if (value !== undefined) values[name] = name === "normalization" ? value : Number(value);
    }
    return values;
  }

  /**
   * The mask for the current settings, width x height: its brightness `levels` and colour map `steps`, 0..255.
   * A selection has the model's resolution, and the canvas resizes it bilinearly, like the node. The masks of
   * CLIPSegMasking have the image's, since a canvas does not have their filter.
   */
  selected() {
    const entry = this.entries[this.page];
    const settings = this.settings();
    const key = JSON.stringify(settings);
    if (this.mask.key === key) return this.mask;
    const { values, width, height } = this.map;
    if (entry.kind === "selection") {
      const chosen = selection.selected(values, width, height, settings, entry.scale);
      const steps = selection.steps(chosen);
      const isEmpty = !chosen.some((value) => value > 0);
      this.mask = { key, width, height, steps, levels: selection.greyLevels(steps), isEmpty };
    } else {
      const { width: w, height: h } = this.loaded.image;
      const levels = selection.maskOfProbabilities(values, width, height, w, h, settings.normalization);
      this.mask = { key, width: w, height: h, steps: levels, levels };
    }
    return this.mask;
  }

  draw() {
    const mask = this.selected();
    const context = this.blank();
    const { image } = this.loaded;
    const { width, height } = context.canvas;
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
      context.globalAlpha = 1 - opacity;
      context.drawImage(image, 0, 0);
      context.globalAlpha = 1;
      drawCheckerboard(context);
      return;
    }
    context.drawImage(image, 0, 0);
    context.globalAlpha = opacity;
    if (this.mode === "blackAndWhite") lay(mask.levels, "greys");
    else if (this.mode === "outline") this.drawOutline(context, mask);
    else if (!mask.isEmpty) lay(mask.steps, "viridis"); // coloured before resizing, like the node
    context.globalAlpha = 1;
  }

  drawOutline(context, mask) {
    const { width, height } = context.canvas;
    const { width: w, height: h } = mask;
    const lines = selection.outline(mask.levels, w, h, 127.5);
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

  hint() {
    const entry = this.entries[this.page];
    if (!entry || !this.loaded) return "";
    const { texts } = this.frame;
    const now = this.frame.widgets();
    const used = entry.settings ?? {};
    // A text with braces (dynamic prompts) changes with every run.
    const differs = (name) =>
      now[name] !== undefined && used[name] !== undefined && now[name] !== used[name] && !/[{}]/.test(now[name]);
    if (NEED_RUN.some(differs)) return texts.otherText;
    if (isEmpty(used.text)) return texts.noText;
    return this.mask?.isEmpty ? texts.nothingSelected : "";
  }
}

/** Whether a text has no prompt; prompts are separated by vertical bars. */
function isEmpty(text) {
  return typeof text === "string" && /^[\s|]*$/.test(text);
}

function mapped(levels, table) {
  const pixels = new Uint32Array(levels.length);
  for (let i = 0; i < levels.length; i++) pixels[i] = table[levels[i]];
  return pixels;
}
