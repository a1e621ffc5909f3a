// The steps of Edit Mask and Mask Edges, with the arithmetic of core/, so that the views match the next run.

import { blurMask, smoothOutline } from "./blur.mjs";
import { fadeEdges, growMask } from "./distance.mjs";
import { gradient } from "./morphology.mjs";
import { fillHoles, removeSpecks } from "./parts.mjs";
import { outline } from "./selection.mjs";
import { hardened, inverted, isEmpty } from "./values.mjs";

/** A mask and the results of the last steps, so that a changed setting repeats only its own step and later ones. */
export class Editing {
  /** @param {{values: Float32Array, width: number, height: number, scale: number}} mask `scale`: its size relative to
   *   the node's mask, for which settings are meant. */
  constructor(mask) {
    this.mask = mask;
    this.done = []; // {key, values, isEmpty} per step
    this.isEmpty = isEmpty(mask.values);
  }

  /**
   * @param {string} kind "edits" (Edit Mask) or "edges" (Mask Edges)
   * @param {object} settings the node's
   * @param {boolean} withOutline whether to add the `lines` of the outline
   * @returns {{levels: Uint8Array, lines: number[]|null, isEmpty: boolean, erased: string}} `levels`: 0..255; `erased`:
   *   the setting that removed the last selected pixel, or "".
   */
  run(kind, settings, withOutline) {
    const { width, height, scale } = this.mask;
    const steps = kind === "edges" ? edgeSteps(settings, scale) : editSteps(settings, scale);
    const reusable = steps.findIndex((step, i) => this.done[i]?.key !== step.key);
    this.done.length = reusable < 0 ? steps.length : reusable;
    let last = this.done.at(-1) ?? { values: this.mask.values, isEmpty: this.isEmpty };
    for (const { key, name, change } of steps.slice(this.done.length)) {
      const values = change(last.values, width, height);
      const empty = isEmpty(values);
      last = { key, values, isEmpty: empty, erased: last.erased || (empty && !last.isEmpty ? name : "") };
      this.done.push(last);
    }
    const levels = levelsOf(last.values);
    const lines = withOutline ? Float32Array.from(outline(levels, width, height, 127.5)) : null;
    return { levels, lines, isEmpty: last.isEmpty, erased: last.erased ?? "" };
  }
}

/** The steps of `MaskEdits` that change something: the setting's name, a key of all that matters, the function. */
export function editSteps(settings, scale) {
  const steps = [];
  const add = (name, amount, change) => {
    if (amount) steps.push({ name, key: `${name} ${amount}`, change });
  };
  const { grow = 0, smooth = 0, feather_inside: inside = 0, feather_outside: outside = 0, blur = 0 } = settings;
  const specks = (settings.remove_specks ?? 0) * scale * scale;
  add("invert", settings.invert, inverted);
  add("threshold", settings.threshold, (values) => hardened(values, settings.threshold));
  add("fill_holes", settings.fill_holes, fillHoles);
  add("remove_specks", specks, (values, width, height) => removeSpecks(values, width, height, specks));
  add("grow", grow * scale, (values, width, height) => growMask(values, width, height, grow * scale));
  add("smooth", smooth * scale, (values, width, height) => smoothOutline(values, width, height, smooth * scale));
  const feather = inside ? "feather_inside" : "feather_outside";
  add(feather, (inside || outside) && `${inside} ${outside}`, (values, width, height) =>
    fadeEdges(values, width, height, inside * scale, outside * scale),
  );
  add("blur", blur * scale, (values, width, height) => blurMask(values, width, height, blur * scale));
  return steps;
}

/** The one step of Mask Edges. A scaled line keeps at least one pixel on each side of the edge. */
export function edgeSteps({ kernel_size: size = 3, shape = "rectangle", edge = "both" }, scale) {
  const scaled = scale === 1 || size < 2 ? size : Math.max(3, 2 * Math.round((size * scale - 1) / 2) + 1);
  const change = (values, width, height) => gradient(values, width, height, scaled, shape, edge);
  return [{ name: "kernel_size", key: `${scaled} ${shape} ${edge}`, change }];
}

function levelsOf(values) {
  const levels = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) levels[i] = values[i] * 255 + 0.5;
  return levels;
}
