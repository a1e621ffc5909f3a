// Uploads the sample images of this pack's templates, so that a template runs as soon as it is opened.
//
// ComfyUI serves a pack's example_workflows but loads images only from its input folder. A template lists its images in
// `extra.maskwright_images`; the list is removed when the template is opened, so a saved copy uploads nothing.

import { filled } from "./texts.mjs";

export const LIST = "maskwright_images";
export const NOT_UPLOADED =
  "ComfyUI did not accept the template's sample images: {names} ({reason}). " +
  "Choose an image of your own in each Load Image node.";

const FILE_NAME = /^[\w-]+\.(jpg|png)$/;
const MOST_IMAGES = 8;
const TIMEOUT = 30_000; // milliseconds for one image
const LOADERS = ["LoadImage", "LoadImageMask"];

/** The image names that a workflow lists; empty if it is not a template of this pack. */
export function listedImages(workflow) {
  const names = workflow?.extra?.[LIST];
  if (!Array.isArray(names)) return [];
  const valid = names.filter((name) => typeof name === "string" && FILE_NAME.test(name));
  return [...new Set(valid)].slice(0, MOST_IMAGES);
}

/** Rename input files in a workflow, in place. `renamed` maps old names to new ones. */
export function renameImages(workflow, renamed) {
  for (const node of Array.isArray(workflow.nodes) ? workflow.nodes : []) {
    const values = node?.widgets_values;
    if (LOADERS.includes(node?.type) && Array.isArray(values) && renamed.has(values[0])) {
      values[0] = renamed.get(values[0]);
    }
  }
}

export class TemplateImages {
  /** `folder`: the pack's folder, as ComfyUI serves its templates. */
  constructor(app, api, folder) {
    Object.assign(this, { app, api, folder });
    this.uploaded = new Set(); // files in the input folder that are not in the page's list of images
  }

  /** Upload the images that a template lists and write their file names into it, in place. Never throws. */
  async prepare(workflow) {
    const names = listedImages(workflow);
    if (workflow?.extra) delete workflow.extra[LIST];
    const results = await Promise.allSettled(names.map((name) => this.upload(name)));
    const renamed = new Map();
    const failed = [];
    results.forEach(({ value, reason }, index) => {
      if (reason) failed.push({ name: names[index], reason });
      else renamed.set(names[index], value);
    });
    renamed.forEach((name) => this.uploaded.add(name));
    renameImages(workflow, renamed);
    if (failed.length) await this.report(failed);
  }

  /**
   * Upload one sample image. The server never overwrites: it keeps an identical file, and adds a number to the name if
   * another file has it.
   * @returns {Promise<string>} the name of the file in the input folder
   */
  async upload(name) {
    const signal = AbortSignal.timeout(TIMEOUT);
    const image = await this.api.fetchApi(
      `/workflow_templates/${encodeURIComponent(this.folder)}/assets/${name}`, { signal });
    if (!image.ok) throw new Error(`HTTP ${image.status}`);
    const body = new FormData();
    body.append("image", new File([await image.blob()], name));
    body.append("type", "input");
    const answer = await this.api.fetchApi("/upload/image", { method: "POST", body, signal });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const saved = (await answer.json())?.name;
    if (typeof saved !== "string" || !saved) throw new Error("the response has no file name");
    return saved;
  }

  /** Show a toast about images that were not uploaded. The editor marks the nodes whose image is missing. */
  async report(failed) {
    const detail = filled(await this.message(), {
      names: failed.map(({ name }) => name).join(", "),
      reason: failed[0].reason.message,
    });
    this.app.extensionManager?.toast?.add?.({ severity: "warn", summary: "Maskwright", detail, life: 15_000 });
  }

  async message() {
    const language = this.app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
    if (language === "en") return NOT_UPLOADED;
    try {
      const translations = await (await this.api.fetchApi("/i18n")).json();
      return translations?.[language]?.maskwrightTemplates?.notUploaded ?? NOT_UPLOADED;
    } catch {
      return NOT_UPLOADED;
    }
  }

  /** Add the uploaded images to the list of a new node. The editor fetched the list when the page was opened. */
  extendList(node) {
    if (!LOADERS.includes(node.comfyClass)) return;
    const values = node.widgets?.find((widget) => widget.name === "image")?.options?.values;
    if (!Array.isArray(values)) return;
    for (const name of this.uploaded) if (!values.includes(name)) values.push(name);
  }
}

/** The editor awaits `beforeConfigureGraph`, then builds the graph from the workflow that it passed. */
export function registerTemplates(app, api, folder) {
  const images = new TemplateImages(app, api, folder);
  app.registerExtension({
    name: "maskwright.templates",
    beforeConfigureGraph: (workflow) => images.prepare(workflow),
    nodeCreated: (node) => images.extendList(node),
  });
}
