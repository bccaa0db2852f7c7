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

/** One colour channel at (x, y), between pixels by their distance; beyond the edge the nearest pixel goes on. */
function sample({ data, width, height }, x, y, channel) {
  const at = (cx, cy) => data[4 * (Math.min(Math.max(cy, 0), height - 1) * width + Math.min(Math.max(cx, 0), width - 1)) + channel];
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [right, down] = [x - left, y - top];
  const upper = at(left, top) * (1 - right) + at(left + 1, top) * right;
  const lower = at(left, top + 1) * (1 - right) + at(left + 1, top + 1) * right;
  return upper * (1 - down) + lower * down;
}

/** The network's input of one face: channels x size x size numbers. */
function prepare({ picture, points }, { size, colour, template, mean, std }) {
  if (points && !template) throw new Error("this bundle aligns by the face's box: cut the face out and leave the points out");
  // From crop to picture. A face that shrinks is averaged over a grid of samples in each pixel.
  const [a, b, c, d] = points ? similarity(template.map(([x, y]) => [x * size - 0.5, y * size - 0.5]), points) : [0, 0, 0, 0];
  const [wide, high] = [picture.width / size, picture.height / size];
  const origin = points ? (x, y) => [a * x - b * y + c, b * x + a * y + d] : (x, y) => [(x + 0.5) * wide - 0.5, (y + 0.5) * high - 0.5];
  const scale = points ? Math.hypot(a, b) : Math.max(wide, high);
  const steps = scale > 1 ? Math.ceil(scale) : 1;
  const channels = colour === "grey" ? 1 : 3;
  const out = new Float32Array(channels * size * size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const rgb = [0, 0, 0];
      for (let i = 0; i < steps * steps; i++) {
        const [px, py] = origin(x + ((i % steps) + 0.5) / steps - 0.5, y + (Math.floor(i / steps) + 0.5) / steps - 0.5);
        for (let k = 0; k < 3; k++) rgb[k] += sample(picture, px, py, k) / (steps * steps);
      }
      const values = colour === "grey" ? [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]] : colour === "rgb" ? rgb : rgb.reverse();
      values.forEach((value, k) => (out[(k * size + y) * size + x] = (value - mean[k]) / std[k]));
    }
  }
  return out;
}

/** Raw numbers of one face and task to scores by name. */
function decode(raw, { names, kind, low, high }, heat) {
  const row = raw.map((x) => x / heat);
  const numbers = kind === "one_of" ? softmax(row) : kind === "any_of" ? row.map(sigmoid) : row.map((x) => Math.min(Math.max(x, low), high));
  return Object.fromEntries(names.map((name, i) => [name, numbers[i]]));
}

/** A reader of faces. `ort` is ONNX Runtime Web as the caller imported it. Throws when the network is not the card's. */
export async function open(ort, card, network) {
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
