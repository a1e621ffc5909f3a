// From probabilities to a mask, with the arithmetic of text/segment, morphology and masks in core/, so that
// the view matches the next run. Pure functions on row-major arrays.

import { GREYS } from "./colors.mjs";

/** Python's round(): halves go to the even neighbour. */
export function roundHalfEven(value) {
  const low = Math.floor(value);
  const rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

/** Set values up to `level` to 0. `where` is the bounding box of the others, or null. */
export function threshold(values, width, height, level) {
  const floor = Math.fround(level);
  const result = new Float32Array(values.length);
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0; y < height; y++) {
    let first = -1;
    let last = -1;
    for (let x = 0, i = y * width; x < width; x++, i++) {
      if (values[i] > floor) {
        result[i] = values[i];
        if (first < 0) first = x;
        last = x;
      }
    }
    if (first < 0) continue;
    if (first < left) left = first;
    if (last > right) right = last;
    if (bottom < 0) top = y;
    bottom = y;
  }
  return { values: result, where: right < 0 ? null : { left, right, top, bottom } };
}

/** The index of a pixel that may be beyond the border: the image is mirrored there, border pixels included. */
export function mirrored(index, length) {
  const position = ((index % (2 * length)) + 2 * length) % (2 * length);
  return position < length ? position : 2 * length - 1 - position;
}

/**
 * A Gaussian blur, truncated at 4 sigma. The image is mirrored at its border, with the border pixel repeated.
 * `where` comes from threshold(): all values outside it are 0, and remain so beyond the blur's radius.
 */
export function gaussianBlur(values, width, height, sigma, where = { left: 0, right: width - 1, top: 0, bottom: height - 1 }) {
  const radius = Math.floor(4 * sigma + 0.5);
  if (radius === 0 || where === null) return { values, where };
  const weights = new Float64Array(radius + 1);
  let total = 0;
  for (let k = 0; k <= radius; k++) {
    weights[k] = Math.exp(-0.5 * (k / sigma) ** 2);
    total += k === 0 ? weights[k] : 2 * weights[k];
  }
  for (let k = 0; k <= radius; k++) weights[k] = Math.fround(weights[k] / total);

  const top = Math.max(0, where.top - radius);
  const bottom = Math.min(height - 1, where.bottom + radius);
  const left = Math.max(0, where.left - radius);
  const right = Math.min(width - 1, where.right + radius);
  const result = new Float32Array(width * height);

  // Blur down the columns, a whole row at a time, then along that row. Empty rows share one row of zeros.
  const source = new Float32Array(values.length + width);
  source.set(values);
  const nothing = values.length;
  const offsetOf = (row) => (row < where.top || row > where.bottom ? nothing : row * width) + where.left;
  const before = new Int32Array(radius + 1);
  const after = new Int32Array(radius + 1);
  const beside = Int32Array.from({ length: radius + 1 }, (_, k) => left + radius - k);
  const besides = Int32Array.from({ length: radius + 1 }, (_, k) => left + radius + k);
  const sums = new Float64Array(width);
  const padded = new Float32Array(width + 2 * radius);
  const mirror = Int32Array.from({ length: width + 2 * radius }, (_, i) => mirrored(i - radius, width));
  const across = new Float64Array(width);
  const columns = where.right - where.left + 1;
  for (let y = top; y <= bottom; y++) {
    for (let k = 0; k <= radius; k++) {
      before[k] = offsetOf(mirrored(y - k, height));
      after[k] = offsetOf(mirrored(y + k, height));
    }
    weighted(sums, columns, source, before, after, weights);
    for (let i = 0; i < padded.length; i++) {
      const x = mirror[i];
      padded[i] = x < where.left || x > where.right ? 0 : sums[x - where.left];
    }
    weighted(across, right - left + 1, padded, beside, besides, weights);
    for (let x = left, i = y * width + left; x <= right; x++, i++) {
      const value = across[x - left];
      result[i] = value > 1 ? 1 : value;
    }
  }
  return { values: result, where: { left, right, top, bottom } };
}

/**
 * Write the sum of weights[k] * (source from before[k] on + source from after[k] on) into the first `count` entries of
 * `out`; k = 0 counts once. Four pairs at a time take half the time.
 */
