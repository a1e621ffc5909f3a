// Which node has which view. `app` and `api` are the editor's own.

import { ComparisonView } from "./comparison_view.mjs";
import { CropView, StitchView } from "./crop_views.mjs";
import { EditView } from "./edit_view.mjs";
import { hostsOf, idOf, nodesOf, setValue, valuesOf } from "./graph.mjs";
import { InstancesView } from "./instances_view.mjs";
import { MaskEditor } from "./mask_editor.mjs";
import { RegionsView } from "./regions_view.mjs";
import { Results } from "./results.mjs";
import { Runs } from "./runs.mjs";
import { SelectionView } from "./selection_view.mjs";
import { textsIn } from "./texts.mjs";
import { addWidget, focusEditor, Heights } from "./widget.mjs";

/** By node id, including other packs' ids that this pack registers. */
const VIEWS = {
  CLIPSeg: SelectionView,
  CLIPSeg_: SelectionView,
  CLIPSegMasking: SelectionView,
  "CLIPSeg Masking": SelectionView,
  SaltCLIPSegMasking: SelectionView,
  EditMask: EditView,
  GradientRegion: EditView,
  SaltMaskGradientRegion: EditView,
  ImageSegmentation: ComparisonView,
  RefineMask: ComparisonView,
  MaskDetailerPipe: RegionsView,
  RegionCrop: CropView,
  RegionStitch: StitchView,
  MaskInstances: InstancesView,
};

const PROPERTY = "maskwright_view"; // a node's property with the user's settings in its view

/** The pack's folder in a URL like .../extensions/<folder>/js/maskwright.js. */
export function folderOf(url) {
  const parts = new URL(url).pathname.split("/");
  return decodeURIComponent(parts[parts.lastIndexOf("extensions") + 1] ?? "");
}

export class NodeViews {
  constructor(app, api, folder, settings) {
    Object.assign(this, { app, api, folder, settings });
    this.views = new Map(); // node -> its view, for all nodes in a graph
    this.kinds = new WeakMap(); // node -> the class of its view
    this.texts = textsIn("en", {});
    this.heights = new Heights();
    this.followed = new WeakSet(); // promoted widgets whose changes redraw the views
    this.removed = []; // [id, class, element] of removed nodes whose elements may still be on the page
    this.maskEditor = new MaskEditor(app, api);
    this.results = new Results(this);
    this.runs = new Runs(this);
  }

  /** Listen to runs, and load the texts in the editor's language. */
  async start() {
    this.isStarted = true;
    this.runs.listen();
    const { ds } = this.app.canvas ?? {};
    if (ds) ds.onChanged = after(ds.onChanged, () => this.zoomed());
    const language = this.settings("Comfy.Locale") ?? "en";
    if (language === "en") return;
    try {
      const answer = await this.api.fetchApi("/i18n");
      Object.assign(this.texts, textsIn(language, await answer.json()));
    } catch (error) {
      console.warn("Maskwright: could not load the translations. Using English.", error);
    }
    for (const view of this.views.values()) view.widget.label = this.texts.view;
  }

  /** Attach a view to a new node, if it is one of this pack's nodes with a view. */
  attach(node) {
    const definition = node.constructor?.nodeData;
    const View = VIEWS[String(node.comfyClass ?? "").replace(/ \(Maskwright\)$/, "")];
    // Another pack may have registered the id: only the host knows where a node comes from.
    if (!View || String(definition?.python_module ?? "").split(".").slice(1).join(".") !== this.folder) return;
    node.onAdded = after(node.onAdded, () => this.add(node));
    node.onRemoved = after(node.onRemoved, () => this.remove(node));
    node.onConfigure = after(node.onConfigure, () => this.views.get(node)?.resume(node.properties?.[PROPERTY]));
    for (const widget of node.widgets ?? []) {
      if (View.widgets.includes(widget.name)) {
        widget.callback = after(widget.callback, () => this.views.get(node)?.changed());
      }
    }
    this.kinds.set(node, View);
    this.add(node);
    this.heights.begin(node);
  }

  /** A node was loaded from a file: convert switches saved as text. */
  loaded(node) {
    if (!this.kinds.has(node)) return;
    for (const widget of node.widgets ?? []) {
      if (widget.type !== "toggle" || typeof widget.value !== "string") continue;
      const text = widget.value.trim().toLowerCase(); // ComfyUI would treat any text as on
      const [on, off] = [widget.options?.on, widget.options?.off].map((label) => String(label ?? "").toLowerCase());
      if (text && ["true", on].includes(text)) widget.value = true;
      else if (text && ["false", off].includes(text)) widget.value = false;
    }
  }

  add(node) {
    if (this.views.has(node) || !this.settings("Maskwright.View.Show")) return;
    const View = this.kinds.get(node);
    const view = new View({
      texts: this.texts,
      settings: () => this.viewSettings(),
      widgets: () => this.widgetsOf(node),
      label: (name) => node.widgets?.find((widget) => widget.name === name)?.label || name,
      change: (name, value) => this.change(node, name, value),
      load: (file) => load(this.api, file),
      resize: (change) => this.heights.adapt(node, change, () => view.isOpen),
      remember: (state) => {
        node.properties ??= {};
        if (state) node.properties[PROPERTY] = state;
        else delete node.properties[PROPERTY];
      },
      releaseFocus: () => focusEditor(this.app),
      canEditMask: () => this.maskEditor.isAvailable,
      editMask: (file) => this.maskEditor.open(file, node),
    });
    view.resume(node.properties?.[PROPERTY]);
    view.widget = addWidget(node, view, this.app, () => !!this.settings("Comfy.VueNodes.Enabled"));
    view.widget.label = this.texts.view;
    this.views.set(node, view);
  }

