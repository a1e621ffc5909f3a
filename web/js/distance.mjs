// Growing, shrinking and fading by Euclidean distance, as in core/distance.py. Pure functions on row-major arrays.

import { dilateByRuns, discRuns, erodeByRuns } from "./morphology.mjs";
import { isHard } from "./values.mjs";

/** The maximum within `distance` around each pixel; a negative distance takes the minimum. */
export function growMask(values, width, height, distance) {
  const amount = Math.abs(distance);
  if (amount < 1) return values;
  if (!isHard(values)) {
    const disc = discRuns(amount, width, height);
    return distance > 0 ? dilateByRuns(values, width, height, disc) : erodeByRuns(values, width, height, disc);
  }
  const sought = distance > 0 ? 1 : 0;
  const near = isWithin(pixelsWhere(values, sought, sought), width, height, amount);
  const result = new Float32Array(values.length);
  for (let i = 0; i < result.length; i++) result[i] = near[i] ? sought : 1 - sought;
  return result;
}

/** 1 for each value from `low` to `high`, else 0. */
function pixelsWhere(values, low, high) {
  const result = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) if (values[i] >= low && values[i] <= high) result[i] = 1;
  return result;
}

/** Whether a selected pixel is at most `distance` away: `is_within` in core/distance.py says how. */
function isWithin(selected, width, height, distance) {
  const limit = Math.min(Math.floor(distance), height);
  const squares = Math.floor(distance * distance);
  const reach = new Int32Array(limit + 2).fill(-1 - width);
  for (let k = 0; k <= limit; k++) reach[k] = Math.min(Math.floor(Math.sqrt(squares - k * k)), width);
  const away = rowsAway(selected, width, height, limit);
  const near = new Uint8Array(selected.length);
  for (let y = 0; y < height; y++) {
    const row = y * width;
    let farthest = -1;
    for (let x = 0; x < width; x++) {
      const end = x + reach[away[row + x]];
      if (end > farthest) farthest = end;
      if (farthest >= x) near[row + x] = 1;
    }
    farthest = width;
    for (let x = width - 1; x >= 0; x--) {
      const end = x - reach[away[row + x]];
      if (end < farthest) farthest = end;
      if (farthest <= x) near[row + x] = 1;
    }
  }
  return near;
}

/** How many rows away the nearest selected pixel of the same column is; limit + 1 if more than `limit`. */
function rowsAway(selected, width, height, limit) {
  const result = new Int16Array(selected.length);
  for (let i = 0; i < width; i++) result[i] = selected[i] ? 0 : limit + 1;
  for (let i = width; i < result.length; i++) {
    const above = result[i - width];
    result[i] = selected[i] ? 0 : above > limit ? above : above + 1;
  }
  for (let i = result.length - width - 1; i >= 0; i--) {
    const below = result[i + width] + 1;
    if (below < result[i]) result[i] = below;
  }
  return result;
}

/**
 * The distance from each pixel to the nearest selected one; Infinity where it is more than about `limit`. Along each row
 * it is the lower envelope of a parabola per column (Felzenszwalb and Huttenlocher, Distance Transforms of Sampled
 * Functions, 2012).
 */
export function distanceTo(selected, width, height, limit) {
  const most = Math.min(Math.ceil(limit), height);
  const away = rowsAway(selected, width, height, most);
  const result = new Float32Array(selected.length).fill(Infinity);
  const column = new Int32Array(width); // of each parabola of the envelope
  const lift = new Float64Array(width);
  const from = new Float64Array(width + 1); // where it is the lowest
  for (let y = 0; y < height; y++) {
    const row = y * width;
    let count = 0;
    for (let x = 0; x < width; x++) {
      const rows = away[row + x];
      if (rows > most) continue;
      const height2 = rows * rows + x * x;
      let crossing = -Infinity;
      while (count > 0) {
        crossing = (height2 - lift[count - 1]) / (2 * (x - column[count - 1]));
        if (crossing > from[count - 1]) break;
        count -= 1;
        crossing = -Infinity;
      }
      column[count] = x;
      lift[count] = height2;
      from[count] = crossing;
      count += 1;
    }
    if (!count) continue;
    from[count] = Infinity;
    for (let x = 0, k = 0; x < width; x++) {
      while (from[k + 1] < x) k += 1;
      const across = x - column[k];
      const rows = away[row + column[k]];
      result[row + x] = Math.sqrt(across * across + rows * rows);
    }
  }
  return result;
}

/** Fade linearly from full selection `inside` pixels within the outline to none `outside` pixels beyond it. */
export function fadeEdges(values, width, height, inside, outside) {
  const selected = pixelsWhere(values, 0.5, 1);
  const result = values.slice();
  const span = inside + outside;
  if (!span) return result;
  const ramp = (depth) => Math.min(1, Math.max(0, (depth + outside) / span));
  // The outline is half a pixel from the centers of the pixels on both of its sides.
  if (outside) {
    const beyond = distanceTo(selected, width, height, outside + 1);
    for (let i = 0; i < result.length; i++) {
      if (!selected[i]) result[i] = Math.max(result[i], ramp(0.5 - beyond[i]));
    }
  }
  if (inside) {
    const unselected = new Uint8Array(selected.length);
    for (let i = 0; i < unselected.length; i++) unselected[i] = 1 - selected[i];
    const depth = distanceTo(unselected, width, height, inside + 1);
    for (let i = 0; i < result.length; i++) {
      if (selected[i]) result[i] = Math.min(result[i], ramp(depth[i] - 0.5));
    }
  }
  return result;
}
