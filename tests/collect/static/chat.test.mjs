// The box of a recorded chat: who agrees, what is kept of it, and what its buttons say and do.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const source = readFileSync(new URL("../../../ifllm_hub/collect/static/chat.js", import.meta.url), "utf8");
// As a module of its own each time, which is what the page has it as.
const load = (time) => import(`data:text/javascript,${encodeURIComponent(`${source}// ${time}`)}`);
const SITE = "https://chat.example.org";
const KEPT = "ifllm-people:/lab/";
const listeners = {};
const storage = new Map();
const marks = [];
const asked = [];
const buttons = [{ closest: () => null, textContent: "Stop and delete everything" }];
let answer = { status: 204 };
let look;
const input = { checked: false };
const props = { value: "", said: "", stored: false };
const listen = (type, listener, capture) => (listeners[type] = { listener, capture });

Object.assign(globalThis, {
  ifllmBox: { props },
  ifllmStudy: { agree: (key) => (globalThis.agreed = key) },
  location: { href: `${SITE}/lab/`, origin: SITE, pathname: "/lab/" },
  localStorage: {
    getItem: (name) => storage.get(name) ?? null,
    setItem: (name, value) => storage.set(name, value),
    removeItem: (name) => storage.delete(name),
  },
  document: {
    querySelector: () => input,
    querySelectorAll: (selector) => (selector === "[data-ifllm-withdraw]" ? buttons : marks),
  },
  addEventListener: listen,
  fetch: async (url, { method, headers }) => {
    asked.push([method, url, headers.authorization]);
    if (answer instanceof Error) throw answer;
    return answer;
  },
  MutationObserver: class {
    constructor(run) {
      look = run;
    }
    observe() {}
  },
});
storage.set(KEPT, JSON.stringify([{ key: "old", person: "T0", endpoint: `${SITE}/lab/ifllm` }]));
await load("once");

const tick = (checked) => {
  input.checked = checked;
  listeners.change.listener({ target: { matches: () => true, checked } });
};
const press = async () => {
  listeners.click.listener({ target: { closest: (selector) => (selector === "[data-ifllm-withdraw]" ? { dataset: {} } : null) } });
  for (let turn = 0; turn < 20; turn++) await null;
};
const mark = (key, person, endpoint = "ifllm") => marks.push({ dataset: { ifllmKey: key, person, endpoint } }) && look();
const kept = () => JSON.parse(storage.get(KEPT) ?? "[]");
const DELETED = "Everything that was recorded of you is deleted.";

test("after a reload nobody has agreed, and what there is can be deleted", async () => {
  assert.deepEqual([props.value, props.stored], ["", true]);
  await press();
  assert.deepEqual(asked, [["DELETE", `${SITE}/lab/ifllm/v1/people/me`, "Bearer T0"]]);
  assert.deepEqual([props.said, props.stored, kept(), storage.size], [DELETED, false, [], 0]);
});

test("who ticks the box has a key, and no longer than that", async () => {
  tick(true);
  const key = props.value;
  assert.match(key, /^[0-9a-f]{32}$/);
  assert.equal(agreed, key);
  mark(key, "T1");
  mark(key, "T2");
  mark("somebody else's", "X");
  mark(key, "X", "https://evil.example.org/ifllm");
  assert.deepEqual(kept(), [{ key, person: "T2", endpoint: `${SITE}/lab/ifllm` }]);
  tick(false);
  assert.deepEqual([props.value, agreed, props.stored], ["", "", true]);
  assert.match(props.said, /Recording has stopped/);
  tick(true);
  assert.equal(props.value, key);
});

test("deleting unticks the box, and who ticks it again is somebody new; every time", async () => {
  for (let time = 0; time < 3; time++) {
    const key = props.value;
    asked.length = 0;
    await press();
    assert.equal(asked.length, 1);
    assert.deepEqual([props.value, agreed, props.said, kept()], ["", "", DELETED, []]);
    assert.equal(buttons[0].textContent, "Everything is deleted");
    assert.equal(input.checked, false);
    tick(true);
    assert.notEqual(props.value, key);
    assert.equal(buttons[0].textContent, "Stop and delete everything");
    mark(props.value, `of ${time}`);
  }
});

test("what is not deleted is not said to be, and can be tried again", async () => {
  for (const outcome of [new Error("away"), { status: 503 }]) {
    answer = outcome;
    await press();
    assert.match(props.said, /NOT deleted yet/);
    assert.deepEqual([props.value, agreed, kept().length, props.stored], ["", "", 1, true]);
  }
  answer = { status: 410 };
  await press();
  assert.match(props.said, new RegExp(`cannot be deleted from this page.*gradio-${kept()[0].key}`));
  answer = { status: 204 };
  await press();
  assert.deepEqual([props.said, kept()], [DELETED, []]);
});

test("an answer that was on its way when everything was deleted is deleted too", async () => {
  tick(true);
  const key = props.value;
  asked.length = 0;
  await press();
  assert.deepEqual([asked, props.said], [[], DELETED]);
  mark(key, "late");
  assert.deepEqual(asked, [["DELETE", `${SITE}/lab/ifllm/v1/people/me`, "Bearer late"]]);
});

test("what is deleted from another tab ends recording in this one", () => {
  tick(true);
  storage.clear();
  listeners.storage.listener({ key: KEPT });
  assert.deepEqual([props.value, agreed, props.said], ["", "", "It was deleted from another tab."]);
  assert.ok(listeners.click.capture && listeners.change.capture);
});

test("a key whose answers were never seen is not said to be deleted", async () => {
  storage.set(KEPT, JSON.stringify([{ key: "lost" }]));
  await load("again");
  await press();
  assert.match(props.said, /on its way.*gradio-lost/);
  assert.deepEqual(kept(), [{ key: "lost" }]);
});
