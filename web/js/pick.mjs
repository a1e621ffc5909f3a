// Lists of instance numbers, such as "0, 2-4", as core/instances/picking.py reads them.

const SEPARATORS = /[,;\uff0c\u3001]/;
const RANGE = /^\s*(-?\d+)\s*(?:-\s*(-?\d+)\s*)?$/;
const LONGEST = 40; // characters of a number or a range

/** Indices of the picked instances out of `count`, sorted; null if the text is not a list of numbers and ranges. */
export function pickedOf(text, count) {
  const all = [...Array(count).keys()];
  if (!text.trim()) return all;
  const picked = new Set();
  for (const token of text.split(SEPARATORS).filter((each) => each.trim())) {
    const match = RANGE.exec(token);
    if (!match || [...token].length > LONGEST) return null;
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (first > last && first < 0 === last < 0) return null;
    const [start, end] = [first, last].map((number) => (number < 0 ? number + count : number));
    for (let i = Math.max(0, start); i <= Math.min(count - 1, end); i++) picked.add(i);
  }
  return all.filter((i) => picked.has(i));
}

/** The text after a click on an instance: adds or removes it. Without a list, every click starts one. */
export function toggled(text, index, count) {
  const picked = text.trim() ? (pickedOf(text, count) ?? []) : [];
  const others = picked.filter((i) => i !== index);
  return listOf(others.length < picked.length ? others : [...picked, index].sort((one, other) => one - other));
}

/** Sorted numbers as a list; two or more in a row as a range. */
function listOf(numbers) {
  const runs = [];
  for (const number of numbers) {
    const run = runs.at(-1);
    if (run && run[1] === number - 1) run[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(", ");
}
