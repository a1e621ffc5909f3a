// The browser's arithmetic gives what core/ gives.

import assert from "node:assert/strict";
import { test } from "node:test";

import { GREYS, pixel, pixelTable, VIRIDIS } from "../../web/js/colors.mjs";
import * as selection from "../../web/js/selection.mjs";
import { casesOf, share } from "./arrays.mjs";

const CLOSE = 1e-5;

test("there are cases of every kind", () => {
  for (const kind of ["steps", "selection", "probabilities", "halves", "colors"]) assert.ok(casesOf(kind).length > 0, kind);
});

for (const found of casesOf("steps")) {
  const { width, height } = found;
  test(`threshold, ${found.name}`, () => {
    const { values, where } = selection.threshold(found.input, width, height, found.level);
    assert.equal(share(values, found.thresholded), 0);
    const inside = (i) =>
      where && i % width >= where.left && i % width <= where.right && i >= where.top * width && i < (where.bottom + 1) * width;
    values.forEach((value, i) => value > 0 && assert.ok(inside(i), `pixel ${i} is outside the reported area`));
  });
  test(`blur, ${found.name}`, () => {
    const whole = selection.gaussianBlur(found.input, width, height, found.sigma);
    assert.equal(share(whole.values, found.blurred, CLOSE), 0);
    const kept = selection.threshold(found.input, width, height, found.level);
    const part = selection.gaussianBlur(kept.values, width, height, found.sigma, kept.where);
    assert.equal(share(part.values, found.thresholdedAndBlurred, CLOSE), 0);
  });
  test(`dilation, ${found.name}`, () => {
    assert.equal(share(selection.dilate(found.input, width, height, found.grow), found.dilated), 0);
  });
}

for (const found of casesOf("selection")) {
  const { width, height } = found;
  test(`selection and its mask, ${found.name}`, () => {
    const got = selection.selected(found.input, width, height, found.settings, found.scale);
    assert.equal(share(got, found.selected, CLOSE), 0);
    const levels = selection.greyLevels(selection.steps(got));
    assert.ok(share(levels, found.levels) < 0.01, `${100 * share(levels, found.levels)} % of the pixels differ`);
  });
}

for (const found of casesOf("probabilities")) {
  const { width, height, newWidth, newHeight } = found;
  test(`mask of probabilities, ${found.name}`, () => {
    const mask = selection.maskOfProbabilities(found.input, width, height, newWidth, newHeight, found.normalization);
    assert.ok(share(mask, found.mask) < 0.01, `${100 * share(mask, found.mask)} % of the pixels differ`);
    assert.equal(share(mask, found.mask, 1), 0);
  });
}

for (const found of casesOf("halves")) {
  test(`16 bits from a gray file, ${found.name}`, () => {
    const rgba = new Uint8Array(4 * found.file.length);
    found.file.forEach((level, i) => rgba.fill(level, 4 * i, 4 * i + 3));
    const { values, width, height } = selection.probabilitiesOf(rgba, found.width, 2 * found.height, 16);
    assert.deepEqual([width, height], [found.width, found.height]);
    assert.equal(share(values, found.input, 1 / 131070 + 1e-7), 0);
  });
}

test("8 bits from a gray file", () => {
  const { values, width, height } = selection.probabilitiesOf([0, 0, 0, 255, 255, 255, 255, 255], 2, 1, 8);
  assert.deepEqual([[...values], width, height], [[0, 1], 2, 1]);
  const small = selection.probabilitiesOf([0, 0, 0, 255, 255, 255, 255, 255], 2, 1, 8, 0.25);
  assert.deepEqual([...small.values], [0, 0.25]);
});

test("color maps", () => {
  const [found] = casesOf("colors");
  assert.equal(share(VIRIDIS, found.viridis), 0);
  assert.equal(share(GREYS, found.greys), 0);
  assert.equal(share(selection.steps(found.values), found.steps), 0);
  const bytes = new Uint8Array(Uint32Array.of(pixel(1, 2, 3, 4), pixelTable("viridis")[255], pixelTable("alpha")[9]).buffer);
  assert.deepEqual([...bytes], [1, 2, 3, 4, ...found.viridis.slice(-3), 255, 0, 0, 0, 9]);
});

test("halves are rounded as Python rounds them", () => {
  assert.deepEqual([0.5, 1.5, 2.5, 2.4, 2.6, 8].map(selection.roundHalfEven), [0, 2, 2, 2, 3, 8]);
});

test("the outline of a square is closed, and goes around its pixels", () => {
  const mask = new Float32Array(36);
  for (const y of [2, 3]) for (const x of [1, 2, 3]) mask[6 * y + x] = 1;
  const lines = selection.outline(mask, 6, 6, 0.5);
  const ends = new Map();
  for (let i = 0; i < lines.length; i += 2) {
    const key = `${lines[i]},${lines[i + 1]}`;
    ends.set(key, (ends.get(key) ?? 0) + 1);
  }
  assert.ok(lines.length > 0 && [...ends.values()].every((count) => count === 2));
  const xs = lines.filter((_, i) => i % 2 === 0);
  const ys = lines.filter((_, i) => i % 2 === 1);
  assert.deepEqual([Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)], [1, 4, 2, 4]);
});

test("the outline of a full image is its border, of an empty one nothing", () => {
  const lines = selection.outline(new Float32Array(12).fill(1), 4, 3, 0.5);
  assert.ok(lines.every((value, i) => value >= 0 && value <= (i % 2 ? 3 : 4)));
  assert.ok(lines.includes(0) && lines.includes(4));
  assert.deepEqual(selection.outline(new Float32Array(12), 4, 3, 0.5), []);
});

test("one pixel is an image", () => {
  const settings = { threshold: 0.2, blur: 3, dilation_factor: 4 };
  for (const [value, expected] of [[0.9, 255], [0.1, 0]]) {
    const got = selection.selected(Float32Array.of(value), 1, 1, settings, 1);
    assert.deepEqual([...selection.greyLevels(selection.steps(got))], [expected]);
  }
});
