"use strict";
// Everything that people or LLMs wrote goes onto the page as text nodes, never as markup.

const reading = JSON.parse(document.getElementById("reading").textContent);
const element = (id) => document.getElementById(id);
const MODALITIES = Object.keys(reading.chars).filter((modality) =>
  reading.chars[modality].some((chars) => chars.some((char) => char >= 0)),
);
const ticks = reading.t.length;
const boxes = [...document.querySelectorAll(".text")].map(fill);
let modality = MODALITIES[0] ?? "mouse";
let at = []; // playback time of each tick, ms
let shown = -1; // last tick drawn
let now = 0;
let started = null; // playing since: [clock, playback time]

/** An answer's text in its box, one span per character as people see it, so that emoji and accents stay whole. */
function fill(box, side) {
  const { text } = reading.answers[side];
  const pieces = Intl.Segmenter
    ? Array.from(new Intl.Segmenter("en", { granularity: "grapheme" }).segment(text), ({ segment }) => segment)
    : [...text];
  const spans = [];
  const spanOf = []; // by code point
  for (const piece of pieces) {
    const span = document.createElement("span");
    span.textContent = piece;
    for (const _ of piece) spanOf.push(spans.length);
    spans.push(span);
  }
  const cursor = document.createElement("div");
  cursor.className = "cursor";
  cursor.hidden = true;
  box.append(...spans, cursor);
  return { box, spans, spanOf, cursor, heat: new Float64Array(spans.length), changed: new Set(), dwell: 0 };
}

/** The answer that a tick is on, and its code point; side is -1 if there is none. */
function place(tick) {
  const side = reading.chars[modality].findIndex((chars) => (chars[tick] ?? -1) >= 0);
  if (side < 0 || side >= boxes.length) return { side: -1, char: -1 };
  return { side, char: Math.min(reading.chars[modality][side][tick], boxes[side].spanOf.length - 1) };
}

const step = (tick) => (tick + 1 < ticks ? reading.t[tick + 1] - reading.t[tick] : 0);

/** Playback times: as recorded, or with pauses off the text or on a hidden page cut short. */
function schedule() {
  const shorten = element("skip").checked;
  let pause = 0;
  at = [0];
  for (let tick = 0; tick + 1 < ticks; tick++) {
    let ms = step(tick);
    if (shorten) {
      pause = place(tick).side < 0 ? pause + ms : 0;
      ms = Math.min(ms, reading.max_step_ms, Math.max(0, reading.pause_ms - pause + ms));
    }
    at.push(at[tick] + ms);
  }
}

function clear() {
  for (const answer of boxes) {
    answer.heat.fill(0);
    answer.spans.forEach((_, span) => answer.changed.add(span));
    answer.dwell = 0;
  }
  shown = -1;
}

/** Draw the reading up to a playback time. */
function seek(time) {
  now = Math.min(Math.max(time, 0), at[ticks - 1]);
  let tick = shown >= 0 && at[shown] <= now ? shown : (clear(), -1);
  while (tick + 1 < ticks && at[tick + 1] <= now) warm(++tick);
  shown = tick;
  boxes.forEach(paint);
  point(shown);
  element("scrub").value = now;
  element("time").textContent = `${clock(reading.t[shown])} / ${clock(reading.t[ticks - 1])}`;
  const x = (1000 * now) / (at[ticks - 1] || 1);
  playhead.setAttribute("x1", x);
  playhead.setAttribute("x2", x);
}

/** Add one tick's time to its character and those around it. */
function warm(tick) {
  const { side, char } = place(tick);
  if (side < 0) return;
  const ms = Math.min(step(tick), reading.max_step_ms);
  const answer = boxes[side];
  answer.dwell += ms;
  for (let d = -reading.spread; d <= reading.spread; d++) {
    const span = answer.spanOf[char] + d;
    if (!(span in answer.heat)) continue;
    answer.heat[span] += ms * (1 - Math.abs(d) / (reading.spread + 1));
    answer.changed.add(span);
  }
}

