// The two color maps as tables of pixels.

import { GREYS_HEX, VIRIDIS_HEX } from "./color_maps.mjs";

const bytes = (hex) => Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));

/** Red, green and blue of each of the 256 steps, from dark blue over green to yellow. */
export const VIRIDIS = bytes(VIRIDIS_HEX);

/** Brightness of the 256 steps from black to white, 0..255. */
export const GREYS = bytes(GREYS_HEX).filter((_, i) => i % 3 === 0);

const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** An opaque pixel as a number for the Uint32Array of an ImageData. */
export function pixel(red, green, blue, alpha = 255) {
  return LITTLE_ENDIAN
    ? ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0
    : ((red << 24) | (green << 16) | (blue << 8) | alpha) >>> 0;
}

/** The pixels of the 256 steps of a map: "viridis", "greys" (linear), or "alpha" (black, increasingly opaque). */
export function pixelTable(name) {
  return Uint32Array.from({ length: 256 }, (_, i) => {
    if (name === "viridis") return pixel(VIRIDIS[3 * i], VIRIDIS[3 * i + 1], VIRIDIS[3 * i + 2]);
    return name === "alpha" ? pixel(0, 0, 0, i) : pixel(i, i, i);
  });
}
