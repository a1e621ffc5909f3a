// Adapts the editor's own widgets to options in this pack's node definitions.

import { app } from "../../../scripts/app.js";

const TEXT_HEIGHT = 80; // pixels: four lines

/** A node's widgets, each with its options from the Python class. */
function* widgetsOf(node, definition) {
  const inputs = { ...definition?.input?.required, ...definition?.input?.optional };
  for (const widget of node.widgets ?? []) {
    const options = inputs[widget.name]?.[1];
    if (options && widget.options) yield [widget, options];
  }
}

/** Show `option_labels`, such as the size of a download, in lists. The values stay as they are. */
function showLabels(node, definition) {
  for (const [widget, { option_labels: labels }] of widgetsOf(node, definition)) {
    if (labels) widget.options.getOptionLabel = (value) => labels[value] ?? String(value ?? "");
  }
}

/** In the canvas renderer, text boxes with `grows: false` keep their height and leave the rest to the view. */
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
