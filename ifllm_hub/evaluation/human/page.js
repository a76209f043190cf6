
"use strict";
// Model texts only ever go through `textContent`: they are shown, never parsed.
const task = JSON.parse(document.getElementById("task").textContent);
const SIDES = ["left", "right"];
const CLAIM = ["claim", "claim_url", "claim_evidence"];
const PLACE = `ifllm_hub/${task.task_id}/${task.rater_id}`;
const form = document.getElementById("form");
const $ = (id) => document.getElementById(id);

// What was filled in, by item and field, and the item it was left at: when (ms), and what.
const cellOf = (index, name) => `${task.items[index].item_id}/${name}`;
const CELLS = ["at", ...task.items.flatMap((_, index) => task.fields.map((name) => cellOf(index, name)))];
const kept = {};
let at = 0;
let acted = false; // until then, the page shows what is stored

// Take over what is newer in the browser's storage, from another tab, or in this tab's history: right after a reload, a
// busy Chromium may show an older storage, or none. So each cell is stored on its own, and only when it changes.
function merge() {
  let news = false;
  for (const cell of CELLS) {
    const [here, there] = [history.state?.[cell] ?? [0], stored(cell)];
    if (here[0] > there[0]) write(`${PLACE}/${cell}`, JSON.stringify(here));
    const [when, value] = here[0] > there[0] ? here : there;
    if (when <= (kept[cell]?.[0] ?? 0)) continue;
    kept[cell] = [when, value];
    news = true;
  }
  return news;
}

function stored(cell) {
  try {
    return JSON.parse(localStorage.getItem(`${PLACE}/${cell}`)) ?? [0];
  } catch {
    return [0]; // no storage
  }
}

function keep(cell, value) {
  acted = true;
  kept[cell] = [Math.max(Date.now(), (kept[cell]?.[0] ?? 0) + 1), value];
  write(`${PLACE}/${cell}`, JSON.stringify(kept[cell]));
  try {
    history.replaceState(kept, "");
  } catch {
    return; // Safari accepts a hundred in 30 s; the next one holds them all
  }
}

function write(place, text) {
  try {
    localStorage.setItem(place, text);
  } catch {
    $("forgets").hidden = false;
  }
}

function answersOf(index) {
  return Object.fromEntries(task.fields.map((name) => [name, kept[cellOf(index, name)]?.[1]]));
}

// What is missing or wrong, by field, by the same rules as the import.
function problems(answers) {
  const found = {};
  for (const name of task.fields) {
    if (name === "comment") continue;
    const [, stem, side] = name.match(/^(.*?)(?:_(left|right))?$/);
    if (CLAIM.includes(stem)) {
      const support = answers[`claim_supported_${side}`];
      const value = (answers[name] ?? "").trim();
      if (support !== "yes" && support !== "no") continue;
      if (!value) found[name] = "Please fill this in.";
      else if (stem === "claim_url" && !/^https?:\/\/./.test(value)) found[name] = "The address must begin with https:// or http://.";
    } else if (!answers[name]) {
      found[name] = "Please choose one.";
    }
  }
  return found;
}

const finished = (index) => Object.keys(problems(answersOf(index))).length === 0;
const unfinished = () => task.items.map((_, index) => index).filter((index) => !finished(index));

function message({ role, content }, asked) {
  const block = document.createElement("div");
  block.className = asked ? "message asked" : "message";
  const who = document.createElement("h3");
  who.textContent = { user: "Person", assistant: "Earlier answer", system: "Instruction to the program" }[role] ?? role;
  const text = document.createElement("p");
  text.dir = "auto";
  text.textContent = content;
  block.append(who, text);
  return block;
}

function show(index) {
  at = index;
  const item = task.items[index];
  form.hidden = false;
  $("end").hidden = true;
  $("heading").textContent = `Item ${index + 1} of ${task.items.length}`;
  $("conversation").replaceChildren(...item.messages.map((said, turn) => message(said, turn === item.messages.length - 1)));
  for (const side of SIDES) {
    const text = item[`answer_${side}`];
    $(`text-${side}`).textContent = text.trim() ? text : "(This answer is empty.)";
    $(`text-${side}`).classList.toggle("empty", !text.trim());
    $(`text-${side}`).scrollTop = 0;
  }
  fill(answersOf(index));
  report({});
  $("back").disabled = index === 0;
  draw();
}

function go(index) {
  keep("at", index);
  show(index);
  toTop("heading");
}

// When the page is opened: as it was left.
function resume() {
  $("guide").open = Object.keys(kept).length === 0;
  show(Math.min(Math.max(Math.trunc(kept.at?.[1]) || 0, 0), task.items.length - 1));
}

