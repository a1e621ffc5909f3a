// The widget `pick`: the browser reads it as the node does, and a click changes it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { pickedOf, toggled } from "../../web/js/pick.mjs";

const CASES = JSON.parse(readFileSync(new URL("../fixtures/picks.json", import.meta.url), "utf8"));

for (const [text, expected] of CASES) {
  test(`of five instances, "${text}"`, () => assert.deepEqual(pickedOf(text, 5), expected));
}

const CLICKS = [
  ["", 2, "2"],
  ["2", 2, ""],
  ["2", 0, "0, 2"],
  ["0, 2", 1, "0-2"],
  ["0-3", 1, "0, 2-3"],
  ["-1", 4, ""],
  ["-1", 0, "0, 4"],
  ["x", 3, "3"],
  ["9", 3, "3"],
];

for (const [before, index, expected] of CLICKS) {
  test(`a click on ${index} with "${before}"`, () => assert.equal(toggled(before, index, 5), expected));
}
