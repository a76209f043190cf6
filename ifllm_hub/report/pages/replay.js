"use strict";
// Everything that people or LLMs wrote goes onto the page as text nodes, never as markup.

const reading = JSON.parse(document.getElementById("reading").textContent);
const element = (id) => document.getElementById(id);
const isAnywhere = (sides) => sides.some((chars) => chars.some((char) => char >= 0));
const MODALITIES = Object.keys(reading.chars).filter((modality) => isAnywhere(reading.chars[modality]));
if (isAnywhere(reading.views.first)) MODALITIES.push("viewport");
const UNDER = { mouse: "under the mouse", gaze: "under the gaze", viewport: "on the screen" };
const boxes = [...document.querySelectorAll(".text")].map(fill);
let modality = MODALITIES[0] ?? (reading.t.length ? "mouse" : "viewport");
let times = []; // when each tick of the modality begins, ms
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
  if (modality === "viewport") return { side: -1, char: -1 };
  const side = reading.chars[modality].findIndex((chars) => (chars[tick] ?? -1) >= 0);
  if (side < 0 || side >= boxes.length) return { side: -1, char: -1 };
  return { side, char: Math.min(reading.chars[modality][side][tick], boxes[side].spanOf.length - 1) };
}

/** What a tick has of each answer on the screen: the first and last span, or null; [] for a cursor. */
function parts(tick) {
  if (modality !== "viewport") return [];
  return boxes.map(({ spanOf }, side) => {
    const [first, last] = [reading.views.first[side][tick], reading.views.last[side][tick]];
    return first >= 0 ? [spanOf[first], spanOf[last]] : null;
  });
}

const isOff = (tick) => place(tick).side < 0 && !parts(tick).some(Boolean);
const step = (tick) => (tick + 1 < times.length ? times[tick + 1] - times[tick] : 0);
const longestStep = () => (modality === "viewport" ? reading.max_view_ms : reading.max_step_ms);

/** Playback times: as recorded, or with pauses off the text or on a hidden page cut short. */
function schedule() {
  const shorten = element("skip").checked;
  let pause = 0;
  at = [0];
  for (let tick = 0; tick + 1 < times.length; tick++) {
    let ms = step(tick);
    if (shorten) {
      pause = isOff(tick) ? pause + ms : 0;
      ms = Math.min(ms, longestStep(), Math.max(0, reading.pause_ms - pause + ms));
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
  const end = at.at(-1);
  now = Math.min(Math.max(time, 0), end);
  let tick = shown >= 0 && at[shown] <= now ? shown : (clear(), -1);
  while (tick + 1 < times.length && at[tick + 1] <= now) warm(++tick);
  shown = tick;
  boxes.forEach(paint);
  point(shown);
  element("scrub").value = now;
  element("time").textContent = `${clock(times[shown])} / ${clock(times.at(-1))}`;
  const x = (1000 * now) / (end || 1);
  playhead.setAttribute("x1", x);
  playhead.setAttribute("x2", x);
}

/** Add one tick's time to its character and those around it, or to all that is on the screen in equal parts. */
function warm(tick) {
  const seen = parts(tick);
  const count = seen.reduce((sum, part) => sum + (part ? part[1] - part[0] + 1 : 0), 0);
  seen.forEach((part, side) => {
    if (!part) return;
    const answer = boxes[side];
    const ms = Math.min(step(tick), reading.max_view_ms);
    answer.dwell += ms;
    for (let span = part[0]; span <= part[1]; span++) {
      answer.heat[span] += ((reading.spread + 1) * ms) / count;
      answer.changed.add(span);
    }
  });
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
  box.parentElement.querySelector(".dwell").textContent = `, ${(dwell / 1000).toFixed(1)} s ${UNDER[modality]}`;
}

/** Put the cursor on its character, or a frame around what is on the screen, and scroll that into view. */
function point(tick) {
  const { side, char } = place(tick);
  const seen = parts(tick);
  boxes.forEach(({ box, spans, spanOf, cursor }, index) => {
    const part = seen[index];
    cursor.hidden = index !== side && !part;
    if (cursor.hidden) return;
    const high = box.clientHeight;
    let middle;
    if (part) {
      const [first, last] = part.map((span) => spans[span]);
      const bottom = last.offsetTop + last.offsetHeight;
      cursor.style.transform = `translate(0, ${first.offsetTop}px)`;
      cursor.style.height = `${bottom - first.offsetTop + 6}px`; // with its border
      middle = Math.min((first.offsetTop + bottom) / 2, first.offsetTop + high / 2);
    } else {
      const span = spans[spanOf[char]];
      middle = span.offsetTop + span.offsetHeight / 2;
      cursor.style.height = "";
      cursor.style.transform = `translate(${span.offsetLeft + span.offsetWidth / 2}px, ${middle}px)`;
    }
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
  const across = (time) => ((1000 * time) / (at.at(-1) || 1)).toFixed(2);
  const down = (char) => ((100 * char) / longest).toFixed(2);
  let last = -1;
  for (let tick = 0; tick < times.length; tick++) {
    reading.views.first.forEach((firsts, side) => {
      if (!parts(tick)[side]) return;
      const [from, until] = [across(at[tick]), across(at[tick + 1] ?? at[tick])];
      const [top, bottom] = [down(firsts[tick]), down(reading.views.last[side][tick] + 1)];
      lines[side] += `M${from},${top}H${until}V${bottom}H${from}Z`;
    });
    const { side, char } = place(tick);
    if (side >= 0) {
      const end = `${across(at[tick])},${down(char)}`;
      lines[side] += side === last ? `L${end}` : `M${end}h0.01`;
    }
    last = side;
  }
  curves.forEach((path, side) => path.setAttribute("d", lines[side]));
  element("longest").textContent = longest.toLocaleString("en");
  element("end").textContent = clock(times.at(-1));
}

function play() {
  if (now >= at.at(-1)) seek(0);
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
  if (now >= at.at(-1)) pause();
  else requestAnimationFrame(frame);
}

/** Continue from a given time, playing or not. */
function jump(time) {
  seek(time);
  if (started) started = [performance.now(), now];
}

/** After a change of modality or of how pauses are shown: stay at the same moment of the recording. */
function restart() {
  const moment = times[Math.max(shown, 0)] ?? 0;
  for (const name of ["gaze", "viewport"]) document.body.classList.toggle(name, modality === name);
  times = modality === "viewport" ? reading.views.t : reading.t;
  schedule();
  drawCurves();
  clear();
  element("scrub").max = at.at(-1);
  jump(at[Math.max(0, times.findLastIndex((time) => time <= moment))]);
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
    jump((at.at(-1) * (event.clientX - left)) / width);
  });
}
// Show the whole reading at first; `Play` starts from the beginning.
restart();
seek(at.at(-1));