function weighted(out, count, source, before, after, weights) {
  const centre = before[0];
  const first = weights[0];
  for (let x = 0; x < count; x++) out[x] = first * source[centre + x];
  let k = 1;
  for (; k + 3 < weights.length; k += 4) {
    const [w0, w1, w2, w3] = [weights[k], weights[k + 1], weights[k + 2], weights[k + 3]];
    const [a0, a1, a2, a3] = [before[k], before[k + 1], before[k + 2], before[k + 3]];
    const [b0, b1, b2, b3] = [after[k], after[k + 1], after[k + 2], after[k + 3]];
    for (let x = 0; x < count; x++) {
      out[x] +=
        w0 * (source[a0 + x] + source[b0 + x]) +
        w1 * (source[a1 + x] + source[b1 + x]) +
        w2 * (source[a2 + x] + source[b2 + x]) +
        w3 * (source[a3 + x] + source[b3 + x]);
    }
  }
  for (; k < weights.length; k++) {
    const weight = weights[k];
    const [a, b] = [before[k], after[k]];
    for (let x = 0; x < count; x++) out[x] += weight * (source[a + x] + source[b + x]);
  }
}

/** Stretch to 0..1. Constant values become 1; all zeros stay 0. */
export function stretch(values) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const result = new Float32Array(values.length);
  if (high - low <= 1e-5 * high) return result.fill(high > 0 ? 1 : 0);
  const span = Math.fround(high - low);
  for (let i = 0; i < values.length; i++) result[i] = Math.fround(values[i] - low) / span;
  return result;
}

/** Dilate by a square that reaches `grow` pixels in every direction. Pixels outside the image are ignored. */
export function dilate(values, width, height, grow) {
  if (grow <= 0) return values;
  const reachX = Math.min(grow, width - 1);
  const reachY = Math.min(grow, height - 1);
  const across = new Float32Array(values.length);
  const line = new Float32Array(width + 2 * reachX);
  for (let y = 0; y < height; y++) {
    line.fill(-Infinity);
    line.set(values.subarray(y * width, (y + 1) * width), reachX);
    slide(line, 2 * reachX + 1, 1, line.length);
    across.set(line.subarray(0, width), y * width);
  }
  const padded = new Float32Array(width * (height + 2 * reachY)).fill(-Infinity);
  padded.set(across, width * reachY);
  slide(padded, 2 * reachY + 1, width, padded.length);
  return padded.slice(0, width * height);
}

/** Replace each entry by the maximum of itself and the `window - 1` after it, `stride` apart, by doubling windows. */
function slide(values, window, stride, length) {
  let have = 1;
  let end = length;
  while (have < window) {
    const step = Math.min(have, window - have);
    end -= step * stride;
    const far = step * stride;
    for (let i = 0; i < end; i++) {
      const other = values[i + far];
      if (other > values[i]) values[i] = other;
    }
    have += step;
  }
}

/**
 * Probabilities to a soft selection at their own resolution: threshold, blur, stretch, dilate.
 * blur and dilation_factor are in pixels of the model's native resolution, and `scale` is the resolution of the
 * probabilities relative to it.
 */
export function selected(probabilities, width, height, settings, scale) {
  const kept = threshold(probabilities, width, height, settings.threshold);
  const blurred = gaussianBlur(kept.values, width, height, settings.blur * scale, kept.where);
  const grow = Math.min(roundHalfEven(settings.dilation_factor * scale), Math.max(width, height));
  return dilate(stretch(blurred.values), width, height, grow);
}

/** The step (0..255) of a colour map for each value. */
export function steps(values) {
  const result = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const step = Math.floor(values[i] * 256);
    result[i] = step > 255 ? 255 : step < 0 ? 0 : step;
  }
  return result;
}

/** The brightness, 0..255, that the grey colour map gives each step. */
export function greyLevels(steps) {
  const levels = new Uint8Array(steps.length);
  for (let i = 0; i < steps.length; i++) levels[i] = GREYS[steps[i]];
  return levels;
}

/**
 * The mask of CLIPSegMasking in 8 bits. "stretch": (p - min) / max, truncated to 8 bits, then Pillow's bicubic filter
 * in 8 bits. "none": the same filter in float on the probabilities, truncated to 8 bits at the end.
 */
export function maskOfProbabilities(probabilities, width, height, newWidth, newHeight, normalization) {
  const stretched = normalization === "stretch";
  const source = new Float64Array(probabilities.length);
  if (stretched) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of probabilities) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    for (let i = 0; i < source.length; i++) {
      source[i] = high > 0 ? Math.floor(Math.fround(Math.fround(probabilities[i] - low) / high) * 255) : 0;
    }
  } else {
    for (let i = 0; i < source.length; i++) source[i] = probabilities[i] * 255;
  }
  const round = stretched ? Math.round : (value) => value;
  const across = bicubicRows(source, width, height, newWidth, round);
  const down = bicubicColumns(across, newWidth, height, newHeight, round);
  const result = new Uint8ClampedArray(down.length);
  for (let i = 0; i < down.length; i++) result[i] = stretched ? down[i] : Math.floor(down[i] + 1e-4);
  return result;
}

