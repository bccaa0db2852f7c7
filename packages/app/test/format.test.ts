import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, clock, duration, fileName, percent, score } from "../src/format";

test("a clock rounds before it is taken apart", () => {
  assert.equal(clock(59.99), "1:00.0");
  assert.equal(clock(75.5), "1:15.5");
  assert.equal(clock(3725, 0), "1:02:05");
  assert.equal(clock(-1, 2), "0:00.00");
  assert.equal(clock(9.999, 2), "0:10.00");
});

test("durations are read at a glance", () => {
  assert.deepEqual([0.25, 12, 89, 240, 3600, 4800].map(duration), ["0.3 s", "12 s", "89 s", "4 min", "1 h", "1 h 20 min"]);
});

test("sizes have two figures, and never a thousand of a unit", () => {
  assert.deepEqual([0, 512, 999, 1500, 999_600, 3_200_000_000].map(bytes), ["0 B", "512 B", "999 B", "1.5 kB", "1 MB", "3.2 GB"]);
});

test("scores have a true minus, and zero has none", () => {
  assert.deepEqual([0.316, -0.25, -0.001, null, Number.NaN].map((value) => score(value)), ["0.32", "−0.25", "0.00", "–", "–"]);
});

test("small shares are not said to be none", () => {
  assert.deepEqual([0, 0.002, 0.5, 1].map(percent), ["0 %", "<1 %", "50 %", "100 %"]);
});

test("names of files, of either kind of path", () => {
  assert.deepEqual(["/a/b.mp4", "C:\\films\\b.mp4", "/a/folder/"].map(fileName), ["b.mp4", "b.mp4", "folder"]);
});
