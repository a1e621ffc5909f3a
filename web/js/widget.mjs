// The widget that contains a node's view: its layout, the events that it forwards to the editor, the node's height.

export const WIDGET = "maskwright_view";
const MARGIN = 4; // pixels around the view
const CLICK = 4; // pixels that a pointer may move in a click

/** Add a view to its node. */
export function addWidget(node, view, app, isVue) {
  // `options.serialize` keeps the widget out of the prompt, `serialize` out of the saved file.
  const widget = node.addDOMWidget(WIDGET, WIDGET, view.element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true, // the side panel would list it, and leave it at the panel's width
    margin: MARGIN,
    getMinHeight: () => view.height + 2 * MARGIN,
    getValue: () => "",
    setValue: () => {},
  });
  widget.serialize = false;
  // Editors without `hideInPanel` write the panel's width here. Without a width, the widget is as wide as its node.
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {}, configurable: true });
  passEvents(node, view.element, app, isVue);
  return widget;
}

/** Let wheel, middle button and clicks work over a view as they do elsewhere in the editor. */
function passEvents(node, element, app, isVue) {
  element.addEventListener("wheel", (event) => {
    // The canvas renderer puts the view over the canvas, which would not get the event.
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
    // The canvas renderer selects the node itself. Clicks by keyboard have no position.
    const isDrag = Math.hypot(event.clientX - start[0], event.clientY - start[1]) > CLICK;
    if (!isVue() || !event.detail || isDrag || node.graph !== app.canvas?.graph) return;
    app.canvas.selectNode?.(node, event.shiftKey || event.ctrlKey || event.metaKey);
  });
}

/** Give keyboard events back to the editor. */
export function focusEditor(app) {
  app.canvas?.canvas?.focus?.();
}

/** Adapts node heights when views change. A node keeps the extra height that its user gave it. */
export class Heights {
  constructor() {
    this.spare = new WeakMap(); // node -> extra height, while no open view fills it
  }

  /**
   * @param node The node whose view changes.
   * @param change Makes the change.
   * @param isFilled Returns whether the node has an open view after the change.
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

  /** Make a new node, not yet in a graph, high enough for its view. */
  begin(node) {
    const [width, height] = node.computeSize();
    if (node.size[1] < height) node.setSize([Math.max(node.size[0], width), height]);
  }
}
