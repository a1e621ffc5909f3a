// Blurring and smoothing, as in core/filters.py and core/masks.py. Pure functions on row-major arrays.

import { gaussianBlur, mirrored, threshold } from "./selection.mjs";
import { hardened, isHard } from "./values.mjs";

const BINS = 4096; // of a histogram of mask values
const MAX_CONTRAST = 1 << 20;
const LARGE_SIGMA = 6; // from which a blur works on fewer pixels

/**
 * A Gaussian blur. With a large sigma the result has no detail, so a mean over cells of pixels is blurred instead, and
 * interpolated. The mean blurs as well: its variance is subtracted.
 */
export function blurMask(values, width, height, sigma) {
  if (sigma < LARGE_SIGMA) {
    const { where } = threshold(values, width, height, 0);
    return gaussianBlur(values, width, height, sigma, where).values;
  }
  const cell = Math.floor(sigma / 3);
  const margin = Math.ceil((4 * sigma) / cell) + 3; // cells beyond the border, where the mask is mirrored
  const columns = Math.ceil(width / cell) + 2 * margin;
  const rows = Math.ceil(height / cell) + 2 * margin;
  const means = cellMeans(values, width, height, cell, margin, columns, rows);
  const rest = Math.sqrt(sigma * sigma - (cell * cell - 1) / 12) / cell;
  const { values: blurred } = gaussianBlur(means, columns, rows, rest);
  return interpolated(blurred, columns, width, height, cell, margin);
}

function cellMeans(values, width, height, cell, margin, columns, rows) {
  const sums = new Float32Array(columns * rows);
  const place = Int32Array.from({ length: columns * cell }, (_, i) => mirrored(i - margin * cell, width));
  for (let y = 0; y < rows * cell; y++) {
    const source = mirrored(y - margin * cell, height) * width;
    const target = Math.floor(y / cell) * columns;
    for (let column = 0, i = 0; column < columns; column++) {
      let sum = 0;
      for (const end = i + cell; i < end; i++) sum += values[source + place[i]];
      sums[target + column] += sum;
    }
  }
  for (let i = 0; i < sums.length; i++) sums[i] /= cell * cell;
  return sums;
}

/** Catmull and Rom's cubic through the cells. */
function interpolated(cells, columns, width, height, cell, margin) {
  const result = new Float32Array(width * height);
  const place = (i) => (i + 0.5) / cell - 0.5 + margin;
  const first = Int32Array.from({ length: width }, (_, x) => Math.floor(place(x)) - 1);
  const weights = Array.from({ length: width }, (_, x) => cubicWeights(place(x) - Math.floor(place(x))));
  const [w0, w1, w2, w3] = [0, 1, 2, 3].map((k) => Float64Array.from(weights, (each) => each[k]));
  const line = new Float64Array(columns);
  for (let y = 0; y < height; y++) {
    const above = Math.floor(place(y));
    const start = (above - 1) * columns;
    const [a, b, c, d] = cubicWeights(place(y) - above);
    for (let i = 0, j = start; i < columns; i++, j++) {
      line[i] = a * cells[j] + b * cells[j + columns] + c * cells[j + 2 * columns] + d * cells[j + 3 * columns];
    }
    for (let x = 0, i = y * width; x < width; x++, i++) {
      const j = first[x];
      const value = w0[x] * line[j] + w1[x] * line[j + 1] + w2[x] * line[j + 2] + w3[x] * line[j + 3];
      result[i] = value < 0 ? 0 : value > 1 ? 1 : value;
    }
  }
  return result;
}

function cubicWeights(t) {
  return [((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t, (t - 1) * t * t].map((w) => w / 2);
}

/** Blur, then raise the contrast around 0.5 until the mask is as soft as before. */
export function smoothOutline(values, width, height, sigma) {
  const softness = isHard(values) ? 0 : softnessOf(values);
  const blurred = blurMask(values, width, height, sigma);
  return softness ? withSoftness(blurred, softness) : hardened(blurred, 0.5);
}

/** 0 if every value is 0 or 1, 1 if every value is 0.5. */
function softnessOf(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += 4 * values[i] * (1 - values[i]);
  return sum / values.length;
}

function withSoftness(values, softness) {
  const counts = new Int32Array(BINS);
  for (let i = 0; i < values.length; i++) counts[Math.min(BINS - 1, Math.floor(values[i] * BINS))] += 1;
  const raised = (value, contrast) => Math.min(1, Math.max(0, (value - 0.5) * contrast + 0.5));
  let [low, high] = [1, MAX_CONTRAST];
  for (let round = 0; round < 40; round++) {
    const middle = Math.sqrt(low * high);
    let sum = 0;
    counts.forEach((count, bin) => {
      const value = raised((bin + 0.5) / BINS, middle);
      sum += 4 * value * (1 - value) * count;
    });
    if (sum / values.length > softness) low = middle;
    else high = middle;
  }
  return values.map((value) => raised(value, high));
}
