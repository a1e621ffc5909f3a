// Results of earlier runs, from the editor's store and the server's history.

import { isSame, locatorOf, workflowOf } from "./graph.mjs";

export const KEY = "maskwright"; // of the preview data in a node's output
const RUNS_SEARCHED = 16; // newest runs of the history, searched after a reload

export class Results {
  /** @param {NodeViews} nodes */
  constructor(nodes) {
    this.nodes = nodes;
    this.latest = new Map(); // workflow and path -> the latest entries
  }

  /** Key of a node in the open workflow; "" if that has no id, since paths alone do not tell workflows apart. */
  keyOf(path) {
    return this.nodes.workflow && `${this.nodes.workflow}/${path}`;
  }

  /**
   * Give a view the entries that a run of this workflow sent, if there are any.
   *
   * @param {boolean} isRecalled Whether they come from the server's history, whose files may be gone.
   */
  show(view, path, entries, isRecalled = false) {
    if (!Array.isArray(entries) || !entries.length) return;
    view.isDue = false;
    view.path = path;
    const key = this.keyOf(path);
    if (key && !isRecalled) this.latest.set(key, entries);
    view.isRecalled = isRecalled;
    view.show(entries);
  }

  /** Show the editor's stored results, as after switching to another workflow and back. */
  remembered(outputs) {
    const { nodes } = this;
    for (const [view, path, node] of nodes.open()) {
      const entries = (outputs?.[locatorOf(node, nodes.root)] ?? outputs?.[path])?.[KEY];
      if (Array.isArray(entries) && entries !== view.remembered && nodes.isHere(entries[0]?.workflow)) {
        view.remembered = entries;
        this.show(view, path, entries);
      } else if (!view.entries.length) {
        this.show(view, path, this.latest.get(this.keyOf(path)));
      }
    }
  }

  /** A workflow was loaded: show the editor's stored results, else those in the server's history. */
  async restore() {
    this.remembered(this.nodes.app.nodeOutputs);
    const id = this.nodes.workflow;
    if (!id) return;
    await this.recall((run, path, node) => {
      return workflowOf(run) === id && run.prompt[2][path]?.class_type === node.comfyClass;
    });
  }

  /**
   * A run has ended. Some hosts do not resend the previews of cached nodes: empty views then show those of an earlier
   * run with the same inputs.
   */
  async completed(id, cached) {
    const fits = (run, path, node, byId) => {
      return byId[id] && this.nodes.isHere(workflowOf(byId[id])) && isSame(byId[id].prompt[2], run.prompt[2], path);
    };
    await this.recall(fits, (path) => cached.has(path));
  }

  /** Fill empty views from the newest run in the server's history that `fits`. */
  async recall(fits, among = () => true) {
    const empty = [...this.nodes.open()].filter(([view, path]) => !view.entries.length && among(path));
    if (!empty.length) return;
    let runs;
    try {
      const answer = await this.nodes.api.fetchApi(`/history?max_items=${RUNS_SEARCHED}`);
      runs = Object.entries(await answer.json());
    } catch {
      return; // without a history there is nothing to show
    }
    runs.sort(([, one], [, other]) => other.prompt[0] - one.prompt[0]);
    const byId = Object.fromEntries(runs);
    for (const [view, path, node] of empty) {
      const match = runs.find(([, run]) => run.outputs?.[path]?.[KEY] && fits(run, path, node, byId));
      if (match && !view.entries.length) this.show(view, path, match[1].outputs[path][KEY], true);
    }
  }
}
