// Connected parts of masks, as in core/parts.py. Pure functions on row-major arrays.

const SOFT_LEVELS = 16; // at which a soft mask is searched for holes

/** The levels above 0 at which to look for holes. */
function levelsWithHoles(values) {
  const distinct = new Set();
  let high = 0;
  for (let i = 0; i < values.length; i++) {
    if (distinct.size <= SOFT_LEVELS) distinct.add(values[i]);
    if (values[i] > high) high = values[i];
  }
  if (distinct.size > SOFT_LEVELS) {
    return Float32Array.from({ length: SOFT_LEVELS }, (_, i) => (high * (i + 1)) / SOFT_LEVELS);
  }
  distinct.delete(0);
  return Float32Array.from(distinct).sort();
}

/**
 * Each pixel rises to the highest level at which selected pixels enclose it. That is the lowest level that a path from
 * it to the border must cross, found from the border inward, low levels first.
 */
export function fillHoles(values, width, height) {
  const levels = levelsWithHoles(values);
  const rank = new Uint8Array(values.length); // the number of levels that a pixel reaches
  for (let i = 0; i < values.length; i++) {
    let reached = 0;
    while (reached < levels.length && values[i] >= levels[reached]) reached += 1;
    rank[i] = reached;
  }
  const waiting = new Int32Array(levels.length + 1).fill(-1); // per level the last queued pixel
  const before = new Int32Array(values.length); // the pixel queued before it at the same level
  const isVisited = new Uint8Array(values.length);
  const visit = (i, atLeast) => {
    if (isVisited[i]) return;
    isVisited[i] = 1;
    if (rank[i] < atLeast) rank[i] = atLeast;
    before[i] = waiting[rank[i]];
    waiting[rank[i]] = i;
  };
  for (let x = 0; x < width; x++) {
    visit(x, 0);
    visit((height - 1) * width + x, 0);
  }
  for (let y = 0; y < height; y++) {
    visit(y * width, 0);
    visit((y + 1) * width - 1, 0);
  }
  for (let level = 0; level < waiting.length; level++) {
    while (waiting[level] >= 0) {
      const i = waiting[level];
      waiting[level] = before[i];
      const x = i % width;
      if (x > 0) visit(i - 1, level);
      if (x < width - 1) visit(i + 1, level);
      if (i >= width) visit(i - width, level);
      if (i < values.length - width) visit(i + width, level);
    }
  }
  const result = values.slice();
  for (let i = 0; i < result.length; i++) {
    if (rank[i] && levels[rank[i] - 1] > result[i]) result[i] = levels[rank[i] - 1];
  }
  return result;
}

/** Remove parts, connected at sides and corners, of fewer than `pixels` pixels of at least 1/255. */
export function removeSpecks(values, width, height, pixels) {
  const open = new Uint8Array(values.length); // pixels of parts that were not visited yet
  for (let i = 0; i < values.length; i++) open[i] = Math.fround(values[i] * 255) >= 1 ? 1 : 0;
  const result = values.slice();
  const part = new Int32Array(values.length);
  for (let first = 0; first < values.length; first++) {
    if (!open[first]) continue;
    open[first] = 0;
    part[0] = first;
    let count = 1;
    for (let next = 0; next < count; next++) {
      const i = part[next];
      const y = (i / width) | 0;
      const x = i - y * width;
      const [left, right] = [x > 0 ? -1 : 0, x < width - 1 ? 1 : 0];
      const bottom = y < height - 1 ? width : 0;
      for (let row = y > 0 ? -width : 0; row <= bottom; row += width) {
        for (let column = left; column <= right; column++) {
          const j = i + row + column;
          if (!open[j]) continue;
          open[j] = 0;
          part[count++] = j;
        }
      }
    }
    if (count < pixels) for (let k = 0; k < count; k++) result[part[k]] = 0;
  }
  return result;
}
