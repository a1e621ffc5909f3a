// How the views look. Every view brings it along, so that nothing is added to the page around it.

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
  flex-wrap: wrap;
  align-items: center;
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
  align-items: center;
  gap: 2px;
}
.maskwright-button {
  padding: 2px 5px;
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
  margin-left: auto;
}
.maskwright-opacity {
  flex: 1 1 40px;
  width: 40px;
  min-width: 40px;
  max-width: 120px;
  height: 14px;
  margin: 0 2px;
}
.maskwright-stage {
  position: relative;
  flex: 1 1 0;
  min-height: 0;
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
  text-align: center;
  opacity: 0.8;
}
.maskwright-note {
  flex: none;
  padding: 2px 4px;
  opacity: 0.8;
}
.maskwright-closed .maskwright-stage {
  display: none;
}
`;
