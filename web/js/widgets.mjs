// What this pack changes on the editor's own widgets, as its nodes' definitions ask.

import { app } from "../../../scripts/app.js";

const TEXT_HEIGHT = 80; // pixels: four lines

/** A node's widgets, each with the options that its Python class gives it. */
function* widgetsOf(node, definition) {
  const inputs = { ...definition?.input?.required, ...definition?.input?.optional };
  for (const widget of node.widgets ?? []) {
    const options = inputs[widget.name]?.[1];
    if (options && widget.options) yield [widget, options];
  }
}

/** Lists show `option_labels` in place of the values, such as the size of a download; the value stays the value. */
function showLabels(node, definition) {
  for (const [widget, { option_labels: labels }] of widgetsOf(node, definition)) {
    if (labels) widget.options.getOptionLabel = (value) => labels[value] ?? String(value ?? "");
  }
}

/** In the canvas renderer, a text box that does not grow leaves the height that its node gains to the view. */
function limitHeights(node, definition) {
  for (const [widget, { grows }] of widgetsOf(node, definition)) {
    if (grows === false) widget.options.getMaxHeight = () => TEXT_HEIGHT;
  }
}

/** Every node of a graph and of the subgraphs in it. */
function* nodesOf(graph) {
  for (const node of graph?.nodes ?? []) {
    yield node;
    yield* nodesOf(node.subgraph);
  }
}

app.registerExtension({
  name: "maskwright.widgets",
  nodeCreated(node) {
    showLabels(node, node.constructor.nodeData);
    limitHeights(node, node.constructor.nodeData);
  },
  // The user pressed R, say after copying a model's file.
  refreshComboInNodes(definitions) {
    for (const node of nodesOf(app.rootGraph ?? app.graph)) showLabels(node, definitions[node.comfyClass]);
  },
});
