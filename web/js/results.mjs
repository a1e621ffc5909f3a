// Results of earlier runs: what the views get from the editor's memory and the server's history.

import { isSame, locatorOf, workflowOf } from "./graph.mjs";

export const KEY = "maskwright"; // of the views' data in what a node sends
const RUNS_SEARCHED = 16; // of the history, for a page that was reloaded

export class Results {
  /** @param {NodeViews} nodes */
  constructor(nodes) {
    this.nodes = nodes;
    this.latest = new Map(); // workflow and path -> the latest entries
  }

  /** Of a node in the open workflow; "" if that has no id, since others without one have such nodes, too. */
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

  /** Show what the editor remembers of earlier runs, as after switching to another workflow and back. */
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

  /** A workflow was loaded: show what the editor remembers, else what the server does, as after a reload. */
  async restore() {
    this.remembered(this.nodes.app.nodeOutputs);
    const id = this.nodes.workflow;
    if (!id) return;
    await this.recall((run, path, node) => {
      return workflowOf(run) === id && run.prompt[2][path]?.class_type === node.comfyClass;
    });
  }

  /**
   * A run has ended. Some hosts do not send again what a node shows that did not have to run. An empty view then shows
   * what an earlier run with the same values sent.
   */
  async completed(id, cached) {
    const fits = (run, path, node, byId) => {
      return byId[id] && this.nodes.isHere(workflowOf(byId[id])) && isSame(byId[id].prompt[2], run.prompt[2], path);
    };
    await this.recall(fits, (path) => cached.has(path));
  }

  /** Fill empty views with what the server remembers of the newest run that `fits`. */
  async recall(fits, among = () => true) {
    const empty = [...this.nodes.open()].filter(([view, path]) => !view.entries.length && among(path));
    if (!empty.length) return;
    let runs;
    try {
      const answer = await this.nodes.api.fetchApi(`/history?max_items=${RUNS_SEARCHED}`);
      runs = Object.entries(await answer.json());
    } catch {
      return; // nothing to show is no error
    }
    runs.sort(([, one], [, other]) => other.prompt[0] - one.prompt[0]);
    const byId = Object.fromEntries(runs);
    for (const [view, path, node] of empty) {
      const match = runs.find(([, run]) => run.outputs?.[path]?.[KEY] && fits(run, path, node, byId));
      if (match && !view.entries.length) this.show(view, path, match[1].outputs[path][KEY], true);
    }
  }
}
