// The detailer's view: before and after; while the node works, its regions and the current one.

import { Boxes } from "./boxes.mjs";
import { ComparisonView } from "./comparison_view.mjs";
import { filled } from "./texts.mjs";

export class RegionsView extends ComparisonView {
  addTools() {
    super.addTools();
    const { texts } = this.frame;
    this.boxes = new Boxes(this.stage);
    this.showsBoxes = false; // over a finished result
    this.boxesButton = this.button(this.tools, texts.regions, texts.showRegions, () => {
      this.setBoxes(!this.showsBoxes);
      this.remember();
    });
  }

  /** Here, transparency is the image's own. */
  get hasMask() {
    return false;
  }

  setBoxes(shown) {
    this.showsBoxes = shown;
    this.boxesButton.setAttribute("aria-pressed", String(shown));
    this.refresh();
    this.schedule();
  }

  get state() {
    return this.showsBoxes ? { ...super.state, regions: true } : super.state;
  }

  resume(state) {
    this.setBoxes(state?.regions === true);
    super.resume(state);
  }

  /** @param {{size, boxes, count, current, image}} work Fields other than `current` are omitted if unchanged. */
  working(work) {
    if (work.image) {
      if (this.entries[0]?.kind !== "regions") this.earlier = { entries: this.entries, page: this.page };
      this.entries = [{ kind: "regions", ...work }];
      this.page = 0;
      this.forget();
      this.problem = "";
      this.remark = "";
    } else if (this.entries[0]?.kind === "regions") {
      Object.assign(this.entries[0], work);
    }
    this.refresh();
    this.schedule();
  }

  show(entries) {
    this.page = this.earlier?.page ?? this.page;
    this.earlier = null;
    super.show(entries);
  }

  /** There will be no result: show the one of an earlier run again. */
  say(sentence, isError = false) {
    if (sentence && this.entries[0]?.kind === "regions") this.show(this.earlier?.entries ?? []);
    super.say(sentence, isError);
  }

  draw() {
    const entry = this.entries[this.page];
    const { boxes = [], size = [1, 1] } = entry;
    if (entry.kind === "regions") {
      this.blank().drawImage(this.loaded.image, 0, 0);
      this.boxes.show(boxes, size, entry.current);
    } else {
      super.draw();
      if (this.showsBoxes) this.boxes.show(boxes, size);
      else this.boxes.hide();
    }
  }

  refresh() {
    super.refresh();
    if (!this.boxes) return; // not built yet
    const entry = this.entries[this.page];
    this.boxesButton.hidden = entry?.kind === "regions" || !entry?.boxes?.length;
    if (this.canvas.hidden) this.boxes.hide();
  }

  /** The editor's zoom has changed. */
  zoomed() {
    this.boxes.adapt();
  }

  phaseText() {
    return (this.entries[0]?.kind === "regions" && this.hint()) || super.phaseText();
  }

  hint() {
    const entry = this.entries[this.page];
    const { texts } = this.frame;
    if (entry?.kind !== "regions") {
      if (!entry?.boxes) return "";
      if (!entry.boxes.length) return texts.noRegion;
      return this.showsBoxes && entry.boxes.length > 1 ? texts.regionOrder : "";
    }
    const count = entry.count ?? entry.boxes?.length ?? 0;
    return count ? filled(texts.region, { number: (entry.current ?? 0) + 1, count }) : "";
  }
}
