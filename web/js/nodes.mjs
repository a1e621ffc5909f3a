// Which node has which view, and what the editor's events mean for it. `app` and `api` are the editor's own.

import { ComparisonView, RegionsView } from "./comparison_view.mjs";
import { SelectionView } from "./selection_view.mjs";
import { filled, textsIn } from "./texts.mjs";

/** By node id, also by the ids of other packs under which this pack's nodes may run. */
const VIEWS = {
  CLIPSeg: SelectionView,
  CLIPSeg_: SelectionView,
  CLIPSegMasking: SelectionView,
  "CLIPSeg Masking": SelectionView,
  SaltCLIPSegMasking: SelectionView,
  ImageSegmentation: ComparisonView,
  MaskDetailerPipe: RegionsView,
};

const KEY = "maskwright"; // of the views' data in what a node sends
const WIDGET = "maskwright_view";
const MARGIN = 4; // pixels around the view
const RUNS_SEARCHED = 16; // of the history, for a page that was loaded anew
const [MUTED, BYPASSED] = [2, 4]; // a node's mode

/** The last part of a URL like .../extensions/<folder>/js/maskwright.js that says which pack this is. */
export function folderOf(url) {
  const parts = new URL(url).pathname.split("/");
  return decodeURIComponent(parts[parts.lastIndexOf("extensions") + 1] ?? "");
}

export class NodeViews {
  constructor(app, api, folder, settings) {
    Object.assign(this, { app, api, folder, settings });
    this.views = new Map(); // node -> its view, of all nodes that are in a graph
    this.texts = textsIn("en", {});
    this.cached = new Set(); // paths of the nodes that the run in progress has the results of
  }

  /** Learn the editor's language, and listen. */
  async start() {
    this.isStarted = true;
    const on = (name, act) => this.api.addEventListener(name, ({ detail }) => act(detail ?? {}));
    on("execution_start", () => this.started());
    on("execution_cached", ({ nodes }) => this.reached(nodes ?? []));
    on("execution_success", ({ prompt_id: id }) => this.succeeded(id));
    on("execution_error", (detail) => this.ended(detail, true));
    on("execution_interrupted", (detail) => this.ended(detail, false));
    on("maskwright.regions", (detail) => this.working(detail));
    const language = this.settings("Comfy.Locale") ?? "en";
    if (language === "en") return;
    try {
      const answer = await this.api.fetchApi("/i18n");
      Object.assign(this.texts, textsIn(language, await answer.json()));
    } catch (error) {
      console.warn("Maskwright: no translations, so the views speak English.", error);
    }
  }

  /** The view of a new node, if it is one of this pack's that has one. */
  attach(node) {
    const definition = node.constructor?.nodeData;
    const View = VIEWS[String(node.comfyClass ?? "").replace(/ \(Maskwright\)$/, "")];
    // Another pack may hold the id: only the host knows where a node comes from.
    if (!View || String(definition?.python_module ?? "").split(".").slice(1).join(".") !== this.folder) return;
    node.onExecuted = after(node.onExecuted, (output) => this.views.get(node)?.received(output?.[KEY]));
    node.onAdded = after(node.onAdded, () => this.add(node, View));
    node.onRemoved = after(node.onRemoved, () => this.remove(node));
    for (const widget of node.widgets ?? []) {
      if (View.widgets.includes(widget.name)) {
        widget.callback = after(widget.callback, () => this.views.get(node)?.changed());
      }
    }
    this.kinds ??= new WeakMap();
    this.kinds.set(node, View);
    this.add(node, View);
  }

  /** A node came out of a file: switches that the file holds as text become what the text says. */
  loaded(node) {
    if (!this.kinds?.has(node)) return;
    for (const widget of node.widgets ?? []) {
      if (widget.type !== "toggle" || typeof widget.value !== "string") continue;
      const text = widget.value.trim().toLowerCase(); // ComfyUI would take any for on
      const [on, off] = [widget.options?.on, widget.options?.off].map((label) => String(label ?? "").toLowerCase());
      if (text && ["true", on].includes(text)) widget.value = true;
      else if (text && ["false", off].includes(text)) widget.value = false;
    }
  }

