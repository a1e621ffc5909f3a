// The live mask of CLIPSeg and CLIPSegMasking: the last run's probabilities with the current widget values.

import { pixelsOf } from "./elements.mjs";
import { MaskView } from "./mask_view.mjs";
import * as selection from "./selection.mjs";

/** Widgets that the view follows, and those whose changes need another run. */
const LIVE = ["threshold", "blur", "dilation_factor", "normalization"];
const NEED_RUN = ["text", "negative_text", "resolution"];

export class SelectionView extends MaskView {
  static widgets = [...LIVE, ...NEED_RUN];

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

  settings() {
    const values = Object.entries(this.valuesOf(LIVE));
    return Object.fromEntries(values.map(([name, value]) => [name, name === "normalization" ? value : Number(value)]));
  }

  /**
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
