// Edits a mask outside the page's thread: see remote_editing.mjs.

import { Editing } from "./edit.mjs";

let editing = null;

addEventListener("message", ({ data }) => {
  if (data.mask) {
    editing = new Editing(data.mask);
    return;
  }
  const result = editing.run(...data.question);
  postMessage(result, [result.levels.buffer, ...(result.lines ? [result.lines.buffer] : [])]);
});
