// Numbered region boxes over an image. They are elements, so that lines and numbers keep their size at any zoom.

import { make } from "./elements.mjs";

export class Boxes {
  constructor(parent) {
    this.element = make("div", "maskwright-boxes", parent);
    this.element.hidden = true;
  }

  /**
   * @param {number[][]} boxes [x1, y1, x2, y2] each, in pixels of the image
   * @param {number[]} size the image's width and height
   * @param {number} current index of the region in progress; -1 if all are done
   */
  show(boxes, [width, height], current = -1) {
    const { element } = this;
    element.hidden = !boxes.length;
    if (this.boxes !== boxes) {
      this.boxes = boxes;
      element.style.setProperty("--maskwright-ratio", String(width / height));
      element.replaceChildren(...boxes.map((box, index) => this.child(box, index, width, height)));
    }
    [...element.children].forEach((child, index) => {
      child.classList.toggle("maskwright-box-current", index === current);
      child.classList.toggle("maskwright-box-waiting", current >= 0 && index > current);
    });
    this.adapt();
  }

  /** The element of one box. */
  child(box, index, width, height) {
    return boxElement(box, index, width, height);
  }

  hide() {
    this.element.hidden = true;
  }

  /** Adapt to the zoom of the editor, which scales the whole view. */
  adapt() {
    const { element } = this;
    if (element.hidden || !element.offsetWidth) return;
    const zoom = element.getBoundingClientRect().width / element.offsetWidth;
    if (zoom > 0) element.style.setProperty("--maskwright-pixel", `${1 / zoom}px`);
  }
}

export const percent = (part, whole) => `${(100 * part) / whole}%`;

function boxElement([x1, y1, x2, y2], index, width, height) {
  const element = make("div", "maskwright-box");
  Object.assign(element.style, {
    left: percent(x1, width),
    top: percent(y1, height),
    width: percent(x2 - x1, width),
    height: percent(y2 - y1, height),
  });
  const number = make("span", "maskwright-number", element);
  number.textContent = String(index + 1);
  // In the corner nearest the center of the image, so that the number is never cut off.
  number.style[x1 + x2 > width ? "right" : "left"] = 0;
  number.style[y1 + y2 > height ? "bottom" : "top"] = 0;
  return element;
}
