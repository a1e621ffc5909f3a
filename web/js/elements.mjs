// Elements and canvases for the views.

export function make(tag, className, parent) {
  const element = document.createElement(tag);
  element.className = className;
  parent?.append(element);
  return element;
}

/** A canvas with these pixels, outside the page. */
export function canvasOf(pixels, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const data = new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

/** The pixels of a bitmap, as ImageData. */
export function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height);
}

/** Draw a checkerboard behind the whole image, to show transparency. */
export function drawCheckerboard(context) {
  const { width, height } = context.canvas;
  const side = Math.max(4, Math.round(Math.max(width, height) / 48));
  const tile = document.createElement("canvas");
  tile.width = tile.height = 2 * side;
  const brush = tile.getContext("2d");
  brush.fillStyle = "#999";
  brush.fillRect(0, 0, 2 * side, 2 * side);
  brush.fillStyle = "#666";
  brush.fillRect(0, 0, side, side);
  brush.fillRect(side, side, side, side);
  context.fillStyle = context.createPattern(tile, "repeat");
  context.fillRect(0, 0, width, height);
}
