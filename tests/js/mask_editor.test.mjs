import assert from "node:assert/strict";
import { test } from "node:test";
import { MaskEditor } from "../../web/js/mask_editor.mjs";

test("isAvailable only if ComfyUI has the command and Load Image", () => {
  const commands = [{ id: "Comfy.MaskEditor.OpenMaskEditor" }];
  const isAvailable = (manager) => new MaskEditor({ extensionManager: manager }, {}).isAvailable;
  assert.equal(isAvailable({ command: { commands } }), false);
  globalThis.LiteGraph = { registered_node_types: { LoadImage: class {} } };
  assert.equal(isAvailable({ command: { commands } }), true);
  for (const manager of [undefined, {}, { command: {} }, { command: { commands: [] } }]) {
    assert.equal(isAvailable(manager), false);
  }
  LiteGraph.registered_node_types = {};
  assert.equal(isAvailable({ command: { commands } }), false);
});
