// Which tracker a mark in the page may load: one of the page's own origin. Of files, all have the origin "null".

import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { pathToFileURL } from "node:url";

const folder = mkdtempSync(join(tmpdir(), "ifllm-"));
writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
writeFileSync(
  join(folder, "ifllm.js"),
  "export const createTracker = (options) => { globalThis.made = options; return { grantConsent() {}, stop() { globalThis.stopped = options; }, streamStart() {}, vote(answer) { globalThis.voted.push(answer); } }; };",
);

const answers = [];
const shown = [];
globalThis.voted = [];
const mark = { dataset: { ifllmStudy: "recording", person: "token", consent: "v1" } };
let look;
Object.assign(globalThis, {
  location: { href: pathToFileURL(join(folder, "page.html")).href, origin: "null" },
  document: {
    querySelectorAll: (selector) =>
      ({ "[data-ifllm-study]": [mark], "[data-ifllm-token]": answers, "[data-ifllm-stream]": shown })[selector] ?? [],
  },
  MutationObserver: class {
    constructor(run) {
      look = run;
    }
    observe() {}
  },
});

test("a mark of another origin loads nothing, and one of the page's own does", async () => {
  for (const endpoint of ["https://evil.example.org/ifllm", "http://127.0.0.1:9/ifllm"]) {
    mark.dataset.endpoint = endpoint;
    await (look ? look() : import("../../../ifllm_hub/collect/static/study.js"));
    assert.equal(globalThis.made, undefined);
  }
  mark.dataset.endpoint = ".";
  await look();
  assert.deepEqual(globalThis.made, { endpoint: ".", person: "token", consentVersion: "v1", gaze: null });
});

const loaded = async () => {
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
};

test("what has a key counts only while its person agrees", async () => {
  globalThis.made = undefined;
  ifllmStudy.agree(""); // of the test before, which has no key
  mark.dataset = { ifllmStudy: "recording", person: "token", consent: "v1", endpoint: ".", ifllmKey: "k1" };
  const [mine, other] = ["k1", "k2"].map((key) => ({ dataset: { ifllmKey: key, ifllmToken: `of ${key}` } }));
  answers.push(mine, other);
  await look();
  await loaded();
  assert.equal(globalThis.made, undefined);
  assert.ok(!("ifllmResponse" in mine.dataset));
  ifllmStudy.agree("k1");
  await loaded();
  assert.equal(globalThis.made.person, "token");
  assert.equal(mine.dataset.ifllmResponse, "of k1");
  assert.ok(!("ifllmResponse" in other.dataset));
  globalThis.stopped = undefined;
  ifllmStudy.agree("");
  assert.equal(globalThis.stopped, globalThis.made); // at once
  assert.ok(!("ifllmResponse" in mine.dataset));
  globalThis.made = undefined;
  ifllmStudy.agree("k1");
  await loaded();
  assert.equal(globalThis.made.person, "token"); // whoever ticks the box again goes on
});

test("a vote is on one answer, or on the preference of two", () => {
  shown.push({ dataset: { ifllmStream: "q/left", ifllmResponse: "A" } });
  ifllmStudy.vote(2); // nobody can prefer one of one
  ifllmStudy.vote(1);
  assert.deepEqual(globalThis.voted, [shown[0]]);
  shown.push({ dataset: { ifllmStream: "q/right", ifllmResponse: "B" } });
  ifllmStudy.vote(1); // the ratings of two come beside their preference
  ifllmStudy.vote(2);
  assert.deepEqual(globalThis.voted, [shown[0], shown[0]]);
});
