import assert from "node:assert/strict";
import { test } from "node:test";
import { inflateSync } from "node:zlib";
import { encodePng } from "../../web/js/png.mjs";

test("encodePng keeps the colors of transparent pixels", async () => {
  const pixels = Uint8ClampedArray.from([255, 0, 10, 0, 1, 2, 3, 128, 9, 8, 7, 255, 0, 0, 0, 0, 4, 5, 6, 1, 200, 100, 50, 0]);
  const file = Buffer.from(await (await encodePng(pixels, 3, 2)).arrayBuffer());
  assert.deepEqual([file.readUInt32BE(16), file.readUInt32BE(20)], [3, 2]);
  const length = file.readUInt32BE(33);
  assert.equal(file.toString("latin1", 37, 41), "IDAT");
  const rows = inflateSync(file.subarray(41, 41 + length));
  assert.deepEqual([...rows], [0, ...pixels.subarray(0, 12), 0, ...pixels.subarray(12)]);
  assert.equal(file.subarray(-12).toString("hex"), "0000000049454e44ae426082"); // known bytes of the last chunk
});
