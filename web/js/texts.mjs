// Texts of the views. English is here; other languages are in locales/<language>/main.json, key "maskwright".

export const ENGLISH = {
  view: "Live view",
  heatMap: "Heat map",
  outline: "Outline",
  cutout: "Cutout",
  blackAndWhite: "B/W",
  opacity: "Overlay opacity",
  previous: "Previous image",
  next: "Next image",
  page: "{page} of {pages}",
  close: "Hide preview",
  open: "Show preview",
  larger: "Larger view (or double-click the image)",
  closeLarger: "Close (Esc)",
  save: "Save",
  saveImage: "Save this view as a PNG file of at most 1024 x 1024 pixels",
  copy: "Copy",
  copyImage: "Copy this view to the clipboard",
  copied: "Copied.",
  notCopied: "Could not copy: {reason}",
  editMask: "Open this mask in ComfyUI's mask editor. A new Load Image node will output the edited mask.",
  notEdited: "Could not open the mask editor: {reason}",
  sheet: "All images",
  showSheet: "Show all images of the batch. Click one to open it.",
  compare: "Before on the left, after on the right. Drag, or use the arrow keys.",
  backdrop: "Backdrop",
  changeBackdrop: "Change the background of the cutout: a checkerboard, none (the mask alone), a color, or the darkened image",
  regions: "Regions",
  showRegions: "Show the regions and their numbers",
  nothingYet: "No result yet. Run the workflow.",
  unused: "This node was not part of the run. Connect an output such as Preview Image, then run.",
  waiting: "Waiting for the nodes before this one …",
  loading: "Loading …",
  phaseLoading: "Loading the model …",
  phaseDownload: "Downloading the model …",
  phaseSubject: "Finding the subject …",
  phaseEdges: "Refining edges …",
  phaseColors: "Removing the background's color …",
  phaseWork: "Working …",
  percent: "{phase} {percent} %",
  gone: "The preview files are gone (ComfyUI clears them on restart). Run again.",
  unreadable: "Could not show this result: {reason}",
  failed: "The run failed: {reason}",
  failedBefore: "The run failed at '{node}' before reaching this node: {reason}",
  interrupted: "Cancelled before this node finished.",
  muted: "This node is muted, so it did not run.",
  bypassed: "This node is bypassed, so it did not run.",
  shownBefore: "The image above is from an earlier run.",
  otherText: "Text or resolution has changed. Run again to update.",
  noText: "No text, so the selection is arbitrary.",
  nothingSelected: "Nothing found above the threshold. Try lowering it.",
  erased: "{name} leaves nothing selected.",
  lower: "Lower it to keep more.",
  moveToZero: "Move it toward 0 to keep more.",
  turnOff: "Turn it off to keep the selection.",
  noMask: "The batch contains no mask: nothing is selected.",
  emptyMask: "The mask is black: nothing is selected.",
  noEdge: "There is no edge: the mask is uniform, or kernel_size is 1.",
  noRegion: "No selected region is larger than drop_size, so nothing was changed.",
  regionOrder: "The numbers are the lines of region_prompts: mask by mask, and in each mask from the bottom up.",
  noInstance: "Nothing is selected.",
  picked: "{picked} of {count} picked. Click an instance to add or remove it.",
  togglePick: "Add {number} to pick, or remove it",
  pickUnreadable: "pick is not a list of numbers such as 0, 2-4.",
  otherSettings: "The settings have changed. Run again to update.",
  nothingCropped: "Nothing is selected. Region Stitch will return the image unchanged, without running the nodes in between.",
  nothingStitched: "Nothing was selected, so the image is unchanged.",
  region: "Region {number} of {count} …",
};

const LONGEST_REASON = 800; // characters of an error message, which ends with the remedy

/** The texts in a language, from the host's list of translations; English where one is missing. */
export function textsIn(language, translations) {
  return { ...ENGLISH, ...(translations?.[language]?.maskwright ?? {}) };
}

/** A text with its {names} filled in. */
export function filled(text, values = {}) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The first line of an error message, each URL only once, cut to a readable length. */
export function shortened(message, length = LONGEST_REASON) {
  const [line] = String(message ?? "").slice(0, 20 * length).trim().split("\n");
  const seen = new Set();
  const once = line.replace(/\s*\bhttps?:\/\/[^\s,;)]+/g, (match) => {
    const url = match.trim();
    if (!seen.has(url)) {
      seen.add(url);
      return match;
    }
    return match.startsWith(url) ? "…" : " …";
  });
  if (once.length <= length) return once;
  const cut = once.slice(0, length);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(" "), length - 40))} …`;
}
