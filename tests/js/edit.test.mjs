// The edits of Edit Mask and Mask Edges give what core/ gives.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Editing } from "../../web/js/edit.mjs";
import { casesOf, share } from "./arrays.mjs";

// The part of the pixels that may differ by more than 2 of 255 levels. A smaller preview differs along its outlines.
const mostDiffering = (scale) => (scale === 1 ? 0.01 : 0.03);

const levelsOf = (values) => Uint8Array.from(values, (value) => value * 255 + 0.5);
const editing = ({ input: values, width, height, scale }) => new Editing({ values, width, height, scale });

for (const kind of ["edits", "edges"]) {
  for (const each of casesOf(kind)) {
    test(`${each.name}, ${each.width} x ${each.height}, ${JSON.stringify(each.settings)}`, () => {
      const { levels, isEmpty } = editing(each).run(kind, each.settings, false);
      const differing = share(levels, levelsOf(each.mask), 2);
      assert.ok(differing < mostDiffering(each.scale), `${100 * differing} % of the pixels differ`);
      if (each.scale === 1) assert.equal(isEmpty, !each.mask.some((value) => value > 0));
    });
  }
}

test("one mask after another setting is as from the beginning", () => {
  const cases = casesOf("edits").filter(({ width, scale }) => width === 160 && scale === 1);
  const one = editing(cases[0]);
  for (const { settings } of [...cases, ...[...cases].reverse()]) {
    const { levels } = one.run("edits", settings, false);
    const fresh = editing(cases[0]).run("edits", settings, false);
    assert.equal(share(levels, fresh.levels), 0);
    assert.deepEqual(one.mask.values, cases[0].input);
  }
});

test("a changed setting repeats only the steps from its own on", () => {
  const one = editing(casesOf("edits")[0]);
  one.run("edits", { grow: 3, smooth: 2, blur: 1 }, false);
  const [grown, smoothed, blurred] = one.done;
  one.run("edits", { grow: 3, smooth: 2, blur: 4 }, false);
  assert.equal(one.done[0], grown);
  assert.equal(one.done[1], smoothed);
  assert.notEqual(one.done[2], blurred);
  one.run("edits", { grow: 3, blur: 4 }, false);
  assert.equal(one.done[0], grown);
  assert.equal(one.done.length, 2);
});

test("the setting that removed everything is named", () => {
  const values = new Float32Array(81);
  values.fill(1, 30, 34);
  const run = (settings) => new Editing({ values, width: 9, height: 9, scale: 1 }).run("edits", settings, false).erased;
  assert.equal(run({}), "");
  assert.equal(run({ grow: -3, blur: 2 }), "grow");
  assert.equal(run({ remove_specks: 5, grow: 2 }), "remove_specks");
  assert.equal(run({ smooth: 8 }), "smooth");
  values.fill(1);
  assert.equal(run({ invert: true }), "invert");
});

test("an outline on request", () => {
  const values = new Float32Array(81);
  values[40] = 1;
  const one = new Editing({ values, width: 9, height: 9, scale: 1 });
  assert.equal(one.run("edits", {}, false).lines, null);
  assert.equal(one.run("edits", {}, true).lines.length, 16);
});