function paint({ box, spans, heat, changed, dwell }) {
  for (const span of changed) {
    const level = reading.levels.filter((low) => heat[span] >= low).length;
    spans[span].className = level ? `h${level}` : "";
  }
  changed.clear();
  box.parentElement.querySelector(".dwell").textContent = `, ${(dwell / 1000).toFixed(1)} s under the ${modality}`;
}

/** Put the cursor on its character, and scroll that into view. */
function point(tick) {
  const { side, char } = place(tick);
  boxes.forEach(({ box, spans, spanOf, cursor }, index) => {
    cursor.hidden = index !== side;
    if (index !== side) return;
    const span = spans[spanOf[char]];
    const middle = span.offsetTop + span.offsetHeight / 2;
    cursor.style.transform = `translate(${span.offsetLeft + span.offsetWidth / 2}px, ${middle}px)`;
    const high = box.clientHeight;
    if (middle < box.scrollTop + 0.1 * high || middle > box.scrollTop + 0.9 * high) box.scrollTop = middle - high / 2;
  });
}

function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

const svg = element("curve");
const make = (name) => svg.appendChild(document.createElementNS(svg.namespaceURI, name));
const curves = boxes.map((_, side) => {
  const path = make("path");
  path.setAttribute("class", `s${side}`);
  return path;
});
const playhead = make("line");
playhead.setAttribute("y1", 0);
playhead.setAttribute("y2", 100);

function drawCurves() {
  const longest = Math.max(1, ...boxes.map(({ spanOf }) => spanOf.length));
  const lines = boxes.map(() => "");
  let last = -1;
  for (let tick = 0; tick < ticks; tick++) {
    const { side, char } = place(tick);
    if (side >= 0) {
      const end = `${((1000 * at[tick]) / (at[ticks - 1] || 1)).toFixed(2)},${((100 * char) / longest).toFixed(2)}`;
      lines[side] += side === last ? `L${end}` : `M${end}h0.01`;
    }
    last = side;
  }
  curves.forEach((path, side) => path.setAttribute("d", lines[side]));
  element("longest").textContent = longest.toLocaleString("en");
  element("end").textContent = clock(reading.t[ticks - 1]);
}

function play() {
  if (now >= at[ticks - 1]) seek(0);
  started = [performance.now(), now];
  element("play").textContent = "Pause";
  requestAnimationFrame(frame);
}

function pause() {
  started = null;
  element("play").textContent = "Play";
}

function frame(time) {
  if (!started) return;
  const [clockThen, playedThen] = started;
  seek(playedThen + Math.max(0, time - clockThen) * Number(element("speed").value));
  if (now >= at[ticks - 1]) pause();
  else requestAnimationFrame(frame);
}

/** Continue from a given time, playing or not. */
function jump(time) {
  seek(time);
  if (started) started = [performance.now(), now];
}

/** After a change of modality or of how pauses are shown: stay at the same moment of the recording. */
function restart() {
  const moment = Math.max(shown, 0);
  document.body.classList.toggle("gaze", modality === "gaze");
  schedule();
  drawCurves();
  clear();
  element("scrub").max = at[ticks - 1];
  jump(at[moment]);
}

element("play").addEventListener("click", () => (started ? pause() : play()));
element("scrub").addEventListener("input", ({ target }) => jump(Number(target.value)));
element("speed").addEventListener("change", () => jump(now));
element("skip").addEventListener("change", restart);
element("modality").append(...MODALITIES.map((name) => new Option(name)));
element("modality").addEventListener("change", ({ target }) => {
  modality = target.value;
  restart();
});
for (const type of ["pointerdown", "pointermove"]) {
  svg.addEventListener(type, (event) => {
    if (!event.buttons) return;
    const { left, width } = svg.getBoundingClientRect();
    jump((at[ticks - 1] * (event.clientX - left)) / width);
  });
}
// Show the whole reading at first; `Play` starts from the beginning.
restart();
seek(at[ticks - 1]);
