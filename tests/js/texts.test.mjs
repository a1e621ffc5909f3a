import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { folderOf } from "../../web/js/nodes.mjs";
import { ENGLISH, filled, shortened, textsIn } from "../../web/js/texts.mjs";

const LANGUAGES = ["en", "zh", "ja", "de"];
const names = (text) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

for (const language of LANGUAGES) {
  test(`every text is there in ${language}, with the same names to fill in`, () => {
    const url = new URL(`../../locales/${language}/main.json`, import.meta.url);
    const found = JSON.parse(readFileSync(url, "utf-8")).maskwright;
    assert.deepEqual(Object.keys(found).sort(), Object.keys(ENGLISH).sort());
    for (const [key, text] of Object.entries(ENGLISH)) assert.deepEqual(names(found[key]), names(text), key);
    if (language === "en") assert.deepEqual(found, ENGLISH);
  });
}

test("what a language lacks is said in English", () => {
  const texts = textsIn("de", { de: { maskwright: { outline: "Umriss" } } });
  assert.deepEqual([texts.outline, texts.cutout], ["Umriss", ENGLISH.cutout]);
  assert.deepEqual(textsIn("xx", undefined), ENGLISH);
});

test("names are filled in, unknown ones stay", () => {
  assert.equal(filled("{page} of {pages}, {else}", { page: 3, pages: 64 }), "3 of 64, {else}");
});

test("the folder is read off the address, whatever it is called", () => {
  assert.equal(folderOf("http://localhost:8188/extensions/my%20masks-main/js/maskwright.js"), "my masks-main");
  assert.equal(folderOf("https://host/comfy/extensions/a/js/maskwright.js"), "a");
});

test("an error message is shortened to its first line, each URL once", () => {
  const url = "https://host/model.onnx";
  assert.equal(shortened(`${url} cannot be reached.\nTraceback`), `${url} cannot be reached.`);
  assert.equal(shortened(`No ${url}; download ${url}, or ask.`), `No ${url}; download …, or ask.`);
  assert.equal(shortened(undefined), "");
  const long = shortened("word ".repeat(1_000_000));
  assert.ok(long.length <= 802 && long.endsWith("word …"), long);
  assert.ok(shortened("x".repeat(5000)).length <= 802);
});
