// A larger view in a dialog over the page, with buttons to save, copy and edit it, and a contact sheet of the batch.

import { make } from "./elements.mjs";
import { imageWithMask } from "./mask_editor.mjs";
import { filled } from "./texts.mjs";

const TILE = 256; // pixels of the longer side of an image on the contact sheet
const REPORT = 2000; // milliseconds for which a button reports its result

export class Larger {
  /** @param {View} view Its bar, stage and note move into the dialog while that is open. */
  constructor(view) {
    this.view = view;
    const { texts } = view.frame;
    this.files = make("div", "maskwright-files", view.bar);
    this.sheetButton = view.button(this.files, texts.sheet, texts.showSheet, () => this.setSheet(!this.sheet));
    view.button(this.files, texts.save, texts.saveImage, () => this.save());
    if (navigator.clipboard?.write && typeof ClipboardItem !== "undefined") {
      this.copyButton = view.button(this.files, texts.copy, texts.copyImage, () => this.copy());
    }
    // Over the image, since the bar of a narrow node has no room.
    this.corner = make("div", "maskwright-corner", view.stage);
    this.editButton = view.button(this.corner, "✎", texts.editMask, () => this.edit());
    this.editButton.classList.add("maskwright-edit");
    this.toggle = view.button(this.corner, "⤢", texts.larger, () => this.setOpen(!this.dialog.open));
    this.dialog = make("dialog", "maskwright-larger", view.element);
    this.dialog.addEventListener("close", () => this.takeBack());
    // The editor below must not act on what happens here.
    for (const kind of ["wheel", "pointerdown", "pointermove", "pointerup", "click", "keydown", "keyup"]) {
      this.dialog.addEventListener(kind, (event) => event.stopPropagation());
    }
    view.stage.addEventListener("dblclick", () => this.setOpen(true));
  }

  /** Update the buttons. */
  refresh() {
    const { entries, loaded, isOpen, frame } = this.view;
    this.corner.hidden = !this.dialog.open && (!isOpen || !loaded);
    this.editButton.hidden = !loaded || !this.view.hasMask || !frame.canEditMask();
    this.toggle.textContent = this.dialog.open ? "✕" : "⤢";
    this.toggle.title = this.dialog.open ? frame.texts.closeLarger : frame.texts.larger;
    this.toggle.setAttribute("aria-label", this.toggle.title);
    this.sheetButton.hidden = entries.length < 2;
    this.sheetButton.setAttribute("aria-pressed", String(!!this.sheet));
  }

  setOpen(open) {
    const { view, dialog } = this;
    if (open === dialog.open || (open && !view.loaded)) return;
    if (!open) {
      dialog.close();
      return;
    }
    dialog.append(view.bar, view.stage, view.note);
    view.bar.append(this.corner);
    dialog.showModal();
    view.refresh();
    view.zoomed();
  }

  /** The dialog was closed, maybe by Esc. */
  takeBack() {
    const { view } = this;
    this.setSheet(false);
    view.element.append(view.bar, view.stage, view.note, this.dialog);
    view.stage.append(this.corner);
    view.refresh();
    view.zoomed();
  }

  /** Show or hide the contact sheet. Its images appear one by one. */
  async setSheet(isOpen) {
    const { view } = this;
    if (!isOpen) {
      this.sheet?.remove();
      this.sheet = null;
      view.stage.hidden = false;
      view.refresh();
      return;
    }
    const { page } = view;
    const sheet = make("div", "maskwright-sheet");
    this.sheet = sheet;
    view.stage.after(sheet);
    view.stage.hidden = true;
    for (let i = 0; i < view.entries.length; i++) {
      view.turnTo(i);
      await view.untilDrawn();
      if (sheet !== this.sheet) break;
      this.addTile(i);
    }
    // The user may have chosen an image already.
    if (sheet === this.sheet) view.turnTo(page);
  }

  addTile(page) {
    const { view } = this;
    const name = filled(view.frame.texts.page, { page: page + 1, pages: view.entries.length });
    const tile = view.button(this.sheet, "", name, () => {
      this.setSheet(false);
      view.turnTo(page);
      view.remember();
    });
    tile.append(resized(view.exported(), TILE));
    make("span", "", tile).textContent = String(page + 1);
  }

  /** Open the mask in ComfyUI's mask editor. */
  async edit() {
    const { view, editButton } = this;
    const { texts, editMask } = view.frame;
    this.setOpen(false); // else it would cover that editor
    editButton.disabled = true;
    view.warn("");
    try {
      await view.untilDrawn();
      await editMask(await imageWithMask(view));
    } catch (error) {
      view.warn(filled(texts.notEdited, { reason: error?.message ?? error }));
    }
    editButton.disabled = false;
  }

  /** The view or the contact sheet, as a PNG file. */
  async png() {
    const canvas = this.sheet ? composed([...this.sheet.querySelectorAll("canvas")]) : this.view.exported();
    return new Promise((done) => canvas.toBlob(done, "image/png"));
  }

  async save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await this.png());
    link.download = this.sheet ? "maskwright_all.png" : `maskwright_${this.view.page + 1}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async copy() {
    const { texts } = this.view.frame;
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": this.png() })]);
      this.copyButton.textContent = texts.copied;
    } catch (error) {
      this.copyButton.textContent = filled(texts.notCopied, { reason: error?.message ?? error });
    }
    setTimeout(() => {
      this.copyButton.textContent = texts.copy;
    }, REPORT);
  }
}

/** A copy of a canvas or bitmap with no side longer than `longest`. */
function resized(source, longest) {
  const factor = Math.min(1, longest / Math.max(source.width, source.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(source.width * factor));
  canvas.height = Math.max(1, Math.round(source.height * factor));
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Canvases side by side and below each other, about as many rows as columns. */
function composed(tiles) {
  const columns = Math.ceil(Math.sqrt(tiles.length));
  const canvas = document.createElement("canvas");
  canvas.width = TILE * Math.max(1, columns);
  canvas.height = TILE * Math.max(1, Math.ceil(tiles.length / columns));
  const context = canvas.getContext("2d");
  tiles.forEach((tile, i) => {
    const [left, top] = [TILE * (i % columns), TILE * Math.floor(i / columns)];
    context.drawImage(tile, left + (TILE - tile.width) / 2, top + (TILE - tile.height) / 2);
  });
  return canvas;
}
