// Edits a mask in a worker, so that the page stays responsive; in the page if workers fail.

import { Editing } from "./edit.mjs";

export class RemoteEditing {
  /**
   * @param mask See `Editing`.
   * @param {function} changed Called when `result` or `isBusy` has changed.
   */
  constructor(mask, changed) {
    Object.assign(this, { mask, changed });
    this.result = null; // of `Editing.run`, with the mask's width and height; the latest
    this.next = null; // the next request: arguments of `Editing.run`
    this.key = ""; // of the latest request
    this.isBusy = false;
    try {
      this.worker = new Worker(new URL("./edit_worker.mjs", import.meta.url), { type: "module" });
      this.worker.onmessage = ({ data }) => this.received(data);
      this.worker.onerror = () => this.goWithout();
      this.worker.postMessage({ mask });
    } catch {
      this.goWithout();
    }
  }

  /** Request a result. Only the latest request is sure to be answered. */
  want(...question) {
    const key = JSON.stringify(question);
    if (key === this.key) return;
    this.key = key;
    this.next = question;
    if (!this.isBusy) this.ask();
  }

  ask() {
    this.asked = this.next;
    this.next = null;
    this.isBusy = true;
    if (this.worker) this.worker.postMessage({ question: this.asked });
    else setTimeout(() => this.received(this.local.run(...this.asked)));
  }

  received(result) {
    if (this.isClosed) return;
    const { width, height } = this.mask;
    this.result = { ...result, steps: result.levels, width, height };
    this.isBusy = false;
    if (this.next) this.ask();
    this.changed();
  }

  /** The worker failed. */
  goWithout() {
    this.worker?.terminate();
    this.worker = null;
    this.local = new Editing(this.mask);
    if (!this.isBusy) return;
    this.next ??= this.asked;
    this.ask();
  }

  close() {
    this.isClosed = true;
    this.worker?.terminate();
  }
}
