// Mask values: row-major Float32Arrays, 0..1.

export function isEmpty(values) {
  for (let i = 0; i < values.length; i++) if (values[i] > 0) return false;
  return true;
}

export function isHard(values) {
  for (let i = 0; i < values.length; i++) if (values[i] !== 0 && values[i] !== 1) return false;
  return true;
}

export function inverted(values) {
  const result = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) result[i] = 1 - values[i];
  return result;
}

export function hardened(values, level) {
  const least = Math.fround(level);
  const result = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) result[i] = values[i] >= least ? 1 : 0;
  return result;
}
