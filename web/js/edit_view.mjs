// The live mask of Edit Mask and Mask Edges: the mask of the last run, edited with the current widget values.

import { pixelsOf } from "./elements.mjs";
import { MaskView } from "./mask_view.mjs";
import { RemoteEditing } from "./remote_editing.mjs";
import { probabilitiesOf } from "./selection.mjs";
import { filled } from "./texts.mjs";

/** Widgets that the view follows, by the kind of its entries. */
const LIVE = {
  edits: [
    "invert", "threshold", "fill_holes", "remove_specks", "grow", "smooth", "feather_inside", "feather_outside", "blur",
  ],
  edges: ["kernel_size", "shape", "edge"],
};
const SWITCHES = ["invert", "fill_holes"];
const CHOICES = ["shape", "edge"];
const REMEDIES = { invert: "turnOff", grow: "moveToZero" }; // of a setting that removes everything

export class EditView extends MaskView {
  static widgets = [...LIVE.edits, ...LIVE.edges];

  files() {
    return ["image", "mask"];
  }

  prepare(entry) {
    const { mask } = this.loaded;
    if (!mask) throw new Error("no mask");
    const { data, width, height } = pixelsOf(mask);
    const map = probabilitiesOf(data, width, height, entry.bits, entry.high ?? 1);
    this.editing = new RemoteEditing({ ...map, scale: entry.scale ?? 1 }, () => this.schedule());
    this.hasDrawn = false;
  }

  forget() {
    super.forget();
    this.editing?.close();
    this.editing = null;
  }

  get isDrawn() {
    return super.isDrawn && !this.editing?.isBusy;
  }

  settings(kind) {
    if (!this.hasInput) return {}; // an edit such as invert would select the placeholder, a black mask
    const values = this.valuesOf(LIVE[kind] ?? []);
    for (const [name, value] of Object.entries(values)) {
      if (SWITCHES.includes(name)) values[name] = value === true;
      else if (!CHOICES.includes(name)) values[name] = Number(oneOf(value, this.page)) || 0;
    }
    return values;
  }

  /** Whether the node received a mask, rather than a batch of 0. */
  get hasInput() {
    return this.entries[this.page].has_mask !== false;
  }

  selected() {
    return this.editing.result;
  }

  /** Draw when the mask for the current settings is ready. Until then the canvas stays as it is. */
  draw(withCheckerboard = true) {
    const { kind } = this.entries[this.page];
    this.editing.want(kind, this.settings(kind), this.mode === "outline");
    this.element.setAttribute("aria-busy", String(this.editing.isBusy));
    if (this.editing.isBusy && this.hasDrawn) return;
    this.hasDrawn = true;
    super.draw(withCheckerboard);
  }

  hint() {
    const { texts, label } = this.frame;
    const { isEmpty, erased } = this.editing?.result ?? {};
    if (isEmpty && !this.hasInput) return texts.noMask;
    if (isEmpty && this.entries[this.page].kind === "edges") return texts.noEdge;
    if (erased) return `${filled(texts.erased, { name: label(erased) })} ${texts[REMEDIES[erased] ?? "lower"]}`;
    return isEmpty ? texts.emptyMask : "";
  }
}

/** The value for one mask, of a list with a value per mask; the last repeats. */
function oneOf(value, index) {
  return Array.isArray(value) ? value[Math.min(index, value.length - 1)] : value;
}
