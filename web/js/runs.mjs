// Shows the run in progress in the views: phases, results, failures.

import { nodeAt, workflowOf } from "./graph.mjs";
import { KEY } from "./results.mjs";
import { filled, shortened } from "./texts.mjs";

const [MUTED, BYPASSED] = [2, 4]; // a node's mode

export class Runs {
  /** @param {NodeViews} nodes */
  constructor(nodes) {
    this.nodes = nodes;
    this.regions = new Map(); // workflow and path -> the detailer's regions in the run in progress
    this.begin("");
  }

  begin(id) {
    this.id = id; // of the run in progress, or the last one
    this.prompt = null; // {nodes, workflow} of the run in progress, once known
    this.done = new Set(); // paths of finished nodes
    this.cached = new Set(); // paths of those that came from the cache
    this.active = { path: "", phase: "work", fraction: 0 };
    this.isOver = false;
    this.regions.clear();
  }

  listen() {
    const on = (name, act) => this.nodes.api.addEventListener(name, ({ detail }) => act(detail ?? {}));
    on("execution_start", (detail) => this.started(detail));
    on("execution_cached", ({ nodes }) => this.skipped(nodes ?? []));
    on("executing", (path) => this.entered(path));
    on("progress", (detail) => this.progressed(detail));
    on("maskwright.phase", (detail) => this.phaseBegan(detail));
    on("maskwright.regions", (detail) => this.working(detail));
    on("executed", (detail) => this.received(detail));
    on("execution_success", (detail) => this.succeeded(detail));
    on("execution_error", (detail) => this.ended(detail, true));
    on("execution_interrupted", (detail) => this.ended(detail, false));
    on("status", (detail) => {
      if (detail.exec_info?.queue_remaining === 0 && !this.isOver) this.over(); // as after a lost connection
    });
  }

  // -- a run in progress ----------------------------------------------------------------------------------------------

  async started({ prompt_id: id }) {
    this.begin(id);
    for (const [node, view] of this.nodes.views) {
      view.isDue = true;
      const { texts } = this.nodes;
      view.say(node.mode === MUTED ? texts.muted : node.mode === BYPASSED ? texts.bypassed : "");
    }
    await this.learnPrompt();
  }

  /** Show the run in progress, as after a reload or in another tab. */
  async restore() {
    for (const [view, path] of this.nodes.open()) {
      const work = this.regions.get(`${this.nodes.workflow}/${path}`);
      if (work) view.working?.(work);
    }
    if (this.prompt) this.report();
    else await this.learnPrompt();
  }

  /** Ask the server for the nodes and the workflow of the run in progress. */
  async learnPrompt() {
    const { id } = this;
    let running = [];
    try {
      const queue = await (await this.nodes.api.fetchApi("/queue")).json();
      running = queue.queue_running ?? [];
    } catch {
      return; // the views then show nothing about it
    }
    const prompt = id ? running.find(([, each]) => each === id) : running[0];
    if (!prompt || this.isOver || id !== this.id) return;
    this.id = prompt[1];
    this.prompt = { nodes: prompt[2], workflow: workflowOf({ prompt }) };
    this.report();
  }

  /** The results of these nodes are cached. */
  skipped(paths) {
    for (const path of paths) this.cached.add(path) && this.done.add(path);
    for (const [view, path] of this.nodes.open()) if (this.cached.has(path)) view.isDue = false;
    this.report();
  }

  /** A node has started. */
  entered(path) {
    if (this.active.path) this.done.add(this.active.path);
    this.active = { path: typeof path === "string" ? path : "", phase: "work", fraction: 0 };
    this.done.delete(this.active.path);
    this.report();
  }

  progressed({ node, value, max }) {
    if (String(node ?? this.active.path) !== this.active.path) return;
    this.active.fraction = max > 0 ? value / max : 0;
    this.report();
  }

  phaseBegan({ node, phase }) {
    if (String(node) !== this.active.path) return;
    this.active.phase = String(phase);
    this.report();
  }

  /** Report the run's phase to every view of its workflow. */
  report() {
    const { prompt, active } = this;
    if (!prompt || !this.nodes.isHere(prompt.workflow)) return;
    for (const [view, path] of this.nodes.open()) {
      if (!Object.hasOwn(prompt.nodes, path) || this.done.has(path)) view.report("");
      else if (path === active.path) view.report(active.phase, active.fraction);
      else view.report("waiting");
    }
  }

  /** The detailer has moved on to another region. */
  working(detail) {
    const key = `${detail.workflow ?? ""}/${detail.node}`;
    this.regions.set(key, { ...this.regions.get(key), ...detail });
    if (!this.nodes.isHere(detail.workflow)) return;
    for (const [view, path] of this.nodes.open()) if (path === String(detail.node)) view.working?.(detail);
  }

  // -- results and the end --------------------------------------------------------------------------------------------

  /** A node has finished. Nodes of other workflows may have the same path. */
  async received({ node, display_node: shownAt, output }) {
    const path = String(shownAt ?? node);
    const entries = output?.[KEY];
    if (!Array.isArray(entries)) return;
    // Cached entries may name another workflow: then that of the run counts.
    const { nodes } = this;
    if (!nodes.isHere(entries[0]?.workflow) && !nodes.isHere(await this.workflowOfRun(this.id))) return;
    this.done.add(path);
    for (const [view, each] of nodes.open()) if (each === path) nodes.results.show(view, path, entries);
  }

  async succeeded({ prompt_id: id }) {
    const { prompt, nodes } = this;
    this.over();
    if (prompt && nodes.isHere(prompt.workflow)) {
      for (const [view, path, node] of nodes.open()) {
        const isUnused = !Object.hasOwn(prompt.nodes, path) && !view.entries.length && !view.remark;
        if (isUnused && !node.constructor?.nodeData?.output_node) view.say(nodes.texts.unused);
      }
    }
    await nodes.results.completed(id, this.cached);
  }

  async ended(detail, isError) {
    const { id } = this;
    this.close();
    await this.explain(detail, isError, id);
    if (id === this.id) this.over();
  }

  /** Explain in the views why their nodes have no result. */
  async explain(detail, isError, id) {
    const { nodes } = this;
    const path = String(detail.node_id);
    const culprit = nodeAt(nodes.root, path);
    // The run may belong to another workflow.
    if (!culprit || (detail.node_type && culprit.comfyClass !== detail.node_type)) return;
    if (!nodes.isHere(await this.workflowOfRun(detail.prompt_id)) || id !== this.id) return;
    const { texts } = nodes;
    const reason = shortened(detail.exception_message);
    for (const [view, each, node] of nodes.open()) {
      if (!view.isDue || node.mode === MUTED || node.mode === BYPASSED) continue;
      if (!isError) view.say(texts.interrupted);
      else if (each === path) view.say(filled(texts.failed, { reason }), true);
      else view.say(filled(texts.failedBefore, { node: culprit.title ?? culprit.type, reason }), true);
    }
  }

  close() {
    this.prompt = null;
    this.isOver = true;
    this.regions.clear();
  }

  /** No run is in progress any more. */
  over() {
    this.close();
    for (const view of this.nodes.views.values()) view.report("");
  }

  /** The id of the workflow that a run belongs to; undefined if the server does not say. */
  async workflowOfRun(id) {
    const ask = async (route) => (await this.nodes.api.fetchApi(route)).json();
    try {
      const { queue_running: running = [] } = await ask("/queue");
      const prompt = running.find(([, each]) => each === id) ?? (await ask(`/history/${id}`))[id]?.prompt;
      return workflowOf({ prompt });
    } catch {
      return undefined;
    }
  }
}
