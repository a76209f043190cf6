/**
 * Tells the tracker what a Gradio page shows: Gradio replaces its nodes, so this watches the page for marks.
 *
 * `data-ifllm-study="recording|finished|withdrawn"` with `data-endpoint`, `data-person` and `data-consent` starts and
 * ends recording; before the first mark the tracker is not even loaded. `data-ifllm-stream="ID"` on a marked answer
 * says which answer it is, and `data-ifllm-complete` that it is complete. With `data-camera`, the person sets up their
 * camera first, and checks it before the answers to each further question. Marks and answers with a `data-ifllm-key`
 * count only while `ifllmStudy.agree(KEY)` was the last call of its kind; such an answer has its token in
 * `data-ifllm-token`, and the tracker has it only that long. A mark whose endpoint has another origin is not ours: the
 * page may hold anybody's text.
 */

let tracker = null;
let gaze = null;
let question = null;
let loading = false;
let agreed = "";
const begun = new Set();
const complete = new Set();

async function look() {
  for (const answer of document.querySelectorAll("[data-ifllm-token]")) {
    const { ifllmKey: key, ifllmToken: token, ifllmResponse: marked } = answer.dataset;
    if (key !== agreed) delete answer.dataset.ifllmResponse;
    else if (token !== marked) answer.dataset.ifllmResponse = token;
  }
  const marks = [...document.querySelectorAll("[data-ifllm-study]")];
  const mark = marks.findLast(({ dataset }) => (dataset.ifllmKey ?? agreed) === agreed);
  if (!mark) return;
  const { ifllmStudy: state, endpoint, person, consent, camera } = mark.dataset;
  const script = new URL(`${endpoint}/ifllm.js`, location.href);
  if (script.origin !== location.origin) return;
  if (state === "recording" && !loading) {
    loading = true;
    const { createTracker } = await import(script.href);
    if (camera) gaze = await setUpCamera(endpoint, camera === "required").catch((error) => void console.error(error));
    if (camera === "required" && !gaze) return;
    if (tracker || (mark.dataset.ifllmKey ?? agreed) !== agreed) return; // overtaken, or withdrawn
    tracker = createTracker({ endpoint, person, consentVersion: consent, gaze });
    tracker.grantConsent();
  }
  if (!tracker) return;
  for (const answer of document.querySelectorAll("[data-ifllm-stream]")) tell(answer);
  if (state === "finished") tracker.stop();
  if (state === "withdrawn") tracker.withdraw();
  if (state !== "recording") tracker = null;
}

async function setUpCamera(endpoint, isRequired) {
  const { setUp } = await import(new URL(`${endpoint}/camera/setup.js`, location.href).href);
  return setUp(isRequired, stopAndDelete);
}

/** Press the page's own button, which is not there before what is around it is unfolded. */
async function stopAndDelete() {
  const button = () => document.querySelector("#withdraw");
  if (!button()) document.querySelector("#stop button").click();
  while (!button()) await new Promise(requestAnimationFrame);
  button().click();
}

function tell(answer) {
  const { ifllmStream: id, ifllmResponse: token, ifllmComplete: whole } = answer.dataset;
  const [asked] = id.split("/");
  if (question && question !== asked) gaze?.check(tracker.flush); // while its answers are awaited
  question = asked;
  if (!token) return;
  if (!begun.has(id)) tracker.streamStart(answer);
  begun.add(id);
  if (whole === undefined || complete.has(id)) return;
  tracker.streamEnd(answer);
  complete.add(id);
}

const attributes = ["data-ifllm-study", "data-ifllm-response", "data-ifllm-token", "data-ifllm-complete"];
new MutationObserver(look).observe(document, { subtree: true, childList: true, attributeFilter: attributes });

/** The key of the person who agrees in a chat; "" stops recording at once. */
function agree(key) {
  if (key !== agreed) {
    tracker?.stop();
    tracker = null;
    loading = false;
  }
  agreed = key;
  look();
}

/** The reader has rated the answer on the page, or said which of the `answers` on it is better. */
function vote(answers) {
  const shown = document.querySelectorAll("[data-ifllm-stream]");
  if (shown.length === answers) tracker?.vote(shown[0]);
}

globalThis.ifllmStudy = { agree, submit: () => tracker?.submit(), vote };
look();
