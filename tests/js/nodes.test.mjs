// Which workflow is open, as far as the nodes' views distinguish workflows.

import assert from "node:assert/strict";
import { test } from "node:test";
import { hostsOf, LONGEST_ID, valuesOf } from "../../web/js/graph.mjs";
import { NodeViews } from "../../web/js/nodes.mjs";

const workflowOf = (id) => new NodeViews({ rootGraph: { id } }, {}, "", () => undefined).workflow;

test("a workflow has the id of its file", () => {
  assert.equal(workflowOf("c0ffee"), "c0ffee");
});

test("an id of zeros, or one too long for the nodes to send, counts as no id", () => {
  assert.equal(workflowOf("00000000-0000-0000-0000-000000000000"), "");
  assert.equal(workflowOf(undefined), "");
  assert.equal(workflowOf("x".repeat(LONGEST_ID)), "x".repeat(LONGEST_ID));
  assert.equal(workflowOf("x".repeat(LONGEST_ID + 1)), "");
});

test("the result of a workflow without an id may be shown in any workflow", () => {
  const views = new NodeViews({ rootGraph: { id: "x".repeat(LONGEST_ID + 1) } }, {}, "", () => undefined);
  assert.ok(views.isHere(undefined) && views.isHere("another"));
  assert.equal(views.results.keyOf("5"), "");
});
