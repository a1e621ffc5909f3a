// The views of RegionCrop (the regions, numbered, with their context) and RegionStitch (before and after).

import { Boxes } from "./boxes.mjs";
import { RegionsView } from "./regions_view.mjs";
import { View } from "./view.mjs";

const DIM = 0.6; // opacity of the black over the rest of the image

export class CropView extends View {
  static widgets = [];

  addTools() {
    this.boxes = new Boxes(this.stage);
  }

  draw() {
    const { boxes = [], regions = [], size = [1, 1] } = this.entries[this.page];
    const { image } = this.loaded;
    const context = this.blank();
    const scale = image.width / size[0];
    const scaled = ([x1, y1, x2, y2]) => [x1, y1, x2 - x1, y2 - y1].map((each) => each * scale);
    context.drawImage(image, 0, 0);
    context.fillStyle = `rgb(0 0 0 / ${DIM})`;
    context.fillRect(0, 0, image.width, image.height);
    for (const box of boxes) context.drawImage(image, ...scaled(box), ...scaled(box));
    const line = Math.max(1, Math.round(image.width / 400));
    context.lineWidth = line;
    context.strokeStyle = "#fff";
    context.setLineDash([4 * line, 3 * line]);
    for (const box of regions) context.strokeRect(...scaled(box));
    this.boxes.show(boxes, size);
  }

  refresh() {
    super.refresh();
    if (this.canvas.hidden) this.boxes?.hide();
  }

  /** The editor's zoom has changed. */
  zoomed() {
    this.boxes.adapt();
  }

  hint() {
    const { boxes } = this.entries[this.page] ?? {};
    return boxes && !boxes.length ? this.frame.texts.nothingCropped : "";
  }
}

export class StitchView extends RegionsView {
  hint() {
    const { boxes } = this.entries[this.page] ?? {};
    return boxes && !boxes.length ? this.frame.texts.nothingStitched : "";
  }
}
