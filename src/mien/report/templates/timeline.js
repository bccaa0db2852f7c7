"use strict";
(async () => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const film = document.getElementById("film");
  const tip = document.getElementById("tip");
  const tracks = [...document.querySelectorAll(".track")];
  const MISSING = -128;

  // Whole blocks of frames are summed up once: an hour is drawn from these.
  const BLOCK = 32;
  function summarized(values) {
    const blocks = Math.floor(values.length / BLOCK);
    const sums = new Int32Array(blocks), counts = new Uint8Array(blocks);
    const lows = new Int16Array(blocks).fill(200), highs = new Int16Array(blocks).fill(-200);
    for (let i = 0; i < blocks * BLOCK; i++) {
      const value = values[i], block = Math.floor(i / BLOCK);
      if (value === MISSING) continue;
      sums[block] += value; counts[block]++;
      if (value < lows[block]) lows[block] = value;
      if (value > highs[block]) highs[block] = value;
    }
    return { values, sums, counts, lows, highs };
  }

  // Packed as mien.report.packing says: base64, deflate, differences between neighbours.
  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).arrayBuffer();
  }
  const ticks = new Int32Array(await unpack(data.times));
  const times = new Float64Array(data.count);
  for (let i = 0, sum = 0; i < data.count; i++) times[i] = (sum += ticks[i]) / 10000;
  const names = [...data.affect, ...data.expressions.map((name) => "expr_" + name), ...data.units, data.sure];
  for (const person of data.people) {
    const bytes = new Uint8Array(await unpack(person.packed));
    person.series = {};
    names.forEach((name, column) => {
      const part = bytes.subarray(column * data.count, (column + 1) * data.count);
      for (let i = 1; i < part.length; i++) part[i] += part[i - 1];
      person.series[name] = summarized(new Int8Array(part.buffer, part.byteOffset, data.count));
    });
  }

  // The stretch that is shown, seconds.
  let from = data.start, to = data.end;

  function firstAt(time) { // index of the first frame at or after a time
    let low = 0, high = data.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] < time) low = middle + 1; else high = middle;
    }
    return low;
  }
  function frameAt(time) { return Math.max(0, firstAt(time + 1e-9) - 1); }
  function clock(time, digits) {
    const minutes = Math.floor(time / 60), seconds = time - 60 * minutes;
    const hours = Math.floor(minutes / 60);
    const rest = seconds.toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
    return hours ? hours + ":" + String(minutes % 60).padStart(2, "0") + ":" + rest : minutes + ":" + rest;
  }
  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  function expressionColour(name) { return colour("--" + name) || colour("--other"); }
  function words(name) { return name.replace(/_/g, " "); }

  // Lanes from top to bottom, with what they are called in the gutter.
  function lanes(person, width) {
    const list = [];
    if (data.events.length) list.push({ kind: "cues", label: "event", height: 13 });
    if (data.affect.length) list.push({ kind: "affect", label: "−1 … 1", height: width < 500 ? 90 : 120 });
    if (data.expressions.length) list.push({ kind: "expressions", label: "expression", height: 46 });
    for (const name of ["smile", "blink"]) {
      if (person.segments.some((segment) => segment[0] === name)) list.push({ kind: "events", name, label: name, height: 11 });
    }
    for (const name of data.units) list.push({ kind: "unit", name, label: name, height: 11 });
    list.push({ kind: "sure", name: data.sure, label: data.sure, height: 12 });
    let top = 4;
    for (const lane of list) { lane.top = top; top += lane.height + (lane.kind === "affect" || lane.kind === "expressions" ? 8 : 2); }
    list.bottom = top;
    return list;
  }

  function mixer(low, high) {
    const parse = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
    const a = parse(low), b = parse(high);
    return Array.from({ length: 101 }, (_, i) => "rgb(" + a.map((value, k) => Math.round(value + (b[k] - value) * i / 100)).join() + ")");
  }

  // Frames of every column of pixels, once for all lanes.
  function edges(width) {
    const list = new Int32Array(width + 1);
    for (let x = 0; x <= width; x++) list[x] = firstAt(from + (to - from) * x / width);
    return list;
  }
  // Mean, lowest and highest score of each column of pixels; where there is no frame, that of the frame before.
  function columns({ values, sums, counts, lows, highs }, bounds) {
    const width = bounds.length - 1;
    const mean = new Float32Array(width), low = new Float32Array(width), high = new Float32Array(width);
    for (let x = 0; x < width; x++) {
      let first = bounds[x], last = bounds[x + 1], sum = 0, count = 0, least = 200, most = -200;
      if (first === last) { first = Math.max(0, first - 1); last = first + 1; }
      for (let i = first; i < last; i++) {
        if (i % BLOCK === 0 && i + BLOCK <= last) {
          const block = i / BLOCK;
          sum += sums[block]; count += counts[block];
          if (lows[block] < least) least = lows[block];
          if (highs[block] > most) most = highs[block];
          i += BLOCK - 1;
          continue;
        }
        const value = values[i];
        if (value === MISSING) continue;
        sum += value; count++;
        if (value < least) least = value;
        if (value > most) most = value;
      }
      mean[x] = count ? sum / count : NaN; low[x] = count ? least : NaN; high[x] = count ? most : NaN;
    }
    return { mean, low, high };
  }

  function size(canvas, height, scale) {
    const width = canvas.parentElement.clientWidth;
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    return pen;
  }

  let scale = window.devicePixelRatio || 1, printing = false;
  function draw(track) {
    const person = data.people[track.dataset.person];
    const width = track.clientWidth, gutter = 78;
    const list = lanes(person, width), plot = Math.max(20, Math.floor(width - gutter - 4));
    const height = list.bottom + 20;
    const pen = size(track.children[0], height, scale);
    size(track.children[1], height, scale);
    track.view = { gutter, plot, height, list };
    const ink = colour("--ink"), soft = colour("--soft"), line = colour("--line");
    const heat = mixer(colour("--low"), colour("--high"));
    const at = (time) => gutter + (time - from) / (to - from) * plot;
    const bounds = edges(plot);
    pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "middle";

    for (const lane of list) {
      pen.fillStyle = soft; pen.textAlign = "right";
      if (lane.kind === "affect") {
        for (const value of [1, 0, -1]) pen.fillText(value < 0 ? "−1" : String(value), gutter - 6, lane.top + lane.height * (1 - value) / 2 + (value ? value * 5 : 0));
      } else pen.fillText(lane.label, gutter - 6, lane.top + lane.height / 2);
      if (lane.kind === "cues") drawCues(pen, lane, list.bottom, at, gutter, plot, ink);
      else if (lane.kind === "affect") drawAffect(pen, lane, person, bounds, gutter, plot, line);
      else if (lane.kind === "expressions") drawExpressions(pen, lane, person, bounds, gutter);
      else if (lane.kind === "events") drawBars(pen, lane, person, at, gutter, plot);
      else drawHeat(pen, lane, columns(person.series[lane.name], bounds).mean, gutter, heat);
      if (lane.kind === "unit") drawBars(pen, { ...lane, top: lane.top + lane.height - 2, height: 2 }, person, at, gutter, plot, colour("--arousal"));
    }
    pen.fillStyle = colour("--shade");
    for (const [start, end] of person.spans) {
      if (end <= from || start >= to) continue;
      const left = Math.max(gutter, at(start)), right = Math.min(gutter + plot, at(end));
      pen.fillRect(left, 0, Math.max(right - left, 1), list.bottom);
    }
    drawAxis(pen, list.bottom, at, gutter, plot, ink, line);
  }

  function drawAffect(pen, lane, person, bounds, gutter, plot, line) {
    pen.strokeStyle = line; pen.lineWidth = 1;
    for (const share of [0, .5, 1]) {
      pen.beginPath(); pen.moveTo(gutter, lane.top + lane.height * share); pen.lineTo(gutter + plot, lane.top + lane.height * share); pen.stroke();
    }
    const y = (value) => lane.top + lane.height * (1 - value / 100) / 2;
    for (const name of data.affect) {
      const { mean, low, high } = columns(person.series[name], bounds);
      pen.strokeStyle = pen.fillStyle = colour("--" + name);
      // The band from lowest to highest: where many frames share a pixel, none is hidden.
      pen.globalAlpha = .22;
      for (let x = 0; x < plot; x++) if (high[x] - low[x] > 1) pen.fillRect(gutter + x, y(high[x]), 1, y(low[x]) - y(high[x]));
      pen.globalAlpha = 1; pen.lineWidth = 1.5; pen.setLineDash(name === "arousal" ? [5, 3] : []);
      pen.beginPath();
      let drawing = false;
      for (let x = 0; x < plot; x++) {
        if (Number.isNaN(mean[x])) { drawing = false; continue; }
        if (drawing) pen.lineTo(gutter + x + .5, y(mean[x])); else pen.moveTo(gutter + x + .5, y(mean[x]));
        drawing = true;
      }
      pen.stroke(); pen.setLineDash([]);
    }
  }
  function drawExpressions(pen, lane, person, bounds, gutter) {
    const shares = data.expressions.map((name) => columns(person.series["expr_" + name], bounds).mean);
    const colours = data.expressions.map(expressionColour);
    for (let x = 0; x < bounds.length - 1; x++) {
      let total = 0;
      for (const share of shares) total += share[x];
      if (!(total > 0)) continue;
      let top = lane.top;
      shares.forEach((share, k) => {
        const height = lane.height * share[x] / total;
        pen.fillStyle = colours[k]; pen.fillRect(gutter + x, top, 1, height + .5); top += height;
      });
    }
  }
  function drawCues(pen, lane, bottom, at, gutter, plot, ink) {
    let free = gutter; // where the next label has room
    for (const [start, end, kind] of data.events) {
      if (end < from || start > to) continue;
      const left = Math.max(gutter, at(start)), right = Math.min(gutter + plot, at(end));
      pen.fillStyle = pen.strokeStyle = colour("--disgust"); pen.lineWidth = 1;
      pen.globalAlpha = .35; pen.fillRect(left, lane.top, Math.max(right - left, 2), lane.height); pen.globalAlpha = 1;
      pen.setLineDash([2, 3]); pen.beginPath(); pen.moveTo(left, lane.top); pen.lineTo(left, bottom); pen.stroke(); pen.setLineDash([]);
      const text = words(kind), width = pen.measureText(text).width + 8;
      if (left < free || left + width > gutter + plot) continue;
      pen.fillStyle = ink; pen.textAlign = "left"; pen.fillText(text, left + 4, lane.top + lane.height / 2);
      free = left + width;
    }
  }
  function drawHeat(pen, lane, mean, gutter, heat) {
    for (let x = 0; x < mean.length; x++) {
      if (Number.isNaN(mean[x])) continue;
      pen.fillStyle = heat[Math.max(0, Math.min(100, Math.round(mean[x])))];
      pen.fillRect(gutter + x, lane.top, 1, lane.height);
    }
  }
  function drawBars(pen, lane, person, at, gutter, plot, fill) {
    pen.fillStyle = fill || colour("--accent");
    for (const [kind, name, start, end] of person.segments) {
      if (name !== lane.name || end <= from || start >= to) continue;
      const left = Math.max(gutter, at(start)), right = Math.min(gutter + plot, at(end));
      // Narrower than a pixel they are paler, so that an hour of blinks does not look like one long one.
      pen.globalAlpha = Math.max(.2, Math.min(1, right - left));
      pen.fillRect(left, lane.top, Math.max(right - left, 1), lane.height);
    }
    pen.globalAlpha = 1;
  }
  function drawAxis(pen, top, at, gutter, plot, ink, line) {
    pen.strokeStyle = line; pen.beginPath(); pen.moveTo(gutter, top); pen.lineTo(gutter + plot, top); pen.stroke();
    const steps = [.05, .1, .25, .5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];
    const least = (to - from) / Math.max(2, plot / 75);
    const step = steps.find((value) => value >= least) || steps[steps.length - 1];
    const digits = step < .1 || step === .25 ? 2 : step < 1 ? 1 : 0;
    pen.fillStyle = ink;
    for (let number = Math.ceil(from / step); number * step <= to; number++) {
      const x = at(number * step);
      pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, top + 4); pen.stroke();
      pen.textAlign = x < gutter + 16 ? "left" : x > gutter + plot - 16 ? "right" : "center";
      pen.fillText(clock(number * step, digits), x, top + 12);
    }
  }

  // Tracks out of sight are drawn when they come into it.
  const stale = new Set(), visible = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) visible.add(target); else visible.delete(target);
      if (isIntersecting && stale.delete(target)) draw(target);
    }
  }, { rootMargin: "200px" });
  function drawAll() {
    for (const track of tracks) if (!track.view || printing || visible.has(track)) draw(track); else stale.add(track);
    document.getElementById("range").textContent = clock(from, 1) + " to " + clock(to, 1);
  }
  function show(start, end) {
    const least = Math.min(.2, data.end - data.start);
    const span = Math.min(Math.max(end - start, least), data.end - data.start);
    from = Math.min(Math.max(start, data.start), data.end - span);
    to = from + span;
    drawAll();
  }

  function cursor(time, selected) {
    for (const track of tracks) {
      const { gutter, plot, height } = track.view, pen = track.children[1].getContext("2d");
      pen.clearRect(0, 0, gutter + plot + 9, height);
      if (time === null) continue;
      const at = (moment) => gutter + (moment - from) / (to - from) * plot;
      pen.strokeStyle = colour("--ink"); pen.lineWidth = 1;
      pen.beginPath(); pen.moveTo(at(time), 0); pen.lineTo(at(time), height - 20); pen.stroke();
      if (selected !== undefined) {
        pen.globalAlpha = .18; pen.fillStyle = colour("--accent");
        pen.fillRect(Math.min(at(time), at(selected)), 0, Math.abs(at(time) - at(selected)), height - 20); pen.globalAlpha = 1;
      }
    }
  }
  function number(value) { return (value / 100).toFixed(2).replace("-", "−"); }
  function describe(person, time) {
    const i = frameAt(time), lines = [];
    const score = (name) => person.series[name].values[i];
    // The highest of some scores, with their names.
    const highest = (names, most) => names.filter((name) => score(name) !== MISSING)
      .sort((a, b) => score(b) - score(a)).slice(0, most)
      .map((name) => words(name.replace("expr_", "")) + " " + number(score(name))).join(", ");
    lines.push(...data.affect.map((name) => highest([name], 1)));
    lines.push(highest(data.expressions.map((name) => "expr_" + name), 3), highest(data.units, 4), highest([data.sure], 1));
    for (const [start, end, kind] of data.events) if (start <= time && time < Math.max(end, start + .5)) lines.push("event: " + words(kind));
    const now = person.segments.filter(([, , start, end]) => start <= time && time < end).map(([, name]) => words(name));
    if (now.length) lines.push("shown: " + [...new Set(now)].join(", "));
    for (const [start, end, reason] of person.spans) if (start <= time && time < end) lines.push("not usable: " + words(reason));
    return [person.name + ", " + clock(times[i], 2), ...lines.filter(Boolean)];
  }
  function tell(lines, x, y) {
    tip.replaceChildren(...lines.map((text, k) => {
      const line = document.createElement(k ? "div" : "b"); line.textContent = text; return line;
    }));
    tip.style.display = "block";
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
    tip.style.top = (y + box.height + 24 > innerHeight ? Math.max(4, y - box.height - 14) : y + 16) + "px";
  }

  for (const track of tracks) {
    const person = data.people[track.dataset.person], canvas = track.children[0];
    let began = null;
    const timeOf = (event) => {
      const { gutter, plot } = track.view, x = event.clientX - canvas.getBoundingClientRect().left - gutter;
      return from + (to - from) * Math.max(0, Math.min(1, x / plot));
    };
    canvas.addEventListener("pointermove", (event) => {
      const time = timeOf(event);
      cursor(time, began === null ? undefined : began);
      tell(describe(person, time), event.clientX, event.clientY);
    });
    canvas.addEventListener("pointerleave", () => { began = null; cursor(null); tip.style.display = "none"; });
    canvas.addEventListener("pointerdown", (event) => { if (event.pointerType === "mouse") began = timeOf(event); });
    canvas.addEventListener("pointerup", (event) => {
      const time = timeOf(event), started = began;
      began = null;
      const { plot } = track.view;
      if (started !== null && Math.abs(time - started) / (to - from) * plot > 6) show(Math.min(started, time), Math.max(started, time));
      else if (film) { film.currentTime = time; }
    });
    canvas.addEventListener("dblclick", () => show(data.start, data.end));
  }
  const middle = () => (from + to) / 2, span = () => to - from;
  document.getElementById("all").onclick = () => show(data.start, data.end);
  document.getElementById("closer").onclick = () => show(middle() - span() / 4, middle() + span() / 4);
  document.getElementById("wider").onclick = () => show(middle() - span(), middle() + span());

  let waiting = 0;
  new ResizeObserver(() => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(drawAll); }).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  // On paper: light, and sharp.
  addEventListener("beforeprint", () => { document.documentElement.classList.add("print"); scale = 3; printing = true; drawAll(); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("print"); scale = devicePixelRatio || 1; printing = false; drawAll(); });
  drawAll();
  tracks.forEach((track) => watcher.observe(track));
})();
