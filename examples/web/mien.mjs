// Reads faces in a browser, or in Node: a bundle's card.json and model.onnx, and ONNX Runtime Web. Nothing leaves the page.
//
//   import * as ort from "onnxruntime-web/wasm";
//   const reader = await open(ort, card, network);            // card.json parsed, model.onnx as Uint8Array
//   const [face] = await reader.read([{picture, points}]);    // {expression: "happiness", expr: {...}, va: {...}, au: {...}}
//
// picture: {data, width, height}, as a canvas' getImageData gives it: RGBA rows. points: five of [x, y] in its pixels, whole numbers
// at pixel centres: image-left eye, image-right eye, nose tip, image-left mouth corner, image-right mouth corner; left out, the
// whole picture is taken as the face. This does what `mien.faces.prepare` and `Task.decode` do; bench/web.py holds the two together.

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

function softmax(row) {
  const most = Math.max(...row);
  const powers = row.map((x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

/** Least squares over turn, scale and shift from `source` to `target`: [a, b, c, d], x' = a x - b y + c, y' = b x + a y + d. */
function similarity(source, target) {
  const mean = (points, i) => points.reduce((sum, p) => sum + p[i], 0) / points.length;
  const [x, y, u, v] = [mean(source, 0), mean(source, 1), mean(target, 0), mean(target, 1)];
  let [dot, cross, spread] = [0, 0, 0];
  source.forEach(([sx, sy], i) => {
    const [dx, dy, tx, ty] = [sx - x, sy - y, target[i][0] - u, target[i][1] - v];
    dot += dx * tx + dy * ty;
    cross += dx * ty - dy * tx;
    spread += dx * dx + dy * dy;
  });
  const [a, b] = spread > 0 ? [dot / spread, cross / spread] : [1, 0];
  return [a, b, u - a * x + b * y, v - b * x - a * y];
}

/** The map that undoes a similarity. */
function inverse([a, b, c, d]) {
  const square = a * a + b * b;
  const [p, q] = [a / square, -b / square];
  return [p, q, -(p * c - q * d), -(q * c + p * d)];
}

/** A picture of cols x rows in which `origin` says where each pixel lies in `picture`; between pixels by their distance. */
function sampled({ data, width, height }, cols, rows, origin) {
  const out = new Uint8ClampedArray(4 * cols * rows);
  const held = (at, size) => Math.min(Math.max(at, 0), size - 1); // beyond the edge the nearest pixel goes on
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < cols; x++) {
      const [px, py] = origin(x, y);
      const [left, top] = [Math.floor(px), Math.floor(py)];
      const [right, down] = [px - left, py - top];
      const [x0, x1] = [held(left, width), held(left + 1, width)];
      const [y0, y1] = [held(top, height) * width, held(top + 1, height) * width];
      for (let k = 0; k < 4; k++) {
        const upper = data[4 * (y0 + x0) + k] * (1 - right) + data[4 * (y0 + x1) + k] * right;
        const lower = data[4 * (y1 + x0) + k] * (1 - right) + data[4 * (y1 + x1) + k] * right;
        out[4 * (y * cols + x) + k] = upper * (1 - down) + lower * down;
      }
    }
  }
  return { data: out, width: cols, height: rows };
}

/** Which pixels, and how much of each, an averaged pixel covers: for each of `to`, pairs of [pixel, share]. */
function shares(from, to) {
  return Array.from({ length: to }, (_, i) => {
    const [start, stop] = [(i * from) / to, ((i + 1) * from) / to];
    const found = [];
    for (let at = Math.floor(start); at < stop - 1e-9; at++) found.push([at, ((Math.min(at + 1, stop) - Math.max(at, start)) * to) / from]);
    return found;
  });
}

/** The picture shrunk to cols x rows, each pixel the mean of what it covers. */
function averaged({ data, width, height }, cols, rows) {
  const out = new Uint8ClampedArray(4 * cols * rows);
  const [across, along] = [shares(width, cols), shares(height, rows)];
  along.forEach((lines, y) => {
    across.forEach((cells, x) => {
      for (let k = 0; k < 4; k++) {
        let sum = 0;
        for (const [line, tall] of lines) for (const [cell, wide] of cells) sum += data[4 * (line * width + cell) + k] * wide * tall;
        out[4 * (y * cols + x) + k] = sum;
      }
    });
  });
  return { data: out, width: cols, height: rows };
}

/** The part of a picture from x0, y0 to before x1, y1. */
function part({ data, width }, x0, y0, x1, y1) {
  const out = new Uint8ClampedArray(4 * (x1 - x0) * (y1 - y0));
  for (let y = y0; y < y1; y++) out.set(data.subarray(4 * (y * width + x0), 4 * (y * width + x1)), 4 * (y - y0) * (x1 - x0));
  return { data: out, width: x1 - x0, height: y1 - y0 };
}

/** A picture that already is one face, squashed to size x size. */
function squashed(picture, size, area) {
  if (area && picture.width > size !== picture.height > size) {
    picture = averaged(picture, Math.min(picture.width, size), Math.min(picture.height, size));
  }
  if (area && Math.min(picture.width, picture.height) > size) return averaged(picture, size, size);
  const [wide, high] = [picture.width / size, picture.height / size];
  return sampled(picture, size, size, (x, y) => [(x + 0.5) * wide - 0.5, (y + 0.5) * high - 0.5]);
}

/** The face whose five points go where the card wants them; one that shrinks to less than half is averaged in whole blocks first. */
function aligned(picture, points, { size, template, resize }) {
  const map = similarity(points, template.map(([x, y]) => [x * size - 0.5, y * size - 0.5]));
  const [a, b, c, d] = inverse(map);
  const origin = (x, y) => [a * x - b * y + c, b * x + a * y + d];
  const scale = Math.hypot(map[0], map[1]);
  if (resize !== "area" || scale >= 0.5) return sampled(picture, size, size, origin);
  const factor = Math.floor(1 / scale);
  const corners = [[-1, -1], [size, -1], [-1, size], [size, size]].map(([x, y]) => origin(x, y)); // prettier-ignore
  const span = (i, limit) => {
    const all = corners.map((corner) => corner[i]);
    const start = Math.min(Math.max(Math.floor(Math.min(...all)), 0), limit - 1);
    const stop = Math.min(Math.max(Math.ceil(Math.max(...all)) + 1, start + 1), limit);
    let count = Math.ceil((stop - start) / factor);
    if (start + count * factor > limit) count -= 1;
    return count ? [start, start + count * factor, count] : [start, stop, 1];
  };
  const [[x0, x1, cols], [y0, y1, rows]] = [span(0, picture.width), span(1, picture.height)];
  const [wide, high] = [(x1 - x0) / cols, (y1 - y0) / rows];
  return sampled(averaged(part(picture, x0, y0, x1, y1), cols, rows), size, size, (x, y) => {
    const [px, py] = origin(x, y);
    return [(px - x0 + 0.5) / wide - 0.5, (py - y0 + 0.5) / high - 0.5];
  });
}

/** The network's input of one face: channels x size x size numbers. */
export function prepare({ picture, points }, pixels) {
  const { size, colour, template, mean, std, resize } = pixels;
  if (points && !(points.length === 5 && points.flat().every(Number.isFinite))) throw new Error("five points [x, y] are needed, or none");
  if (points && !template) throw new Error("this bundle aligns by the face's box: cut the face out and leave the points out");
  const { data } = points ? aligned(picture, points, pixels) : squashed(picture, size, resize === "area");
  const order = { grey: [0], rgb: [0, 1, 2], bgr: [2, 1, 0] }[colour];
  const out = new Float32Array(order.length * size * size);
  for (let i = 0; i < size * size; i++) {
    const rgb = data.subarray(4 * i, 4 * i + 3);
    const value = colour === "grey" ? () => 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] : (k) => rgb[k];
    order.forEach((k, channel) => (out[channel * size * size + i] = (value(k) - mean[channel]) / std[channel]));
  }
  return out;
}

