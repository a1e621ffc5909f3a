// What the views say. The English is here; other languages come from locales/<language>/main.json, key "maskwright".

export const ENGLISH = {
  heatMap: "Heat map",
  outline: "Outline",
  cutout: "Cutout",
  blackAndWhite: "B/W",
  opacity: "How strongly it lies over the picture",
  previous: "The picture before",
  next: "The next picture",
  page: "{page} of {pages}",
  close: "Close the view",
  open: "Open the view",
  compare: "Before on the left, after on the right. Drag, or use the arrow keys.",
  nothingYet: "Run the workflow to see the result here.",
  loading: "Loading …",
  gone: "The pictures of this run are no longer there. Run the workflow again to see them.",
  unreadable: "The pictures of this run cannot be shown: {reason}",
  failed: "The run failed: {reason}",
  failedBefore: "The run failed before it came to this node.",
  interrupted: "The run was interrupted before this node was done.",
  muted: "This node is muted, so it did not run.",
  bypassed: "This node is bypassed, so it did not run.",
  shownBefore: "This is the result of an earlier run.",
  otherText: "The text or the resolution has changed: run the workflow to see what it finds now.",
  nothingSelected: "Nothing is above the threshold.",
  region: "Region {number} of {count}",
};

/** The texts in a language, as the host hands out the packs' locales; in English what is missing there. */
export function textsIn(language, translations) {
  return { ...ENGLISH, ...(translations?.[language]?.maskwright ?? {}) };
}

/** A text with its {names} filled in. */
export function filled(text, values = {}) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}
