// The live mask of CLIPSeg and CLIPSegMasking: the last run's probabilities, selected anew with the widgets as they are.

import { pixelTable } from "./colours.mjs";
import * as selection from "./selection.mjs";
import { canvasOf, drawCheckerboard, make, View } from "./view.mjs";

export const MODES = ["heatMap", "outline", "cutout", "blackAndWhite"];
const OPACITY = { heatMap: 0.5, outline: 1, cutout: 1, blackAndWhite: 1 };

/** What the run was asked for, which only another run can answer. */
const ASKED = ["text", "negative_text", "resolution"];
const SELECTS = ["threshold", "blur", "dilation_factor", "normalization"];

export class SelectionView extends View {
  static widgets = [...SELECTS, ...ASKED];

  addTools() {
    const { texts } = this.frame;
    this.mode = MODES.includes(this.frame.settings().mode) ? this.frame.settings().mode : MODES[0];
    this.opacity = { ...OPACITY };
    this.modes = MODES.map((mode) => {
      const made = this.button(this.tools, texts[mode], texts[mode], () => this.setMode(mode));
      made.dataset.mode = mode;
      return made;
    });
    this.slider = make("input", "maskwright-opacity", this.tools);
    Object.assign(this.slider, { type: "range", min: 0, max: 1, step: 0.01, title: texts.opacity });
    this.slider.setAttribute("aria-label", texts.opacity);
    this.slider.addEventListener("input", () => {
      this.opacity[this.mode] = Number(this.slider.value);
      this.schedule();
    });
    this.setMode(this.mode);
  }

  setMode(mode) {
    this.mode = mode;
    this.slider.value = this.opacity[mode];
    for (const button of this.modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    this.schedule();
  }

  files() {
    return ["picture", "probabilities"];
  }

  prepare(entry) {
    const { probabilities } = this.loaded;
    if (!probabilities) throw new Error("no probabilities");
    const canvas = document.createElement("canvas");
    canvas.width = probabilities.width;
    canvas.height = probabilities.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(probabilities, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    this.map = selection.probabilitiesOf(data, canvas.width, canvas.height, entry.bits);
    this.made = { key: "" };
  }

  forget() {
    super.forget();
    this.map = null;
    this.made = null;
  }

  /** The run's settings, with the widgets as they are now; a widget that a link feeds has only the run's value. */
  settings() {
    const entry = this.entries[this.page];
    const now = this.frame.widgets();
    const found = {};
    for (const name of SELECTS) {
      const value = now[name] ?? entry.settings?.[name];
      if (value !== undefined) found[name] = name === "normalization" ? value : Number(value);
    }
    return found;
  }

  /** The selection in the model's resolution and, made when first asked for, the mask in the picture's. */
  selected() {
    const entry = this.entries[this.page];
    const settings = this.settings();
    const key = JSON.stringify(settings);
    if (this.made.key === key) return this.made;
    const { values, width, height } = this.map;
    const made = { key, mask: null };
    if (entry.kind === "selection") {
      made.selection = selection.selected(values, width, height, settings, entry.scale);
      made.isEmpty = !made.selection.some((value) => value > 0);
    }
    made.fullMask = () => {
      const { width: w, height: h } = this.loaded.picture;
      made.mask ??= made.selection
        ? selection.maskOfSelection(made.selection, width, height, w, h)
        : selection.maskOfProbabilities(values, width, height, w, h, settings.normalization);
      return made.mask;
    };
    this.made = made;
    return made;
  }

  draw() {
    const made = this.selected();
    const context = this.blank();
    const { picture } = this.loaded;
    const { width, height } = context.canvas;
    const opacity = this.opacity[this.mode];
    const whole = (name) => canvasOf(mapped(made.fullMask(), pixelTable(name)), width, height);
    if (this.mode === "cutout") {
      const cut = whole("alpha");
      const brush = cut.getContext("2d");
      brush.globalCompositeOperation = "source-in";
      brush.drawImage(picture, 0, 0);
      drawCheckerboard(context);
      context.globalAlpha = 1 - opacity;
      context.drawImage(picture, 0, 0);
      context.globalAlpha = 1;
      context.drawImage(cut, 0, 0);
      return;
    }
    context.drawImage(picture, 0, 0);
    context.globalAlpha = opacity;
    if (this.mode === "blackAndWhite") context.drawImage(whole("greys"), 0, 0);
    else if (this.mode === "outline") this.drawOutline(context, made);
    else if (!made.selection) context.drawImage(whole("viridis"), 0, 0);
    else if (!made.isEmpty) {
      // As the node does it: coloured first, then brought to the picture's size.
      const steps = mapped(selection.steps(made.selection), pixelTable("viridis"));
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "low"; // bilinear
      context.drawImage(canvasOf(steps, this.map.width, this.map.height), 0, 0, width, height);
    }
    context.globalAlpha = 1;
  }

  drawOutline(context, made) {
    const { width, height } = context.canvas;
    const { map } = this;
    const values = made.selection ? selection.greyLevels(made.selection) : made.fullMask();
    const [w, h] = made.selection ? [map.width, map.height] : [width, height];
    const lines = selection.outline(values, w, h, made.selection ? 0.5 : 127.5);
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
    const now = this.frame.widgets();
    const asked = entry.settings ?? {};
    // A text with braces is filled in anew at every run.
    const differs = (name) =>
      now[name] !== undefined && asked[name] !== undefined && now[name] !== asked[name] && !/[{}]/.test(now[name]);
    if (ASKED.some(differs)) return this.frame.texts.otherText;
    return this.made?.isEmpty ? this.frame.texts.nothingSelected : "";
  }
}

function mapped(levels, table) {
  const pixels = new Uint32Array(levels.length);
  for (let i = 0; i < levels.length; i++) pixels[i] = table[levels[i]];
  return pixels;
}
