// Opens ComfyUI's mask editor for a mask that a view shows. That editor only edits images of nodes, so a new Load Image
// node beside the view's node gets the image, with the mask as its transparency.

import { encodePng } from "./png.mjs";

/* global LiteGraph */ // the editor's graph library, which it gives to extensions

const COMMAND = "Comfy.MaskEditor.OpenMaskEditor"; // edits the image of the selected node
const LOADER = "LoadImage";
const LOADER_SIZE = [270, 314]; // with its preview
const GAP = 40; // pixels between nodes, with room for a title
const FILE = "maskwright_mask.png"; // the server numbers files of the same name
const MAX_WAIT = 3000; // milliseconds until the new node shows its image
const GRAY = "#808080";

export class MaskEditor {
  constructor(app, api) {
    Object.assign(this, { app, api });
  }

  /** Whether this editor of ComfyUI has the command and the node. */
  get isAvailable() {
    const isKnown = this.app.extensionManager?.command?.commands?.some?.(({ id }) => id === COMMAND);
    return !!isKnown && typeof LiteGraph !== "undefined" && LOADER in LiteGraph.registered_node_types;
  }

  /** Add a Load Image node with this file beside `node`, and open the mask editor for it. */
  async open(file, node) {
    const name = await this.upload(file);
    if (!node.graph) return; // removed in the meantime
    const { canvas, extensionManager } = this.app;
    const loader = LiteGraph.createNode(LOADER);
    const widget = loader.widgets.find((each) => each.name === "image");
    if (Array.isArray(widget.options?.values) && !widget.options.values.includes(name)) widget.options.values.push(name);
    widget.value = name;
    loader.setSize(LOADER_SIZE);
    loader.pos = findFreePlace(node, loader);
    canvas.emitBeforeChange?.(); // one step of undo
    node.graph.add(loader);
    canvas.emitAfterChange?.();
    const end = performance.now() + MAX_WAIT;
    while (!loader.imgs?.length && performance.now() < end) await new Promise(requestAnimationFrame);
    canvas.deselectAll?.();
    canvas.selectNode(loader);
    await extensionManager.command.execute(COMMAND);
  }

  /** Store a file in ComfyUI's input folder. Returns the name that it got there. */
  async upload(file) {
    const body = new FormData();
    body.append("image", file, FILE);
    const response = await this.api.fetchApi("/upload/image", { method: "POST", body });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`.trim());
    const { name, subfolder } = await response.json();
    return subfolder ? `${subfolder}/${name}` : name;
  }
}

/**
 * A view's image with its mask as transparency, as a PNG file. The mask output of Load Image is 1 - alpha.
 *
 * Both have the resolution of the preview, and are enlarged to the size of the image.
 */
export async function imageWithMask(view) {
  const { size, has_image: hasImage } = view.entries[view.page];
  const [width, height] = [size[0], size[1] * view.copies];
  const { data: pixels } = render(width, height, (context) => {
    context.fillStyle = GRAY;
    context.fillRect(0, 0, width, height);
    if (hasImage !== false) view.drawOriginal(context);
  });
  const { data: mask } = render(width, height, (context) => context.drawImage(view.maskImage(), 0, 0, width, height));
  for (let i = 0; i < pixels.length; i += 4) pixels[i + 3] = 255 - mask[i];
  return encodePng(pixels, width, height);
}

/** Call `draw` with the context of a new canvas. Returns its ImageData. */
function render(width, height, draw) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  draw(context);
  return context.getImageData(0, 0, width, height);
}

/** A position to the right of `node`, as far down as needed to overlap no other node. */
function findFreePlace(node, { size: [width, height] }) {
  const x = node.pos[0] + node.size[0] + GAP;
  let y = node.pos[1];
  const others = [...node.graph.nodes].sort((one, other) => one.pos[1] - other.pos[1]);
  for (const { pos, size } of others) {
    const isBeside = pos[0] < x + width + GAP && pos[0] + size[0] + GAP > x;
    if (isBeside && pos[1] < y + height + GAP && pos[1] + size[1] + GAP > y) y = pos[1] + size[1] + GAP;
  }
  return [x, y];
}
