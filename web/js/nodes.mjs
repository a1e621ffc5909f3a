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
const PROPERTY = "maskwright_view"; // of a node: what its view was set to
const MARGIN = 4; // pixels around the view
const RUNS_SEARCHED = 16; // of the history, for a page that was loaded anew
export const LONGEST_ID = 100; // of a workflow, in characters; the nodes send no longer one, and it counts as none
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
    this.shown = new Map(); // workflow and path -> the entries that were shown last
    this.regions = new Map(); // workflow and path -> where the run in progress works
    this.left = []; // [id, class, element] of nodes that have gone, until it is known that their elements have too
  }

  /** Learn the editor's language, and listen. */
  async start() {
    this.isStarted = true;
    const on = (name, act) => this.api.addEventListener(name, ({ detail }) => act(detail ?? {}));
    on("execution_start", (detail) => this.started(detail));
    on("execution_cached", ({ nodes }) => this.reached(nodes ?? []));
    on("execution_success", (detail) => this.succeeded(detail));
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
    node.onExecuted = after(node.onExecuted, (output) => this.received(node, output?.[KEY]));
    node.onAdded = after(node.onAdded, () => this.add(node, View));
    node.onRemoved = after(node.onRemoved, () => this.remove(node));
    node.onConfigure = after(node.onConfigure, () => this.views.get(node)?.resume(node.properties?.[PROPERTY]));
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
      remember: (state) => {
        node.properties ??= {};
        if (state) node.properties[PROPERTY] = state;
        else delete node.properties[PROPERTY];
      },
    });
    view.resume(node.properties?.[PROPERTY]);
    view.element.addEventListener("wheel", (event) => {
      // The canvas renderer lays the view over the canvas, which would not learn that it is to be zoomed.
      if (this.settings("Comfy.VueNodes.Enabled")) return;
      event.preventDefault();
      this.app.canvas?.canvas?.dispatchEvent(new WheelEvent(event.type, event));
    });
    // The middle button moves the canvas, also over a view.
    const pans = { pointerdown: "processMouseDown", pointermove: "processMouseMove", pointerup: "processMouseUp" };
    for (const [kind, act] of Object.entries(pans)) {
      view.element.addEventListener(kind, (event) => {
        if (kind === "pointermove" ? event.buttons & 4 : event.button === 1) this.app.canvas?.[act]?.(event);
      });
    }
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
    const view = this.views.get(node);
    if (!view) return;
    view.leave();
    this.views.delete(node);
    this.left.push([node.id, node.comfyClass, view.element]);
    setTimeout(() => {
      this.left = this.left.filter(([, , element]) => element.isConnected);
    }, 1000);
  }

  /**
   * The editor's Vue renderer shows the element that a node's number had when it was mounted: after an undo, which makes
   * all nodes anew, that of a view which has gone. The new one takes its place.
   */
  replaceLeft() {
    for (const [node] of nodesOf(this.root)) {
      const view = this.views.get(node);
      if (!view || view.element.isConnected) continue;
      const old = this.left.find(([id, type, element]) => {
        return id === node.id && type === node.comfyClass && element.isConnected;
      });
      old?.[2].replaceWith(view.element);
    }
    this.left = [];
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

  /** The id of the workflow that is open, "" where it has none. */
  get workflow() {
    const id = String(this.root?.id ?? "");
    return /^[0-]*$/.test(id) || id.length > LONGEST_ID ? "" : id;
  }

  /** Whether what belongs to a workflow belongs to the one that is open; what belongs to none does. */
  isHere(workflow) {
    return !workflow || !this.workflow || workflow === this.workflow;
  }

  /** Of a node in the workflow that is open; none where that has no id, since others without one have such nodes too. */
  keyOf(path) {
    return this.workflow && `${this.workflow}/${path}`;
  }

  // -- results that are there already ---------------------------------------------------------------------------------

  /** Show what the editor remembers of earlier runs, as after switching to another workflow and back. */
  remembered(outputs) {
    for (const [node, path] of nodesOf(this.root)) {
      const view = this.views.get(node);
      if (!view) continue;
      const kept = (outputs?.[locatorOf(node, this.root)] ?? outputs?.[path])?.[KEY];
      if (Array.isArray(kept) && kept !== view.remembered && this.isHere(kept[0]?.workflow)) {
        view.remembered = kept;
        this.show(node, kept);
      } else if (!view.entries.length) {
        this.show(node, this.shown.get(this.keyOf(path)));
      }
    }
  }

  /** A workflow was loaded: show what the editor remembers, else what the server does, as after a reload of the page. */
  async restore() {
    requestAnimationFrame(() => requestAnimationFrame(() => this.replaceLeft())); // once the editor has drawn it
    this.remembered(this.app.nodeOutputs);
    for (const [node, path] of nodesOf(this.root)) {
      const work = this.regions.get(this.keyOf(path));
      if (work) this.views.get(node)?.working?.(work);
    }
    const id = this.workflow;
    if (!id) return;
    await this.recall((run, path, node) => {
      return workflowOf(run) === id && run.prompt[2][path]?.class_type === node.comfyClass;
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
      const found = runs.find(([, run]) => run.outputs?.[path]?.[KEY] && fits(run, path, node, byId));
      if (found && this.views.get(node)?.entries.length === 0) this.show(node, found[1].outputs[path][KEY]);
    }
  }

  /** Give a node's view what a run of this workflow sent, if it is anything. */
  show(node, entries) {
    const view = this.views.get(node);
    if (!view || !Array.isArray(entries) || !entries.length) return;
    view.isDue = false;
    const path = [...nodesOf(this.root)].find(([each]) => each === node)?.[1];
    const key = path && this.keyOf(path);
    if (key) this.shown.set(key, entries);
    view.show(entries);
  }

  // -- a run ----------------------------------------------------------------------------------------------------------

  started({ prompt_id: id }) {
    this.run = id;
    this.cached = new Set();
    this.regions.clear();
    for (const [node, view] of this.views) {
      view.isDue = true;
      const { texts } = this;
      view.tell(node.mode === MUTED ? texts.muted : node.mode === BYPASSED ? texts.bypassed : "");
    }
  }

  /** A node of the run in progress is done. Another workflow's run may have nodes of the same numbers. */
  async received(node, entries) {
    if (!Array.isArray(entries) || !this.views.has(node)) return;
    // What the host had already, and sends again, may have been made for another workflow: then the run decides.
    if (this.isHere(entries[0]?.workflow) || this.isHere(await this.workflowOfRun(this.run))) this.show(node, entries);
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
  succeeded({ prompt_id: id }) {
    this.regions.clear();
    const { cached } = this;
    const fits = (run, path, node, byId) => {
      return byId[id] && this.isHere(workflowOf(byId[id])) && isSame(byId[id].prompt[2], run.prompt[2], path);
    };
    return this.recall(fits, (path) => cached.has(path));
  }

  async ended(detail, failed) {
    this.regions.clear();
    const nodes = [...nodesOf(this.root)];
    const at = nodes.find(([, path]) => path === String(detail.node_id));
    // The run may have been another workflow's.
    if (!at || (detail.node_type && at[0].comfyClass !== detail.node_type)) return;
    const { run, texts } = this;
    if (!this.isHere(await this.workflowOfRun(detail.prompt_id)) || run !== this.run) return;
    for (const [node, path] of nodes) {
      const view = this.views.get(node);
      if (!view?.isDue || node.mode === MUTED || node.mode === BYPASSED) continue;
      if (!failed) view.tell(texts.interrupted);
      else if (path !== String(detail.node_id)) view.tell(texts.failedBefore);
      else view.tell(filled(texts.failed, { reason: String(detail.exception_message ?? "").trim().split("\n")[0] }));
    }
  }

  /** The id of the workflow that the run of a prompt is of; undefined where the server does not tell. */
  async workflowOfRun(id) {
    const ask = async (route) => (await this.api.fetchApi(route)).json();
    try {
      const { queue_running: running = [] } = await ask("/queue");
      const prompt = running.find(([, each]) => each === id) ?? (await ask(`/history/${id}`))[id]?.prompt;
      return workflowOf({ prompt });
    } catch {
      return undefined;
    }
  }

  working(detail) {
    const key = `${detail.workflow ?? ""}/${detail.node}`;
    this.regions.set(key, { ...this.regions.get(key), ...detail });
    if (!this.isHere(detail.workflow)) return;
    for (const [node, path] of nodesOf(this.root)) {
      const view = this.views.get(node);
      if (path === String(detail.node) && view?.working) view.working(detail);
    }
  }
}

/** The id of the workflow that a run of the server's history is of. */
function workflowOf(run) {
  return run.prompt?.[3]?.extra_pnginfo?.workflow?.id;
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