  remove(node) {
    const view = this.views.get(node);
    if (!view) return;
    view.leave();
    this.views.delete(node);
    this.removed.push([node.id, node.comfyClass, view.element]);
    setTimeout(() => {
      this.removed = this.removed.filter(([, , element]) => element.isConnected);
    }, 1000);
  }

  /**
   * The editor's Vue renderer keeps the element that a node id had when it was mounted. After an undo, which creates
   * all nodes again, that is the element of a removed view. Replace it with the new one.
   */
  replaceRemoved() {
    for (const [node] of nodesOf(this.root)) {
      const view = this.views.get(node);
      if (!view || view.element.isConnected) continue;
      const old = this.removed.find(([id, type, element]) => {
        return id === node.id && type === node.comfyClass && element.isConnected;
      });
      old?.[2].replaceWith(view.element);
    }
    this.removed = [];
  }

  /** The settings have changed: add, remove or resize views. */
  refresh() {
    if (!this.isStarted) return; // the editor reads settings before it has a graph
    const isOn = this.settings("Maskwright.View.Show");
    for (const [node] of nodesOf(this.root)) {
      if (!this.kinds.has(node)) continue;
      this.heights.adapt(node, () => this.apply(node, isOn), () => this.views.get(node)?.isOpen ?? false);
    }
    if (isOn) this.restore();
  }

  /** Apply the settings to one node. */
  apply(node, isOn) {
    const view = this.views.get(node);
    if (isOn && !view) {
      this.add(node);
    } else if (!isOn && view) {
      this.remove(node);
      node.removeWidget(view.widget);
      view.widget.onRemove?.();
    } else if (view) {
      view.size = this.viewSettings().size;
      view.refresh();
    }
  }

  /** A workflow was loaded: show its earlier results and its run in progress. */
  restore() {
    requestAnimationFrame(() => requestAnimationFrame(() => this.replaceRemoved())); // once the editor has drawn it
    return Promise.all([this.results.restore(), this.runs.restore()]);
  }

  /** The editor's zoom has changed. Its elements follow a frame later. */
  zoomed() {
    if (this.zooming) return;
    this.zooming = true;
    requestAnimationFrame(() =>
      requestAnimationFrame(() => {
        this.zooming = false;
        for (const view of this.views.values()) view.zoomed();
      }),
    );
  }

  viewSettings() {
    return { mode: this.settings("Maskwright.View.Mode"), size: this.settings("Maskwright.View.Size") };
  }

  /** The values of a node's widgets, including those promoted to a subgraph's node. */
  widgetsOf(node) {
    return valuesOf(node, this.hostsOf(node), (widget) => this.follow(widget));
  }

  /** Change the value of a node's widget, as a user would. */
  change(node, name, value) {
    if (setValue(node, this.hostsOf(node), name, value, this.app.canvas)) node.graph?.setDirtyCanvas?.(true, true);
  }

  hostsOf(node) {
    return hostsOf(this.root, node.graph === this.root ? String(node.id) : this.pathOf(node));
  }

  /** A node's path. A subgraph may be in a workflow several times: then the path of the node's last result. */
  pathOf(node) {
    const paths = [...nodesOf(this.root)].filter(([each]) => each === node).map(([, path]) => path);
    const last = this.views.get(node)?.path;
    return paths.includes(last) ? last : (paths[0] ?? "");
  }

  /** Redraw when a promoted widget changes. */
  follow(widget) {
    if (this.followed.has(widget)) return;
    this.followed.add(widget);
    widget.callback = after(widget.callback, () => {
      for (const view of this.views.values()) view.changed();
    });
  }

  /** Every view of the open workflow, as [view, path, node]. */
  *open() {
    for (const [node, path] of nodesOf(this.root)) {
      const view = this.views.get(node);
      if (view) yield [view, path, node];
    }
  }

  get root() {
    return this.app.rootGraph ?? this.app.graph;
  }

  /** The id of the workflow that is open, "" if it has none. */
  get workflow() {
    return idOf(this.root);
  }

  /** Whether a workflow id is that of the open workflow. Missing ids match any. */
  isHere(workflow) {
    return !workflow || !this.workflow || workflow === this.workflow;
  }
}

/** A function that calls `first`, then `second`, and returns what `first` returned. */
function after(first, second) {
  return function (...values) {
    const result = first?.apply(this, values);
    second(...values);
    return result;
  };
}

async function load(api, file) {
  const answer = await api.fetchApi(`/view?${new URLSearchParams(file)}`);
  if (!answer.ok) throw Object.assign(new Error(`${answer.status}`), { isMissing: answer.status === 404 });
  const blob = await answer.blob();
  // The values as stored in the file, without color management.
  return createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
}
