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
  "export const createTracker = (options) => { globalThis.made = options; return { grantConsent() {} }; };",
);

const mark = { dataset: { ifllmStudy: "recording", person: "token", consent: "v1" } };
let look;
Object.assign(globalThis, {
  location: { href: pathToFileURL(join(folder, "page.html")).href, origin: "null" },
  document: { querySelector: () => mark, querySelectorAll: () => [], addEventListener() {} },
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
    await (look ? look() : import("../../ifllm_hub/collect/static/study.js"));
    assert.equal(globalThis.made, undefined);
  }
  mark.dataset.endpoint = ".";
  await look();
  assert.deepEqual(globalThis.made, { endpoint: ".", person: "token", consentVersion: "v1" });
});