function catchUp() {
  if (!merge()) return;
  if (!acted) resume();
  else {
    fill(answersOf(at));
    report({});
    sum();
  }
}

function fill(answers) {
  for (const control of form.elements) {
    if (!control.name) continue;
    if (control.type === "radio") control.checked = answers[control.name] === control.value;
    else control.value = answers[control.name] ?? "";
  }
  claims(answers);
}

function claims(answers) {
  for (const side of SIDES) {
    $(`claim-${side}`).hidden = !["yes", "no"].includes(answers[`claim_supported_${side}`]);
  }
}

function report(found) {
  for (const name of task.fields) {
    const line = $(`problem-${name}`);
    if (!line) continue;
    line.textContent = found[name] ?? "";
    line.hidden = !(name in found);
    $(`field-${name}`).classList.toggle("wrong", name in found);
    for (const control of form.querySelectorAll(`[name="${name}"]`)) {
      control.setAttribute("aria-invalid", String(name in found));
      if (name in found) control.setAttribute("aria-describedby", line.id);
      else control.removeAttribute("aria-describedby");
    }
  }
}

function draw() {
  const left = unfinished();
  const done = task.items.length - left.length;
  $("progress").value = done;
  $("count").textContent = `${done} of ${task.items.length} finished`;
  [...$("items").children].forEach((entry, index) => {
    const button = entry.firstChild;
    const complete = !left.includes(index);
    button.classList.toggle("finished", complete);
    button.setAttribute("aria-label", `Item ${index + 1}${complete ? ", finished" : ""}`);
    if (index === at && !form.hidden) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  });
}

function toTop(id) {
  window.scrollTo({ top: 0, behavior: "instant" });
  $(id).focus({ preventScroll: true });
  $("items").children[at]?.scrollIntoView({ block: "nearest", inline: "center", behavior: "instant" });
}

function sum() {
  const left = unfinished();
  const done = task.items.length - left.length;
  $("download").disabled = done === 0;
  $("end-text").textContent = left.length
    ? `${done} of ${task.items.length} items are finished. Still open: ${left.map((index) => index + 1).join(", ")}. ` +
      "Go back and finish them; if you have to stop here, download what you have."
    : `All ${task.items.length} items are finished. Download the file and give it to whoever asked you. Thank you.`;
  draw();
}

function end() {
  form.hidden = true;
  $("end").hidden = false;
  $("end-done").textContent = "";
  sum();
  toTop("end-heading");
}

// Only finished items; quoted as in RFC 4180.
function csv() {
  const quoted = (value) => `"${String(value).replaceAll('"', '""')}"`;
  const rows = task.items.flatMap((item, index) => {
    if (!finished(index)) return [];
    const answers = answersOf(index);
    const lookedUp = (side) => ["yes", "no"].includes(answers[`claim_supported_${side}`]);
    const value = (name) => {
      const side = SIDES.find((one) => CLAIM.some((stem) => name === `${stem}_${one}`));
      return side && !lookedUp(side) ? "" : (answers[name] ?? "").trim();
    };
    return [[task.task_id, item.item_id, task.rater_id, ...task.fields.map(value)]];
  });
  const head = ["task_id", "item_id", "rater_id", ...task.fields];
  return [head, ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = `ratings-${task.task_id}-${task.rater_id}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  $("end-done").textContent = `Saved as ${link.download}.`;
}

form.addEventListener("input", ({ target }) => {
  if (!target.name) return;
  keep(cellOf(at, target.name), target.value);
  const answers = answersOf(at);
  claims(answers);
  const line = $(`problem-${target.name}`);
  if (line && !line.hidden) report(problems(answers));
  draw();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const found = problems(answersOf(at));
  report(found);
  const [first] = Object.keys(found);
  if (first) {
    form.querySelector(`[name="${first}"]`).focus();
    $(`field-${first}`).scrollIntoView({ block: "center" });
  } else if (at + 1 < task.items.length) go(at + 1);
  else end();
});

$("back").addEventListener("click", () => go(at - 1));
$("resume").addEventListener("click", () => go(unfinished()[0] ?? at));
$("download").addEventListener("click", download);
task.items.forEach((_, index) => {
  const entry = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = String(index + 1);
  button.addEventListener("click", () => go(index));
  entry.append(button);
  $("items").append(entry);
});
for (const name of ["storage", "pageshow", "visibilitychange"]) addEventListener(name, catchUp);
merge();
resume();
write("ifllm_hub/probe", ""); // does this browser keep anything?
