/**
 * Tells the tracker what a page of Gradio shows: Gradio replaces its nodes, so the page is watched for marks.
 *
 * `data-ifllm-study="recording|finished|withdrawn"` with `data-endpoint`, `data-person` and `data-consent` starts and
 * ends it; before the first mark the tracker is not even loaded. `data-ifllm-stream="ID"` on a marked answer says
 * which answer it is, `data-ifllm-complete` that it is whole. A click on `data-ifllm-withdraw` deletes.
 * A mark whose endpoint is of another origin is not ours: anybody's text may be in the page.
 */

let tracker = null;
let loading = false;
const begun = new Set();
const complete = new Set();

async function look() {
  const mark = document.querySelector("[data-ifllm-study]");
  if (!mark) return;
  const { ifllmStudy: state, endpoint, person, consent } = mark.dataset;
  const script = new URL(`${endpoint}/ifllm.js`, location.href);
  if (script.origin !== location.origin) return;
  if (state === "recording" && !loading) {
    loading = true;
    const { createTracker } = await import(script.href);
    tracker = createTracker({ endpoint, person, consentVersion: consent });
    tracker.grantConsent();
  }
  if (!tracker) return;
  for (const answer of document.querySelectorAll("[data-ifllm-stream]")) tell(answer);
  if (state === "finished") tracker.stop();
  if (state === "withdrawn") tracker.withdraw();
  if (state !== "recording") tracker = null;
}

function tell(answer) {
  const { ifllmStream: id, ifllmResponse: token, ifllmComplete: whole } = answer.dataset;
  if (!token) return;
  if (!begun.has(id)) tracker.streamStart(answer);
  begun.add(id);
  if (whole === undefined || complete.has(id)) return;
  tracker.streamEnd(answer);
  complete.add(id);
}

const attributes = ["data-ifllm-study", "data-ifllm-response", "data-ifllm-complete"];
new MutationObserver(look).observe(document, { subtree: true, childList: true, attributeFilter: attributes });
document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-ifllm-withdraw]");
  if (!button || !tracker) return;
  const ending = tracker;
  tracker = null;
  await ending.withdraw();
  button.textContent = "Deleted";
});
globalThis.ifllmStudy = { submit: () => tracker?.submit() };
look();