  add(node, View) {
    if (this.views.has(node) || !this.settings("Maskwright.View.Show")) return;
    const view = new View({
      texts: this.texts,
      settings: () => ({ mode: this.settings("Maskwright.View.Mode"), size: this.settings("Maskwright.View.Size") }),
      widgets: () => valuesOf(node),
      load: (file) => load(this.api, file),
      resized: () => fit(node, view),
    });
    view.received = (entries) => {
      view.isDue = false;
      if (Array.isArray(entries) && entries.length) view.show(entries);
    };
    view.element.addEventListener("wheel", (event) => {
      // The canvas renderer lays the view over the canvas, which would not learn that it is to be zoomed.
      if (this.settings("Comfy.VueNodes.Enabled")) return;
      event.preventDefault();
      this.app.canvas?.canvas?.dispatchEvent(new WheelEvent(event.type, event));
    });
    // Two words for two kinds of saving: `options.serialize` keeps it out of the prompt, `serialize` out of the file.
    const widget = node.addDOMWidget(WIDGET, WIDGET, view.element, {
      serialize: false,
      hideOnZoom: false,
      margin: MARGIN,
      getMinHeight: () => view.height + 2 * MARGIN,
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false;
    view.widget = widget;
    this.views.set(node, view);
  }

  remove(node) {
    this.views.get(node)?.leave();
    this.views.delete(node);
  }

  /** The settings have changed: views appear, go, or have another size. */
  refresh() {
    if (!this.isStarted) return; // settings are read before there is a graph
    const shown = this.settings("Maskwright.View.Show");
    for (const [node] of nodesOf(this.root)) {
      const View = this.kinds?.get(node);
      if (!View) continue;
      const view = this.views.get(node);
      if (shown && !view) {
        this.add(node, View);
      } else if (!shown && view) {
        this.remove(node);
        node.removeWidget(view.widget);
        view.widget.onRemove?.();
      }
      this.views.get(node)?.refresh();
      fit(node, view ?? this.views.get(node));
    }
    if (shown) this.restore();
  }

  get root() {
    return this.app.rootGraph ?? this.app.graph;
  }

  // -- results that are there already ---------------------------------------------------------------------------------

  /** Show what the editor remembers of earlier runs, as after switching to another workflow and back. */
  remembered(outputs) {
    for (const [node, path] of nodesOf(this.root)) {
      const view = this.views.get(node);
      const entries = (outputs?.[locatorOf(node, this.root)] ?? outputs?.[path])?.[KEY];
      if (view && Array.isArray(entries) && entries.length && entries !== view.remembered) {
        view.remembered = entries;
        view.received(entries);
      }
    }
  }

  /** A workflow was loaded: show what the editor remembers, else what the server does, as after a reload of the page. */
  async restore() {
    this.remembered(this.app.nodeOutputs);
    const id = this.root?.id;
    if (!id || /^[0-]+$/.test(id)) return;
    await this.recall((run, path, node) => {
      const [, , prompt, extra] = run.prompt;
      return extra?.extra_pnginfo?.workflow?.id === id && prompt[path]?.class_type === node.comfyClass;
    });
  }

  /** Fill empty views with what the server remembers of the newest run that `fits`. */
  async recall(fits, among = () => true) {
    const empty = [...nodesOf(this.root)].filter(([node, path]) => {
      return this.views.get(node)?.entries.length === 0 && among(path);
    });
    if (!empty.length) return;
    let runs;
    try {
      const answer = await this.api.fetchApi(`/history?max_items=${RUNS_SEARCHED}`);
      runs = Object.entries(await answer.json());
    } catch {
      return; // nothing to show is no fault
    }
    runs.sort(([, one], [, other]) => other.prompt[0] - one.prompt[0]);
    const byId = Object.fromEntries(runs);
    for (const [node, path] of empty) {
      const view = this.views.get(node);
      const found = runs.find(([, run]) => run.outputs?.[path]?.[KEY] && fits(run, path, node, byId));
      if (found && view?.entries.length === 0) view.received(found[1].outputs[path][KEY]);
    }
  }

  // -- a run ----------------------------------------------------------------------------------------------------------

  started() {
    this.cached = new Set();
    for (const [node, view] of this.views) {
      view.isDue = true;
      const { texts } = this;
      view.tell(node.mode === MUTED ? texts.muted : node.mode === BYPASSED ? texts.bypassed : "");
    }
  }

  /** These nodes have their results already. */
  reached(paths) {
    this.cached = new Set(paths);
    for (const [node, path] of nodesOf(this.root)) {
      const view = this.views.get(node);
      if (view && paths.includes(path)) view.isDue = false;
    }
  }

  /**
   * Some hosts do not send again what a node shows that did not have to run. A view that has nothing then shows what
   * the run sent that did the same.
   */
  succeeded(id) {
    const { cached } = this;
    const fits = (run, path, node, byId) => byId[id] && isSame(byId[id].prompt[2], run.prompt[2], path);
    return this.recall(fits, (path) => cached.has(path));
  }

  ended(detail, failed) {
    const nodes = [...nodesOf(this.root)];
    const at = nodes.find(([, path]) => path === String(detail.node_id));
    // The run may have been another workflow's, whose nodes are not here.
    if (!at || (detail.node_type && at[0].comfyClass !== detail.node_type)) return;
    const { texts } = this;
    for (const [node, path] of nodes) {
      const view = this.views.get(node);
      if (!view?.isDue || node.mode === MUTED || node.mode === BYPASSED) continue;
      if (!failed) view.tell(texts.interrupted);
      else if (path !== String(detail.node_id)) view.tell(texts.failedBefore);
      else view.tell(filled(texts.failed, { reason: String(detail.exception_message ?? "").trim().split("\n")[0] }));
    }
  }

  working(detail) {
    for (const [node, path] of nodesOf(this.root)) {
      const view = this.views.get(node);
      if (path === String(detail.node) && view?.working) view.working(detail);
    }
  }
}

/** Whether a node gets the same values in two prompts, from nodes of which the same is true. */
function isSame(prompt, other, path) {
  const [node, twin] = [prompt[path], other[path]];
  if (!node || node.class_type !== twin?.class_type) return false;
  const names = Object.keys(node.inputs);
  return names.length === Object.keys(twin.inputs).length && names.every((name) => {
    const [value, second] = [node.inputs[name], twin.inputs[name]];
    if (JSON.stringify(value) !== JSON.stringify(second)) return false;
    return !Array.isArray(value) || isSame(prompt, other, String(value[0]));
  });
}

/** A function that does what `first` did, then calls `second`. */
function after(first, second) {
  return function (...values) {
    const result = first?.apply(this, values);
    second(...values);
    return result;
  };
}

/** The node's widgets by name, without those that a link feeds. */
function valuesOf(node) {
  const linked = new Set((node.inputs ?? []).filter((input) => input.link != null).map((input) => input.name));
  const widgets = (node.widgets ?? []).filter((widget) => !linked.has(widget.name) && widget.name !== WIDGET);
  return Object.fromEntries(widgets.map((widget) => [widget.name, widget.value]));
}

/** The node as high as its widgets need; no higher where the view was closed. */
function fit(node, view) {
  if (!node.graph) return;
  const [width, height] = node.computeSize();
  const closed = view && !view.isOpen;
  node.setSize([Math.max(node.size[0], width), closed ? height : Math.max(node.size[1], height)]);
  node.graph.setDirtyCanvas?.(true, true);
}

async function load(api, file) {
  const answer = await api.fetchApi(`/view?${new URLSearchParams(file)}`);
  if (!answer.ok) throw Object.assign(new Error(`${answer.status}`), { isMissing: answer.status === 404 });
  const blob = await answer.blob();
  // The numbers as they are in the file, whatever the screen's colours.
  return createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}

/** Every node of a graph and of the subgraphs in it, with its path as a run names it ("3:5" is node 5 inside node 3). */
function* nodesOf(graph, before = "") {
  for (const node of graph?.nodes ?? []) {
    const path = `${before}${node.id}`;
    yield [node, path];
    if (node.subgraph) yield* nodesOf(node.subgraph, `${path}:`);
  }
}

/** The key of a node in the editor's memory of results. */
function locatorOf(node, root) {
  return node.graph && node.graph !== root ? `${node.graph.id}:${node.id}` : String(node.id);
}
