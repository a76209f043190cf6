/**
 * Recording in the chat page of another product, whose server says who reads and which answers there are. It is served
 * beside the tracker, for the collector that it came from.
 *
 * An answer is named by a CSS selector of its text. It is marked as soon as it is on the page, and again whenever the
 * page has rendered it anew.
 */

import { createTracker } from "./ifllm.js";

const ENDPOINT = new URL(".", import.meta.url).href;
const KEPT = `ifllm-reader:${ENDPOINT}`;
const STOPPED = `ifllm-stopped:${ENDPOINT}`;
// An answer that has not changed for this long is complete on the page, too.
const QUIET_MS = 400;
// How often the text of a growing answer is kept to compare, and how much at its end may still be unclosed Markdown.
const SAMPLE_MS = 250;
const UNSETTLED = 40;

const answers = new Map(); // by selector: {token, begun, samples, sampledAt}
const thumbed = new Map(); // by selector: [up, down]
let tracker = null;

/**
 * Start recording for a person who has agreed. It does nothing while somebody is recorded, or is being deleted, nor after
 * somebody has pressed "Stop and delete" in a consent box, until all of it is deleted or they agree again.
 */
export function record(person, consentVersion) {
  if (["on", "deleting"].includes(tracker?.state)) return;
  tracker = createTracker({ endpoint: ENDPOINT, person, consentVersion });
  if (!localStorage[STOPPED]) tracker.grantConsent(); // else it is there to delete
}

/** An answer begins. The token is that of an empty text, with which every text begins. */
export function begin(selector, token) {
  if (answers.has(selector)) return;
  answers.set(selector, { token, begun: false, samples: [], sampledAt: -Infinity });
  tracker?.submit(); // it was asked for just now
  mark();
}

/**
 * Resolves to {text, grew} once an answer no longer grows. `text` is null if the page does not show it; `grew` is false
 * if the page showed another text before: then what was recorded until now must not be taken for a reading of this one.
 */
export async function textOf(selector) {
  let text, before;
  do {
    before = text;
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    text = document.querySelector(selector)?.textContent ?? null;
  } while (text !== before);
  const samples = answers.get(selector)?.samples ?? [];
  return { text, grew: samples.every((sample) => text?.startsWith(sample.slice(0, -UNSETTLED))) };
}

/** An answer is complete. The token is that of its text. */
export function complete(selector, token) {
  const known = answers.get(selector);
  if (known?.token === token) return;
  answers.set(selector, { token, begun: true, samples: null });
  mark();
  const element = document.querySelector(selector);
  if (known?.begun && element) tracker.streamEnd(element);
}

/** A click on one of two buttons, named by CSS selectors, is a thumb on an answer. */
export function thumbs(selector, up, down) {
  thumbed.set(selector, [up, down]);
}

/** Recording ends, and everything of the person is deleted; see `withdraw` of the tracker. */
export const withdraw = async () => tracker?.withdraw();

function mark() {
  if (tracker?.state !== "on") return;
  for (const [selector, answer] of answers) {
    const element = document.querySelector(selector);
    if (!element) continue;
    if (answer.samples && performance.now() - answer.sampledAt > SAMPLE_MS) {
      answer.samples.push(element.textContent);
      answer.sampledAt = performance.now();
    }
    if (element.dataset.ifllmResponse === answer.token) continue;
    element.dataset.ifllmResponse = answer.token;
    if (!answer.begun) tracker.streamStart(element);
    answer.begun = true;
  }
}

function unmark() {
  if (tracker?.state === "on") return;
  answers.clear();
  for (const element of document.querySelectorAll("[data-ifllm-response]")) delete element.dataset.ifllmResponse;
}

function noteThumb({ target }) {
  for (const [selector, [up, down]] of thumbed) {
    const value = target.closest?.(up) ? 1 : target.closest?.(down) ? -1 : 0;
    const answer = value && document.querySelector(selector);
    if (answer?.dataset.ifllmResponse) tracker.thumb(answer, value);
  }
}

new MutationObserver(mark).observe(document, { subtree: true, childList: true, characterData: true });
document.addEventListener("ifllm:state", unmark);
addEventListener("click", noteThumb, true); // in the capture phase: a button may stop clicks from bubbling up

/** The key of the person who has agreed in this browser, or "". */
export const reader = () => localStorage[KEPT] ?? "";

/**
 * A box in which a person agrees to be recorded and has all of it deleted, for pages without accounts. Who they are is
 * a random key, kept in the browser's storage from when they agree until everything is deleted.
 *
 * @param {string} question what they agree to.
 * @param {() => void} changed is called when `reader()` changes. For a key the server then calls `record`.
 * @returns {HTMLElement}
 */
export function consentBox(question, changed) {
  const box = document.createElement("div");
  box.style.cssText = "display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: center; font-size: 14px";
  const add = (name, textContent) => Object.assign(box.appendChild(document.createElement(name)), { textContent });
  const asked = add("span", question);
  const [agree, forget] = ["Record how I read", "Stop and delete"].map((text) => add("button", text));
  for (const button of [agree, forget]) {
    button.style.cssText = "border: 1px solid; border-radius: 6px; padding: 2px 8px; background: none; color: inherit";
  }
  const status = add("span", "");
  status.setAttribute("role", "status");
  const show = () => {
    const isOn = tracker?.state === "on";
    asked.hidden = agree.hidden = isOn;
    forget.hidden = !reader();
    status.textContent = isOn ? "Recording." : "Not recording.";
  };
  agree.onclick = () => {
    const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
    delete localStorage[STOPPED];
    localStorage[KEPT] ??= bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    changed();
    show();
  };
  forget.onclick = async () => {
    localStorage[STOPPED] = "yes";
    try {
      if (!tracker) throw new Error("the server has not answered");
      await withdraw();
      delete localStorage[KEPT];
      delete localStorage[STOPPED];
      changed();
      show();
      status.textContent = "Everything is deleted.";
    } catch {
      status.textContent = "It is not deleted yet. Please load the page again and try again.";
    }
  };
  document.addEventListener("ifllm:state", show);
  show();
  return box;
}
