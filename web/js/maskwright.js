// Maskwright in the editor: registers the live views of the nodes, and their settings.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { MODES } from "./mask_view.mjs";
import { folderOf, NodeViews } from "./nodes.mjs";
import { registerTemplates } from "./templates.mjs";
import "./widgets.mjs";

const DEFAULTS = { "Maskwright.View.Show": true, "Maskwright.View.Mode": MODES[0], "Maskwright.View.Size": 240 };

const setting = (id) => app.extensionManager?.setting?.get(id) ?? DEFAULTS[id];
const views = new NodeViews(app, api, folderOf(import.meta.url), setting);

// The editor reports a change before applying it.
const refresh = () => queueMicrotask(() => views.refresh());

app.registerExtension({
  name: "maskwright.views",
  settings: [
    {
      id: "Maskwright.View.Show",
      category: ["Maskwright", "View", "Show"],
      name: "Show previews in nodes",
      tooltip: "Turn off to hide all previews.",
      type: "boolean",
      defaultValue: DEFAULTS["Maskwright.View.Show"],
      onChange: refresh,
    },
    {
      id: "Maskwright.View.Mode",
      category: ["Maskwright", "View", "Mode"],
      name: "Default preview mode",
      tooltip: "Applies to nodes added or opened from now on.",
      type: "combo",
      options: [
        { text: "Heat map", value: "heatMap" },
        { text: "Outline", value: "outline" },
        { text: "Cutout", value: "cutout" },
        { text: "Black and white", value: "blackAndWhite" },
      ],
      defaultValue: DEFAULTS["Maskwright.View.Mode"],
    },
    {
      id: "Maskwright.View.Size",
      category: ["Maskwright", "View", "Size"],
      name: "Minimum preview height (px)",
      tooltip: "Previews grow with their node.",
      type: "slider",
      attrs: { min: 120, max: 800, step: 20 },
      defaultValue: DEFAULTS["Maskwright.View.Size"],
      onChange: refresh,
    },
  ],
  setup: () => views.start(),
  nodeCreated: (node) => views.attach(node),
  loadedGraphNode: (node) => views.loaded(node),
  afterConfigureGraph: () => views.restore(),
  onNodeOutputsUpdated: (outputs) => views.results.remembered(outputs),
});

registerTemplates(app, api, folderOf(import.meta.url));
