// The sample images of templates: what is uploaded, under which names, and what a failure does.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { LIST, listedImages, NOT_UPLOADED, renameImages, TemplateImages } from "../../web/js/templates.mjs";

const loader = (name, type = "LoadImage") => ({ id: 1, type, widgets_values: [name, "image"] });
const template = (images, ...nodes) => ({ nodes, extra: { [LIST]: images, ds: {} } });
const respond = (status, value) => ({
  ok: status < 400, status, json: async () => value, blob: async () => new Blob(["image"]) });

/** The class with an editor that records requests and toasts; `answer` replies to an upload of a name. */
function withEditor(answer, settings = {}) {
  const requests = [], toasts = [];
  const api = {
    fetchApi: async (path, options) => {
      requests.push(path);
      if (path === "/i18n") return respond(200, { de: { maskwrightTemplates: { notUploaded: "Nicht: {names}" } } });
      return path === "/upload/image" ? answer(options.body.get("image").name) : respond(200);
    },
  };
  const extensionManager = { setting: { get: (id) => settings[id] }, toast: { add: (toast) => toasts.push(toast) } };
  return { images: new TemplateImages({ extensionManager }, api, "a pack"), requests, toasts };
}

test("only plain file names of images are taken from a workflow", () => {
  assert.deepEqual(listedImages(template(["a.jpg", "b-1.png", "a.jpg"])), ["a.jpg", "b-1.png"]);
  const long = `${"x/".repeat(1e6)}.jpg`;
  const hostile = ["../a.jpg", "a/b.jpg", "a.svg", "https://x/a.jpg", "", 7, null, ["a.jpg"], long];
  assert.deepEqual(listedImages(template(hostile)), []);
  assert.equal(listedImages(template(Array.from({ length: 1000 }, (_, i) => `${i}.jpg`))).length, 8);
  const others = [undefined, null, {}, { extra: 5 }, template("a.jpg"), template({ length: 3 }), template(null)];
  for (const workflow of others) {
    assert.deepEqual(listedImages(workflow), []);
  }
});

test("only loaders of images are renamed", () => {
  const nodes = [loader("a.jpg"), loader("b.jpg"), loader("a.jpg", "SaveImage"), null, {}, loader("a.jpg", "LoadImageMask")];
  const workflow = { nodes };
  renameImages(workflow, new Map([["a.jpg", "a (1).jpg"]]));
  const values = workflow.nodes.map((node) => node?.widgets_values?.[0]);
  assert.deepEqual(values, ["a (1).jpg", "b.jpg", "a.jpg", undefined, undefined, "a (1).jpg"]);
  renameImages({ nodes: 5 }, new Map());
});

test("a template's images are uploaded once, and it takes the names that the server gives", async () => {
  const numbered = (name) => respond(200, { name: name.replace(".", " (1)."), subfolder: "" });
  const { images, requests, toasts } = withEditor(numbered);
  const workflow = template(["a.jpg", "b.png"], loader("a.jpg"), loader("own.jpg"), loader("b.png", "LoadImageMask"));
  await images.prepare(workflow);
  assert.deepEqual(workflow.nodes.map((node) => node.widgets_values[0]), ["a (1).jpg", "own.jpg", "b (1).png"]);
  assert.deepEqual(workflow.extra, { ds: {} });
  assert.ok(requests.includes("/workflow_templates/a%20pack/assets/a.jpg"));
  const count = requests.length;
  await images.prepare(workflow);
  assert.equal(requests.length, count, "a saved copy uploads nothing");
  assert.deepEqual(toasts, []);
});

test("a new loader's list gets the uploaded images", async () => {
  const { images } = withEditor((name) => respond(200, { name }));
  await images.prepare(template(["a.jpg"], loader("a.jpg")));
  const node = (comfyClass, values) => ({ comfyClass, widgets: [{ name: "image", options: { values } }] });
  const first = node("LoadImage", ["z.jpg"]), other = node("Other", ["z.jpg"]);
  const without = [node("LoadImage", undefined), { comfyClass: "LoadImage" }];
  for (const each of [first, first, other, ...without]) images.extendList(each);
  assert.deepEqual(first.widgets[0].options.values, ["z.jpg", "a.jpg"]);
  assert.deepEqual(other.widgets[0].options.values, ["z.jpg"]);
});

const FAILURES = {
  "a refusal": () => respond(500),
  "no connection": () => { throw new TypeError("Failed to fetch"); },
  "an answer without a name": () => respond(200, null),
  "a name that is not text": () => respond(200, { name: { length: 1 } }),
};

for (const [cause, answer] of Object.entries(FAILURES)) {
  test(`after ${cause} the user reads one sentence, and the workflow opens as it is`, async () => {
    const { images, toasts } = withEditor((name) => (name === "a.jpg" ? answer() : respond(200, { name })));
    const workflow = template(["a.jpg", "b.jpg"], loader("a.jpg"), loader("b.jpg"));
    await images.prepare(workflow);
    assert.deepEqual(workflow.nodes.map((node) => node.widgets_values[0]), ["a.jpg", "b.jpg"]);
    assert.equal(toasts.length, 1);
    assert.equal(toasts[0].severity, "warn");
    assert.match(toasts[0].detail, /sample images: a\.jpg \(.+\)\. Choose/);
    assert.deepEqual([...images.uploaded], ["b.jpg"]);
  });
}

test("the sentence is in the editor's language, and an editor without toasts is no failure", async () => {
  const { images, toasts } = withEditor(() => respond(403), { "Comfy.Locale": "de" });
  await images.prepare(template(["a.jpg"]));
  assert.equal(toasts[0].detail, "Nicht: a.jpg");
  images.app.extensionManager = undefined;
  await images.prepare(template(["a.jpg"]));
});

for (const language of ["en", "de", "ja", "zh"]) {
  test(`the sentence is there in ${language}, with the same names to fill in`, () => {
    const url = new URL(`../../locales/${language}/main.json`, import.meta.url);
    const text = JSON.parse(readFileSync(url, "utf-8")).maskwrightTemplates.notUploaded;
    assert.deepEqual(text.match(/\{\w+\}/g).sort(), ["{names}", "{reason}"]);
    if (language === "en") assert.equal(text, NOT_UPLOADED);
  });
}
