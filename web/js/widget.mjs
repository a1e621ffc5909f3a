// The widget in a node that holds its view: its place, what it passes on to the editor, and the node's height.

export const WIDGET = "maskwright_view";
const MARGIN = 4; // pixels around the view
const CLICK = 4; // pixels that a pointer may move in a click

/** Add a view to its node. */
export function addWidget(node, view, app, isVue) {
  // Two options for two kinds of saving: `options.serialize` keeps it out of the prompt, `serialize` out of the file.
  const widget = node.addDOMWidget(WIDGET, WIDGET, view.element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true, // the side panel would list it, and give it the panel's width for good
    margin: MARGIN,
    getMinHeight: () => view.height + 2 * MARGIN,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  // Editors that do not know `hideInPanel` write the panel's width here. Without a width it has the node's.
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {}, configurable: true });
  passEvents(node, view.element, app, isVue);
  return widget;
}

/** What the editor does with the wheel, the middle button and a click works over a view, too. */
function passEvents(node, element, app, isVue) {
  element.addEventListener("wheel", (event) => {
    // The canvas renderer puts the view over the canvas, which does not get the event.
    if (isVue()) return;
    event.preventDefault();
    app.canvas?.canvas?.dispatchEvent(new WheelEvent(event.type, event));
  });
  const pans = { pointerdown: "processMouseDown", pointermove: "processMouseMove", pointerup: "processMouseUp" };
  for (const [kind, act] of Object.entries(pans)) {
    element.addEventListener(kind, (event) => {
      if (kind === "pointermove" ? event.buttons & 4 : event.button === 1) app.canvas?.[act]?.(event);
    });
  }
  let start = [0, 0];
  element.addEventListener("pointerdown", (event) => {
    start = [event.clientX, event.clientY];
  });
  element.addEventListener("click", (event) => {
    // The canvas renderer selects the node itself. A click of the keyboard has no place.
    const isDrag = Math.hypot(event.clientX - start[0], event.clientY - start[1]) > CLICK;
    if (!isVue() || !event.detail || isDrag || node.graph !== app.canvas?.graph) return;
    app.canvas.selectNode?.(node, event.shiftKey || event.ctrlKey || event.metaKey);
  });
}

/** Give keyboard events back to the editor. */
export function focusEditor(app) {
  app.canvas?.canvas?.focus?.();
}

/** Heights of nodes as their views change. A node keeps the height that its user gave it beyond what it needs. */
export class Heights {
  constructor() {
    this.spare = new WeakMap(); // node -> spare height, while no open view fills it
  }

  /**
   * @param node The node whose view changes.
   * @param change Makes the change.
   * @param isFilled Says whether there is an open view now.
   */
  adapt(node, change, isFilled) {
    if (!node.graph) {
      change();
      return;
    }
    const before = Math.max(0, node.size[1] - node.computeSize()[1]);
    change();
    const [width, height] = node.computeSize();
    const spare = this.spare.get(node) ?? before;
    if (isFilled()) this.spare.delete(node);
    else this.spare.set(node, spare);
    node.setSize([Math.max(node.size[0], width), height + (isFilled() ? spare : 0)]);
    node.graph.setDirtyCanvas?.(true, true);
  }

  /** A new node that is not in a graph yet: high enough for its view. */
  begin(node) {
    const [width, height] = node.computeSize();
    if (node.size[1] < height) node.setSize([Math.max(node.size[0], width), height]);
  }
}
