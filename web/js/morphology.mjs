// Dilation and erosion by an element, and edges, as in core/morphology.py. Pure functions on row-major arrays.

import { roundHalfEven } from "./selection.mjs";

/** The rows of a disc, each as its offset and its reach to the left and right, limited to the image. */
export function discRuns(radius, width, height) {
  const runs = [];
  const reach = Math.min(Math.floor(radius), height - 1);
  const squares = Math.floor(radius * radius);
  for (let y = -reach; y <= reach; y++) {
    const half = Math.min(Math.floor(Math.sqrt(squares - y * y)), width - 1);
    runs.push([y, half, half]);
  }
  return runs;
}

/** The rows of an element of core/morphology.py: one of even size reaches further left and up. */
function elementRuns(size, shape, width, height) {
  const before = Math.floor(size / 2);
  const limited = (length) => [Math.min(before, length - 1), Math.min(size - 1 - before, length - 1)];
  const [up, down] = limited(height);
  const [left, right] = limited(width);
  const runs = [];
  for (let y = -up; y <= down; y++) {
    let half = before;
    if (shape === "ellipse") half = roundHalfEven(Math.sqrt(before * before - y * y));
    else if (shape === "cross" && y !== 0) half = 0;
    runs.push([y, Math.min(half, left), Math.min(half, right)]);
  }
  return runs;
}

/**
 * The maximum over an element given by its rows. Windows along each row of the mask widen from the shortest run of the
 * element to its longest. `lowest` is the lowest possible value.
 */
export function dilateByRuns(values, width, height, runs, lowest = 0) {
  const sorted = [...runs].sort((one, other) => one[1] + one[2] - other[1] - other[2]);
  const [, mostLeft, mostRight] = sorted.at(-1);
  const windows = new Float32Array(mostLeft + width + mostRight);
  const result = new Float32Array(values.length).fill(lowest);
  for (let y = 0; y < height; y++) {
    const row = y * width;
    let [first, last] = [0, width - 1];
    while (first < width && values[row + first] === lowest) first += 1;
    if (first === width) continue;
    while (values[row + last] === lowest) last -= 1;
    windows.fill(lowest);
    windows.set(values.subarray(row, row + width), mostLeft);
    let length = 1;
    for (const [offset, left, right] of sorted) {
      while (length < left + right + 1) {
        const step = Math.min(length, left + right + 1 - length);
        widen(windows, step, Math.max(0, mostLeft + first - left - right), Math.min(mostLeft + last + 1, windows.length - step));
        length += step;
      }
      if (y - offset < 0 || y - offset >= height) continue;
      const [from, to] = [Math.max(0, first - right), Math.min(width - 1, last + left)];
      raise(result, (y - offset) * width + from, windows, mostLeft - left + from, to - from + 1);
    }
  }
  return result;
}

function widen(windows, step, from, end) {
  for (let i = from; i < end; i++) if (windows[i + step] > windows[i]) windows[i] = windows[i + step];
}

function raise(result, at, windows, from, count) {
  for (let i = 0; i < count; i++) if (windows[from + i] > result[at + i]) result[at + i] = windows[from + i];
}

export function erodeByRuns(values, width, height, runs) {
  const negative = values.map((value) => -value);
  return dilateByRuns(negative, width, height, runs, -1).map((value) => -value);
}

/** A line along the edges of the selection: `gradient` in core/morphology.py. */
export function gradient(values, width, height, size, shape, edge) {
  const runs = elementRuns(size, shape, width, height);
  const upper = edge === "inner" ? values : dilateByRuns(values, width, height, runs);
  const lower = edge === "outer" ? values : erodeByRuns(values, width, height, runs);
  const result = new Float32Array(values.length);
  for (let i = 0; i < result.length; i++) result[i] = upper[i] - lower[i];
  return result;
}
