import assert from "node:assert/strict";
import { test } from "node:test";
import { closest, lastUpTo } from "../src/watch/chunks";
import { bandsOf, clampView, excludedBands, rowsOfSpans, rulerStep, turnTo, zoomView } from "../src/watch/spans";

const NAMES = ["ok", "doubtful", "no_face", "gap"];
const series = (time: number[], status: number[]) => ({ track: 0, name: "", time, status, columns: {} });

test("neighbouring doubtful rows are one band, which ends where the next row begins", () => {
  const bands = bandsOf(series([0, 0.04, 0.08, 0.12], [0, 1, 1, 0]), NAMES, 0.1);
  assert.deepEqual(bands, [{ kind: "doubtful", start: 0.04, end: 0.12 }]);
});

test("a band does not reach over a pause without rows", () => {
  const bands = bandsOf(series([0, 5, 5.04], [1, 1, 0]), NAMES, 0.1);
  assert.deepEqual(bands.map(({ start, end }) => [start, end]), [[0, 0.1], [5, 5.04]]);
});

test("spans of everyone and of a track are its own, those of others are not", () => {
  const spans = [null, 3, 7].map((track, index) => ({ start: index, end: index + 1, track, note: "" }));
  assert.deepEqual(excludedBands(spans, 3).map((band) => band.start), [0, 1]);
});

test("a view stays within the recording", () => {
  assert.deepEqual(clampView({ start: -5, end: 5 }, 20), { start: 0, end: 10 });
  assert.deepEqual(clampView({ start: 15, end: 30 }, 20), { start: 5, end: 20 });
  assert.deepEqual(clampView({ start: 3, end: 3 }, 20), { start: 3, end: 3.2 });
  assert.deepEqual(clampView({ start: -9, end: 99 }, 20), { start: 0, end: 20 });
});

test("zooming keeps its centre in place", () => {
  const view = zoomView({ start: 0, end: 20 }, 5, 0.5, 20);
  assert.deepEqual(view, { start: 2.5, end: 12.5 });
  assert.equal((5 - view.start) / (view.end - view.start), 0.25);
});

test("the page of time turns once it is left, and not before", () => {
  const view = { start: 10, end: 20 };
  assert.equal(turnTo(view, 15, 100), view);
  assert.deepEqual(turnTo(view, 20.5, 100), { start: 20, end: 30 });
  assert.deepEqual(turnTo(view, 2, 100), { start: 0, end: 10 });
});

test("marks of the ruler keep their distance, at any zoom", () => {
  for (const length of [0.2, 1, 19, 100, 3600, 40_000]) {
    const step = rulerStep({ start: 0, end: length }, 1000, 76);
    assert.ok((step / length) * 1000 >= 76, `${length}`);
  }
});

test("times are found between others", () => {
  const times = [0, 1, 2, 4];
  assert.deepEqual([-1, 0, 1.5, 9].map((time) => lastUpTo(times, time)), [-1, 0, 1, 3]);
  assert.deepEqual([-1, 1.4, 1.6, 3.5, 9].map((time) => closest(times, time)), [0, 1, 2, 3, 3]);
  assert.equal(closest([], 1), -1);
});

test("segments that overlap are drawn in rows of their own, as few as can be", () => {
  const spans = [[0, 4], [1, 2], [2, 3], [1, 5], [5, 6]].map(([start = 0, end = 0]) => ({ start, end }));
  assert.deepEqual(rowsOfSpans(spans, 6), [0, 1, 1, 2, 0]);
  assert.deepEqual(rowsOfSpans(spans, 2), [0, 1, 1, 1, 0]);
});
