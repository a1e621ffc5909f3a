// The arrays that core/ computed for these tests (tests/test_web.py writes them, and names their folder).

import { readFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.env.MASKWRIGHT_ARRAYS;
if (!folder) throw new Error("run these tests through `python3 tools/dev.py test tests/test_web.py`");

/** Each case: its facts, and its arrays as typed arrays. */
export const cases = JSON.parse(readFileSync(join(folder, "cases.json"), "utf-8")).map((found) => {
  const arrays = {};
  for (const [name, kind] of Object.entries(found.arrays)) {
    const bytes = readFileSync(join(folder, `${found.name}-${name}.bin`));
    const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    arrays[name] = kind === "float32" ? new Float32Array(copy) : new Uint8Array(copy);
  }
  return { ...found, ...arrays };
});

export function casesOf(kind) {
  return cases.filter((found) => found.kind === kind);
}

/** The part of the pixels that differ by more than `tolerance`. */
export function share(one, other, tolerance = 0) {
  if (one.length !== other.length) throw new Error(`${one.length} pixels, not ${other.length}`);
  let differing = 0;
  for (let i = 0; i < one.length; i++) if (!(Math.abs(one[i] - other[i]) <= tolerance)) differing += 1;
  return differing / one.length;
}
