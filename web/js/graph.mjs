// The editor's graph: nodes and their paths, workflow ids, widget values.

export const LONGEST_ID = 100; // characters; the nodes send no longer workflow id, and here it counts as none

/** Every node of a graph and its subgraphs, with its path as in a run ("3:5" is node 5 inside node 3). */
export function* nodesOf(graph, before = "") {
  for (const node of graph?.nodes ?? []) {
    const path = `${before}${node.id}`;
    yield [node, path];
    if (node.subgraph) yield* nodesOf(node.subgraph, `${path}:`);
  }
}

/** The node at a path. */
export function nodeAt(root, path) {
  for (const [node, each] of nodesOf(root)) if (each === path) return node;
  return undefined;
}

/** The nodes of the subgraphs around the node at a path, outermost first. */
export function hostsOf(root, path) {
  const hosts = [];
  let graph = root;
  for (const id of path.split(":").slice(0, -1)) {
    const host = graph?.nodes?.find((node) => String(node.id) === id);
    if (!host?.subgraph) return [];
    hosts.push(host);
    graph = host.subgraph;
  }
  return hosts;
}

/** The key of a node in the editor's store of results. */
export function locatorOf(node, root) {
  return node.graph && node.graph !== root ? `${node.graph.id}:${node.id}` : String(node.id);
}

/** The id of an open workflow, "" if it has none. */
export function idOf(root) {
  const id = String(root?.id ?? "");
  return /^[0-]*$/.test(id) || id.length > LONGEST_ID ? "" : id;
}

/** The workflow id of a run from the server's queue or history. */
export function workflowOf(run) {
  return run?.prompt?.[3]?.extra_pnginfo?.workflow?.id;
}

/** Whether a node has the same inputs in two prompts, and so do all nodes before it. */
export function isSame(prompt, other, path) {
  const [node, twin] = [prompt[path], other[path]];
  if (!node || node.class_type !== twin?.class_type) return false;
  const names = Object.keys(node.inputs);
  return names.length === Object.keys(twin.inputs).length && names.every((name) => {
    const [value, second] = [node.inputs[name], twin.inputs[name]];
    if (JSON.stringify(value) !== JSON.stringify(second)) return false;
    return !Array.isArray(value) || isSame(prompt, other, String(value[0]));
  });
}

/**
 * The values of a node's widgets by name. A widget promoted to a subgraph's node has its value there; widgets fed by
 * another node are left out.
 *
 * @param hosts The nodes of the subgraphs around the node, outermost first.
 * @param follow Called with each promoted widget, to listen to its changes.
 */
export function valuesOf(node, hosts = [], follow = () => {}) {
  const values = {};
  for (const [widget, source] of sourcesOf(node, hosts)) {
    if (source !== widget) follow(source);
    values[widget.name] = source.value;
  }
  return values;
}

/** Change the value of a node's widget, or of the one on a subgraph's node that feeds it. False if neither has it. */
export function setValue(node, hosts, name, value, canvas) {
  for (const [widget, source] of sourcesOf(node, hosts)) {
    if (widget.name !== name) continue;
    source.value = value;
    source.callback?.(value, canvas, source === widget ? node : hosts.at(-1));
    return true;
  }
  return false;
}

/** Each widget of a node with the one that holds its value; without those fed by another node. */
function* sourcesOf(node, hosts) {
  for (const widget of node.widgets ?? []) {
    const slot = (node.inputs ?? []).findIndex((input) => (input.widget?.name ?? input.name) === widget.name);
    const source = slot >= 0 && isLinked(node, slot) ? promotedWidget(node, slot, hosts) : widget;
    if (source) yield [widget, source];
  }
}

/** The widget on a subgraph's node that feeds an input inside it; undefined if another node feeds it. */
function promotedWidget(node, slot, hosts) {
  const link = linkOf(node, slot);
  const host = hosts.at(-1);
  if (!host || !link || link.origin_id !== node.graph?.inputNode?.id) return undefined;
  const name = node.graph.inputs?.[link.origin_slot]?.name;
  const outer = host.inputs?.findIndex((input) => input.name === name) ?? -1;
  if (outer < 0) return undefined;
  if (isLinked(host, outer)) return promotedWidget(host, outer, hosts.slice(0, -1));
  const label = host.inputs[outer].widget?.name ?? name;
  return host.widgets?.find((widget) => widget.name === label);
}

function isLinked(node, slot) {
  return node.isInputConnected?.(slot) ?? node.inputs[slot].link != null;
}

function linkOf(node, slot) {
  return node.getInputLink?.(slot) ?? node.graph?.getLink?.(node.inputs[slot].link);
}