/** Raw numbers of one face and task to scores by name. */
export function decode(raw, { names, kind, low, high }, heat) {
  const row = raw.map((x) => x / heat);
  const numbers = kind === "one_of" ? softmax(row) : kind === "any_of" ? row.map(sigmoid) : row.map((x) => Math.min(Math.max(x, low), high));
  return Object.fromEntries(names.map((name, i) => [name, numbers[i]]));
}

/** A reader of faces. `ort` is ONNX Runtime Web as the caller imported it. Throws when the network is not the card's. */
export async function open(ort, card, network) {
  if (!globalThis.crypto?.subtle) throw new Error("the network cannot be checked: open the page by https, or by http://localhost");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", network));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== card.sha256) throw new Error(`altered or incomplete: sha256 is ${found}, the card says ${card.sha256}; get the bundle again`);
  const session = await ort.InferenceSession.create(network, { executionProviders: ["wasm"] });
  const families = card.tasks.map((task) => task.key.split(".")[0]);
  return {
    card,
    /** One object a face: scores by task family, and the likeliest expression where the bundle reads any. */
    async read(faces) {
      const { size, colour } = card.pixels;
      const channels = colour === "grey" ? 1 : 3;
      const input = new Float32Array(faces.length * channels * size * size);
      faces.forEach((face, i) => input.set(prepare(face, card.pixels), i * channels * size * size));
      const given = { [session.inputNames[0]]: new ort.Tensor("float32", input, [faces.length, channels, size, size]) };
      const raw = await session.run(given, families);
      return faces.map((_, i) => {
        const scores = card.tasks.map((task, k) => {
          const width = task.names.length;
          const row = Array.from(raw[families[k]].data.slice(i * width, (i + 1) * width));
          return [families[k], decode(row, task, card.temperature[families[k]] ?? 1)];
        });
        const face = Object.fromEntries(scores);
        if (face.expr) face.expression = Object.keys(face.expr).reduce((best, name) => (face.expr[name] > face.expr[best] ? name : best));
        return face;
      });
    },
  };
}
