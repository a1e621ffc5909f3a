// Style sheet of the views. Each view contains it, so that the page around it is not affected.

export const STYLE = `
.maskwright-view {
  display: flex;
  flex-direction: column;
  box-sizing: border-box;
  width: 100%;
  height: 100%;
  min-width: 0;
  overflow: hidden;
  border-radius: 4px;
  background: var(--comfy-input-bg, #222);
  color: var(--input-text, #ddd);
  font: 11px/1.3 sans-serif;
}
.maskwright-view [hidden] {
  display: none !important;
}
.maskwright-bar {
  display: flex;
  flex: none;
  align-items: flex-start;
  gap: 2px;
  min-height: 24px;
  padding: 2px;
  box-sizing: border-box;
}
.maskwright-tools {
  display: flex;
  flex: 1 1 auto;
  flex-wrap: wrap;
  align-items: center;
  gap: 2px;
  min-width: 0;
}
.maskwright-pages {
  display: flex;
  flex: none;
  align-items: center;
  gap: 2px;
}
.maskwright-button {
  padding: 2px 4px;
  border: 1px solid transparent;
  border-radius: 3px;
  background: transparent;
  color: inherit;
  font: inherit;
  cursor: pointer;
}
.maskwright-button:hover {
  border-color: var(--border-color, #555);
}
.maskwright-button[aria-pressed="true"] {
  background: var(--border-color, #4e4e4e);
}
.maskwright-button:focus-visible,
.maskwright-canvas:focus-visible {
  outline: 1px solid currentColor;
}
.maskwright-toggle {
  flex: none;
  margin-left: auto;
}
.maskwright-opacity {
  flex: 1 1 32px;
  width: 32px;
  min-width: 32px;
  max-width: 120px;
  height: 14px;
  margin: 0 2px;
}
.maskwright-corner {
  display: flex;
  flex: none;
  gap: 2px;
}
.maskwright-stage > .maskwright-corner {
  position: absolute;
  z-index: 2;
  top: 2px;
  right: 2px;
}
.maskwright-stage > .maskwright-corner > button {
  background: rgb(0 0 0 / 50%);
  color: #fff;
}
.maskwright-files {
  display: none;
}
.maskwright-larger[open] {
  display: flex;
  flex-direction: column;
  box-sizing: border-box;
  width: 96vw;
  height: 94vh;
  max-width: none;
  max-height: none;
  margin: auto;
  padding: 8px;
  border: 1px solid var(--border-color, #555);
  border-radius: 6px;
  background: var(--comfy-input-bg, #222);
  color: inherit;
  font: 13px/1.3 sans-serif;
}
.maskwright-larger::backdrop {
  background: rgb(0 0 0 / 60%);
}
.maskwright-larger .maskwright-files {
  display: flex;
  flex: none;
  gap: 2px;
}
.maskwright-larger .maskwright-toggle {
  display: none;
}
.maskwright-sheet {
  display: grid;
  flex: 1 1 0;
  grid-template-columns: repeat(auto-fill, minmax(140px, 1fr));
  align-content: start;
  gap: 8px;
  min-height: 0;
  overflow: auto;
}
.maskwright-larger:has(.maskwright-sheet) :is(.maskwright-tools, .maskwright-pages, .maskwright-edit) {
  visibility: hidden; /* they are about one image */
}
.maskwright-sheet button {
  display: flex;
  flex-direction: column;
  align-items: center;
  gap: 2px;
}
.maskwright-sheet canvas {
  max-width: 100%;
}
.maskwright-stage {
  position: relative;
  flex: 1 1 0;
  min-height: 0;
  container-type: size;
}
.maskwright-canvas {
  position: absolute;
  inset: 0;
  width: 100%;
  height: 100%;
  object-fit: contain;
  touch-action: none;
}
.maskwright-message {
  position: absolute;
  inset: 0;
  display: flex;
  align-items: center;
  justify-content: center;
  padding: 8px;
  overflow: auto;
  overflow-wrap: anywhere;
  text-align: center;
  opacity: 0.8;
}
.maskwright-note {
  flex: none;
  max-height: 4.2em; /* about three lines, so that most of the image stays visible */
  margin: 2px 4px;
  overflow: auto;
  overflow-wrap: anywhere;
  opacity: 0.8;
}
.maskwright-error {
  /* Red enough to be seen, and near enough to the text's color to be read in light and dark themes. */
  color: color-mix(in srgb, var(--input-text, #ddd) 35%, #ff4d4d);
  opacity: 1;
}
.maskwright-boxes {
  position: absolute;
  inset: 0;
  width: min(100cqw, 100cqh * var(--maskwright-ratio, 1));
  height: min(100cqh, 100cqw / var(--maskwright-ratio, 1));
  margin: auto;
  overflow: hidden;
  pointer-events: none;
  --maskwright-pixel: 1px; /* one pixel of the screen */
  --maskwright-color: #6fdc8c;
}
.maskwright-box {
  position: absolute;
  box-sizing: border-box;
  border: calc(1.5 * var(--maskwright-pixel)) solid var(--maskwright-color);
}
.maskwright-box-current {
  z-index: 1;
  --maskwright-color: #ffe14d;
}
.maskwright-box-waiting {
  --maskwright-color: #ddd;
}
.maskwright-number {
  position: absolute;
  padding: 0 calc(3 * var(--maskwright-pixel));
  background: var(--maskwright-color);
  color: #000;
  font-size: calc(12 * var(--maskwright-pixel));
  line-height: 1.2;
}
.maskwright-instance {
  --maskwright-margin: calc(8 * var(--maskwright-pixel));
  left: clamp(var(--maskwright-margin), var(--maskwright-x), 100% - var(--maskwright-margin));
  top: clamp(var(--maskwright-margin), var(--maskwright-y), 100% - var(--maskwright-margin));
  transform: translate(-50%, -50%);
  border: 0;
  border-radius: calc(3 * var(--maskwright-pixel));
  font-family: inherit;
  cursor: pointer;
  pointer-events: auto;
}
.maskwright-instance:focus-visible {
  outline: calc(2 * var(--maskwright-pixel)) solid #fff;
}
.maskwright-closed .maskwright-stage {
  display: none;
}
`;
