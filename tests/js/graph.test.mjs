// The values of a node's widgets, as editors of several versions hold them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { hostsOf, nodeAt, setValue, valuesOf } from "../../web/js/graph.mjs";

const widget = (name, value) => ({ name, value });
const input = (name, link = null) => ({ name, widget: { name }, link });

/** A node with a threshold and a blur, inside a subgraph whose node has the threshold; `outer` is that node's input. */
function subgraph(outer, isNew) {
  const link = { id: 1, origin_id: isNew ? "-10" : -10, origin_slot: 0 };
  const graph = { inputNode: { id: link.origin_id }, inputs: [{ name: "threshold" }], getLink: (id) => (id === 1 ? link : null) };
  const node = {
    id: 5,
    graph,
    widgets: [widget("threshold", 0.1), widget("blur", 3)],
    inputs: [{ name: "image", link: 9 }, input("threshold", isNew ? undefined : 1), input("blur")],
  };
  if (isNew) {
    node.isInputConnected = (slot) => slot < 2;
    node.getInputLink = (slot) => (slot === 1 ? link : null);
  }
  graph.nodes = [node];
  const host = { id: 3, subgraph: graph, inputs: [outer], widgets: [widget("threshold", 0.7)] };
  host.graph = { nodes: [host], getLink: () => ({ origin_id: 8 }) };
  return { root: host.graph, host, node };
}

for (const isNew of [false, true]) {
  const editor = isNew ? "that asks the node for its links" : "that holds links in inputs";
  test(`valuesOf takes a promoted value from the subgraph's node in an editor ${editor}`, () => {
    const { root, host, node } = subgraph(input("threshold"), isNew);
    const followed = [];
    assert.deepEqual(valuesOf(node, hostsOf(root, "3:5"), (each) => followed.push(each)), { threshold: 0.7, blur: 3 });
    assert.deepEqual(followed, host.widgets);
    assert.equal(nodeAt(root, "3:5"), node);
  });

  test(`valuesOf leaves out what another node feeds in an editor ${editor}`, () => {
    const { root, node } = subgraph(input("threshold", 4), isNew);
    assert.deepEqual(valuesOf(node, hostsOf(root, "3:5")), { blur: 3 });
  });
}

test("setValue changes the widget that has the value, and calls its callback", () => {
  const { root, host, node } = subgraph(input("threshold"), false);
  const calls = [];
  for (const each of [host.widgets[0], node.widgets[1]]) each.callback = (...values) => calls.push(values);
  const hosts = hostsOf(root, "3:5");
  assert.equal(setValue(node, hosts, "threshold", 0.9, "canvas"), true);
  assert.equal(setValue(node, hosts, "blur", 5, "canvas"), true);
  assert.deepEqual(calls, [[0.9, "canvas", host], [5, "canvas", node]]);
  assert.deepEqual(valuesOf(node, hosts), { threshold: 0.9, blur: 5 });
  assert.equal(node.widgets[0].value, 0.1);
});

test("setValue leaves alone what another node feeds", () => {
  const { root, host, node } = subgraph(input("threshold", 4), false);
  assert.equal(setValue(node, hostsOf(root, "3:5"), "threshold", 0.9), false);
  assert.deepEqual([host.widgets[0].value, node.widgets[0].value], [0.7, 0.1]);
});

test("valuesOf without a known subgraph leaves out the promoted value", () => {
  const { root, node } = subgraph(input("threshold"), false);
  assert.deepEqual(valuesOf(node, hostsOf(root, "4:5")), { blur: 3 });
  assert.deepEqual(valuesOf({ widgets: undefined }), {});
});
