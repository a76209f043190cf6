// The page's part of chat.py: it has a message for each thing that the page or the server must know.

const ENDPOINT = "http://127.0.0.1:8765/ifllm"; // the collector, as browsers reach it
const CONSENT = "2026-11-29"; // the version of QUESTION
const QUESTION =
  "May we record how you read (cursor, screen, how much you copy, when you type), with questions and answers?";

const { begin, complete, consentBox, reader, record, textOf } = await import(`${ENDPOINT}/answers.js`);

const tell = (ifllm, more) => postMessage({ ifllm, ...more }, location.origin); // Chainlit sends it to the server
const tellReader = () => tell("reader", { reader: reader() });
const textIn = (id) => `#step-${id} .message-content`;

addEventListener("message", async ({ data, origin }) => {
  if (origin !== location.origin) return;
  const { ifllm: what, id, token } = data;
  if (what === "who") tellReader();
  if (what === "person") record(token, CONSENT);
  if (what === "begin") begin(textIn(id), token);
  if (what === "text") tell("shown", { id, ...(await textOf(textIn(id))) });
  if (what === "complete") complete(textIn(id), token);
});

// Below the field for messages, of which the page makes another when a chat begins.
const box = consentBox(QUESTION, tellReader);
const place = () => box.isConnected || document.querySelector("#message-composer")?.after(box);
new MutationObserver(place).observe(document.body, { childList: true, subtree: true });
place();
tellReader();
