/**
 * The box that a person ticks to agree in a recorded chat, and every button that deletes. Only this page knows whether
 * they agree: the box's value is their key while they do, and "" otherwise; it goes to the server with each message.
 *
 * A key is a random id made when the box is ticked. Together with the token by which the page deletes, it is kept in
 * the browser's storage until everything is deleted, so that deleting works after a reload, too. Anyone who deletes and
 * agrees again is a new person. Nothing is kept, or asked of the server, before the box is ticked.
 *
 * `data-ifllm-key="KEY"` with `data-person` and `data-endpoint` in the page: the token of that key.
 */

const KEPT = `ifllm-people:${location.pathname}`; // pages of one origin may have different collectors
const DELETED = "Everything that was recorded of you is deleted.";
// Keys that were deleted before there was an answer: an answer on its way is deleted once it arrives with its token.
const gone = new Set();
const made = new Set(); // keys made since the page was loaded: it has seen every answer to them
let people = read(); // [{key, person, endpoint}]: people about whom something may be stored

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? [];
  } catch {
    return []; // no storage: it lasts as long as the page
  }
}

function keep(changed) {
  people = changed;
  try {
    if (people.length) localStorage.setItem(KEPT, JSON.stringify(people));
    else localStorage.removeItem(KEPT);
  } catch {} // as above
  show();
}

const props = () => globalThis.ifllmBox?.props;

/** Also called when Gradio renders the box again. */
function show(said) {
  const box = props();
  if (!box) return;
  box.stored = people.length > 0;
  if (said !== undefined) box.said = said;
  // The attribute alone does not untick what somebody has clicked.
  const input = document.querySelector(".ifllm-box input");
  if (input) input.checked = Boolean(box.value);
}

function agree(key, said = "") {
  const box = props();
  if (!box) return;
  box.value = key;
  globalThis.ifllmStudy.agree(key);
  show(said);
}

function toggle(ticked) {
  if (!ticked) return agree("", "Recording has stopped. What was recorded so far is still stored.");
  if (!people.length) {
    const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
    const key = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    made.add(key);
    keep([{ key }]);
  }
  label("Stop and delete everything");
  agree(people.at(-1).key);
}

/** Resolves to the message to show. */
async function erase({ key, person, endpoint }) {
  const asked = `ask whoever runs this chat to delete what is stored under gradio-${key}.`;
  if (!person && made.has(key)) {
    gone.add(key);
    return DELETED;
  }
  if (!person)
    return `No answer of yours has arrived here. If one was on its way when the page was reloaded, ${asked}`;
  const headers = { authorization: `Bearer ${person}` };
  const url = `${endpoint}/v1/people/me`;
  const response = await fetch(url, { method: "DELETE", credentials: "omit", headers }).catch(() => null);
  if (response?.status === 204) return DELETED;
  if (response && [401, 410].includes(response.status))
    return `It cannot be deleted from this page any more: ${asked}`;
  return "It is NOT deleted yet: the server did not answer. Recording has stopped. Please try again.";
}

async function withdraw() {
  agree("", "Deleting…");
  label("Deleting…");
  const left = [];
  let said = DELETED;
  for (const each of people) {
    const outcome = await erase(each);
    if (outcome === DELETED) continue;
    left.push(each);
    said = outcome;
  }
  keep(left);
  show(said);
  label(left.length ? "Not deleted: try again" : "Everything is deleted");
}

function label(text) {
  for (const button of document.querySelectorAll("[data-ifllm-withdraw]")) {
    if (!button.closest(".ifllm-box")) button.textContent = text;
  }
}

/** Keep the newest token of each of our keys; the page may hold anybody's text. */
function look() {
  for (const { dataset } of document.querySelectorAll("[data-ifllm-key][data-person]")) {
    const { ifllmKey: key, person } = dataset;
    const known = people.find((each) => each.key === key);
    if (known ? known.person === person : !gone.has(key)) continue;
    const { href: endpoint, origin } = new URL(dataset.endpoint, location.href);
    if (origin !== location.origin) continue;
    if (known) keep(people.map((each) => (each === known ? { key, person, endpoint } : each)));
    else if (gone.delete(key)) erase({ key, person, endpoint });
  }
}

// In the capture phase, since an element around a button may stop clicks from bubbling up.
addEventListener(
  "click",
  ({ target }) => {
    if (target.closest?.("[data-ifllm-withdraw]")) withdraw();
    const code = target.closest?.("[data-ifllm-copy]")?.dataset.ifllmCopy;
    if (code) navigator.clipboard?.writeText(code).then(() => show("Your code is copied."));
  },
  true,
);
addEventListener(
  "change",
  ({ target }) => {
    if (target.matches?.(".ifllm-box input")) toggle(target.checked);
  },
  true,
);
addEventListener("storage", ({ key }) => {
  if (key !== KEPT) return;
  people = read();
  const mine = props()?.value;
  if (mine && !people.some((each) => each.key === mine)) agree("", "It was deleted from another tab.");
  else show();
});
addEventListener("ifllm:box", () => show());
new MutationObserver(look).observe(document, { subtree: true, childList: true, attributeFilter: ["data-person"] });
show();