/** First source index and weights for each new pixel: Pillow's bicubic filter (a = -0.5), widened when shrinking. */
function bicubicWeights(before, after) {
  const scale = before / after;
  const widened = Math.max(scale, 1);
  const support = 2 * widened;
  const result = [];
  for (let i = 0; i < after; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(before, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let j = first; j < end; j++) weights.push(cubic((j - centre + 0.5) / widened));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    result.push({ first, weights: Float64Array.from(weights, (weight) => weight / total) });
  }
  return result;
}

function cubic(x) {
  const distance = Math.abs(x);
  if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
  if (distance < 2) return ((-0.5 * distance + 2.5) * distance - 4) * distance + 2;
  return 0;
}

function bicubicRows(values, width, height, newWidth, round) {
  if (newWidth === width) return values;
  const result = new Float64Array(newWidth * height);
  const lines = bicubicWeights(width, newWidth);
  for (let x = 0; x < newWidth; x++) {
    const { first, weights } = lines[x];
    for (let y = 0; y < height; y++) {
      let sum = 0;
      for (let k = 0, i = y * width + first; k < weights.length; k++, i++) sum += weights[k] * values[i];
      result[y * newWidth + x] = Math.min(255, Math.max(0, round(sum)));
    }
  }
  return result;
}

function bicubicColumns(values, width, height, newHeight, round) {
  if (newHeight === height) return values;
  const result = new Float64Array(width * newHeight);
  bicubicWeights(height, newHeight).forEach(({ first, weights }, y) => {
    const out = result.subarray(y * width, (y + 1) * width);
    for (let k = 0; k < weights.length; k++) {
      const row = (first + k) * width;
      for (let x = 0; x < width; x++) out[x] += weights[k] * values[row + x];
    }
    for (let x = 0; x < width; x++) out[x] = Math.min(255, Math.max(0, round(out[x])));
  });
  return result;
}

/**
 * Probabilities from the pixels of the node's gray PNG (RGBA, of which red is read). The file contains them divided by
 * `high`, the highest one; with 16 bits, an image of the high bytes is above one of the low bytes.
 */
export function probabilitiesOf(rgba, width, fileHeight, bits, high = 1) {
  if (bits !== 16) {
    const values = new Float32Array(width * fileHeight);
    for (let i = 0; i < values.length; i++) values[i] = (rgba[4 * i] * high) / 255;
    return { values, width, height: fileHeight };
  }
  const height = fileHeight >> 1;
  const values = new Float32Array(width * height);
  for (let i = 0, low = 4 * values.length; i < values.length; i++, low += 4) {
    values[i] = ((rgba[4 * i] * 256 + rgba[low]) * high) / 65535;
  }
  return { values, width, height };
}

/**
 * The outline of a mask at `level`, by marching squares: x1, y1, x2, y2 per segment, in pixels of the mask, with the
 * center of the first pixel at (0.5, 0.5). A mask that reaches the image's border has its outline there.
 */
export function outline(mask, width, height, level) {
  const segments = [];
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : mask[y * width + x]);
  const point = (edge, x, y, [a, b, c, d]) => {
    const part = (from, to) => (level - from) / (to - from);
    if (edge === 0) segments.push(limited(x + 0.5 + part(a, b), width), limited(y + 0.5, height));
    else if (edge === 1) segments.push(limited(x + 1.5, width), limited(y + 0.5 + part(b, c), height));
    else if (edge === 2) segments.push(limited(x + 0.5 + part(d, c), width), limited(y + 1.5, height));
    else segments.push(limited(x + 0.5, width), limited(y + 0.5 + part(a, d), height));
  };
  for (let y = -1; y < height; y++) {
    const above = y * width;
    const below = above + width;
    for (let x = -1; x < width; x++) {
      let inside;
      if (x >= 0 && y >= 0 && x < width - 1 && y < height - 1) {
        inside = mask[above + x] > level ? 1 : 0;
        if (mask[above + x + 1] > level) inside |= 2;
        if (mask[below + x + 1] > level) inside |= 4;
        if (mask[below + x] > level) inside |= 8;
        if (inside === 0 || inside === 15) continue;
      }
      const corners = [at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1)];
      inside = corners.reduce((bits, value, corner) => bits | (value > level ? 1 << corner : 0), 0);
      for (const [from, to] of CROSSINGS[inside]) {
        point(from, x, y, corners);
        point(to, x, y, corners);
      }
    }
  }
  return segments;
}

function limited(value, most) {
  return value < 0 ? 0 : value > most ? most : value;
}

// For each pattern of corners above the level (1 top left, 2 top right, 4 bottom right, 8 bottom left), the pairs of
// edges to join: 0 top, 1 right, 2 bottom, 3 left.
const CROSSINGS = [
  [], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 1], [2, 3]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], [],
];
