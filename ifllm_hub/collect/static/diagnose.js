/**
 * Which parts of the recording work on this page, in plain words, and what to do about those that do not.
 *
 * Stores nothing and sends no reading: it asks the collector what it would say to the page's tokens (`/v1/check`).
 * `tracker.diagnose()` loads this. Where no tracker runs, `import("/ifllm/diagnose.js").then((it) => it.diagnose())` in
 * the console finds out why, by the page's tag.
 */

const ATTRIBUTE = "data-ifllm-response";
const TOKEN = /^[\w-]{1,980}\.[\w-]{43}$/;
// The collector is asked about this many of the last answers; a batch may name as many.
const MOST_ANSWERS = 16;
// The size of the largest batch, bytes: a proxy may accept less than the collector.
const FILLER = 50_000;
const CLOCK_MS = 60_000;
const PATIENCE_MS = 10_000;
// How far into an element its registered text is searched for, code points.
const REACH = 500;

const AGAIN = "Register the text as the page shows it, answer.textContent, when the answer is complete.";
const BY_CODE = {
  bad_token:
    "Register the answer at this collector, and put its `token` on the element, its `person_token` into the tracker.",
  expired_token: "Reload the page, so that its answers are registered again: a token lasts 12 hours.",
  withdrawn: "Once the person agrees again, build the page again with tokens registered after that.",
  too_large: "Raise `max_body` in the collector's settings.",
  too_many_requests: "Wait a minute. If it lasts, raise `address_rate`, or start the collector with --behind-proxy.",
  unavailable:
    "Check whether the disk is full, or the database locked or unreachable. Pages keep readings and resend them.",
  failed: "See the collector's log.",
};

/**
 * A list of {check, ok, said, todo}, also printed as a table; `ok` is null if there was nothing to check yet.
 *
 * `options` are the tracker's, with `script`, the address it is loaded from; without a tracker they are those of the
 * page's tag. A page that creates its tracker later has no known `person`. `state` is the tracker's; undefined if there
 * is none.
 */
export async function diagnose(options = ofTag(), state) {
  const found = options ? await examine(options, state) : [noTracker()];
  console.table(found);
  return found;
}

function ofTag() {
  const tag = document.querySelector("script[data-endpoint]");
  if (!tag) return null;
  const { endpoint, person, consent } = tag.dataset;
  return { endpoint, person: person ?? "", consentVersion: consent, script: tag.src };
}

const noTracker = () =>
  row(
    "script",
    false,
    "There is no tracker on this page.",
    "Add the script of the collector; see Embedding in docs/collector.md.",
  );

const row = (check, ok, said, todo = "") => ({ check, ok, said, todo });

async function examine({ endpoint, person, consentVersion, script }, state) {
  const base = endpoint.replace(/\/+$/, "");
  if (!URL.canParse(`${base}/`, document.baseURI)) {
    return [
      row(
        "delivery",
        false,
        `The endpoint ${endpoint} is not an address.`,
        "Write where the collector is, such as /ifllm.",
      ),
    ];
  }
  const at = (path) => new URL(`${base}/${path}`, document.baseURI).href;
  const answers = [...document.querySelectorAll(`[${ATTRIBUTE}]`)].map(answerOf);
  const asked = answers.filter(({ token }) => TOKEN.test(token)).slice(-MOST_ANSWERS);
  const probe = {
    responses: asked.map(({ token }) => token),
    person: TOKEN.test(person) ? person : null,
    consent: consentVersion ?? null,
    filler: "-".repeat(FILLER),
  };
  const init = { method: "POST", headers: { "content-type": "text/plain" }, body: JSON.stringify(probe) };
  const reply = await ask(at("v1/check"), init);
  const verdict = reply.status === 200 && reply.json.responses ? reply.json : null;
  verdict?.responses.forEach((error, n) => (asked[n].error = error));
  return [
    state === undefined ? await loads(script || at("ifllm.js"), reply) : runs(verdict),
    await delivers(reply, verdict, at, base),
    isAllowed(reply, verdict, at("v1/check")),
    agreed(state, verdict, consentVersion),
    signed(answers, person, verdict),
    await shows(answers),
    ...onTime(verdict),
  ];
}

function answerOf(element) {
  const token = element.getAttribute(ATTRIBUTE);
  const begin = element.textContent.trim().slice(0, 24);
  const name = `<${element.localName}${element.id && `#${element.id}`}>${begin && ` “${begin}…”`}`;
  return { element, token, name, payload: payloadOf(token), error: null };
}

const payloadOf = (token) => parsed(() => atob(token.split(".")[0].replace(/-/g, "+").replace(/_/g, "/")));

function parsed(read) {
  try {
    return JSON.parse(read()) ?? {};
  } catch {
    return {};
  }
}

/** {status, json, type, url}; status 0 if unreadable: `policy` forbids it, or it `isHidden` from this page. */
async function ask(url, init = {}) {
  const plain = () => ({ credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  const { value, policy } = await underPolicy(async () => {
    const response = await fetch(url, { ...plain(), ...init });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "no content type";
    return { status: response.status, json: parsed(() => text), type, url: response.url };
  });
  if (value) return value;
  const isHidden =
    !policy &&
    (await fetch(url, { ...plain(), mode: "no-cors" }).then(
      () => true,
      () => false,
    ));
  return { status: 0, json: {}, url, policy, isHidden };
}

/** {value}, or {error, policy}: the directive of the page's Content-Security-Policy that forbade it, if one did. */
async function underPolicy(work) {
  let policy;
  const note = (event) => (policy = event.effectiveDirective);
  document.addEventListener("securitypolicyviolation", note);
  try {
    return { value: await work() };
  } catch (error) {
    await new Promise((then) => setTimeout(then, 50)); // the event is a task of its own
    return { error, policy };
  } finally {
    document.removeEventListener("securitypolicyviolation", note);
  }
}

const runs = (verdict) =>
  row("script", true, `The tracker runs${verdict ? `; the collector's is version ${verdict.version}` : ""}.`);

/** Why the script does not run, if there is no tracker. */
async function loads(url, reply) {
  const { value, error, policy: said } = await underPolicy(() => import(url));
  // A browser may remember that the page was not allowed to load it, and not say so again; of another address it would.
  const policy = said ?? (error && (await underPolicy(() => import(`${url}${url.includes("?") ? "&" : "?"}again`))).policy);
  if (value?.createTracker) {
    const todo =
      "Right if the page waits for consent: agree, and call ifllm.diagnose() in the console. Else call createTracker.";
    return row("script", null, "The script can be loaded, but the page has not created a tracker so far.", todo);
  }
  const failed = (said, todo) => row("script", false, said, todo);
  if (error?.message.startsWith("ifllm-tracker:")) {
    return failed(`The script stops: ${error.message}.`, "Give its tag data-endpoint, data-person and data-consent.");
  }
  if (policy) return failed(...byPolicy(policy, url));
  const got = await ask(url);
  if (!got.status && !got.policy && !got.isHidden && reply.status && !isMixed(url)) {
    const todo =
      "Name it ifllm.js, which is on no list of blockers, serve it from the page's origin, try without extensions.";
    return failed(`The collector answers, but something in this browser blocks ${url}.`, todo);
  }
  if (got.status === 200 && got.type.includes("javascript")) {
    return failed(
      `${url} does not start: ${error?.message ?? "it has no createTracker"}.`,
      "Serve the file tracker.js of the package there.",
    );
  }
  return failed(...strange(got, url));
}

/** What to say, and what to do, about an answer that is not the collector's. */
function strange({ status, json, type, url: from, policy, isHidden }, url) {
  if (json.error) return [`The collector: “${json.error.message}” (${status}).`, BY_CODE[json.error.code] ?? ""];
  if (policy) return byPolicy(policy, url);
  if (isMixed(url))
    return [`The page is on HTTPS and ${url} is not, which browsers forbid.`, "Put the collector behind HTTPS, too."];
  if (isHidden) {
    const todo =
      "If it is the collector, make what is in front of it pass on Origin and headers; else correct the endpoint.";
    return [`Something answers at ${url}, but does not let this page read it.`, todo];
  }
  if (!status) {
    return [
      `Nothing answers at ${url}.`,
      "Start the collector, correct the endpoint, or switch off what blocks it in this browser.",
    ];
  }
  if (status === 413) {
    return [
      "Something in front of the collector refuses bodies as large as a batch (413).",
      "Let it accept 256 KiB (nginx: client_max_body_size 256k).",
    ];
  }
  if (status === 429)
    return [
      "Something in front of the collector limits requests (429).",
      "Let it accept one per second from each page.",
    ];
  if (status >= 500)
    return [
      `What is in front of the collector does not reach it (${status}).`,
      "Start the collector, or correct where the proxy looks for it.",
    ];
  if (status >= 400)
    return [
      `The collector is not at ${url} (${status}).`,
      "Correct the endpoint: it is where the collector's router is mounted.",
    ];
  const moved = from === url ? "" : ` from ${from}`;
  return [
    `Something else answers in the collector's place: ${type}${moved}.`,
    "Log in to the network if it asks for that; else correct the endpoint, or make the proxy pass it on.",
  ];
}

const byPolicy = (policy, url) => [
  `The page's Content-Security-Policy forbids ${url} (${policy}).`,
  `Add ${new URL(url).origin} to its ${policy.startsWith("script") ? "script-src" : policy}.`,
];

const isMixed = (url) => location.protocol === "https:" && /^http:\/\/(?!localhost[:/]|127\.|\[::1\])/.test(url);

async function delivers(reply, verdict, at, base) {
  if (!verdict && (reply.isHidden || reply.json.error?.code === "origin_not_allowed")) {
    return row("delivery", null, "Not checked, because of the origin.");
  }
  const health = verdict ? await ask(at("v1/health")) : reply;
  if (health.json.status === "ok") {
    return row("delivery", true, "The collector accepts bodies as large as a batch, and can write to its store.");
  }
  const [said, todo] = strange(health, at("v1/check"));
  // Such as when a proxy has put page and collector under a path, and the page leaves that out.
  const beside = new URL(`${base.replace(/^\/+/, "")}/v1/health`, document.baseURI).href;
  const isElsewhere = base.startsWith("/") && beside !== at("v1/health") && [200, 404].includes(health.status);
  const isBeside = isElsewhere && (await ask(beside)).json.status === "ok";
  const found = beside.replace("/v1/health", "");
  const relative = `It is at ${found}: write the endpoint without the first slash, ${base.slice(1)}.`;
  return row("delivery", false, said, isBeside ? relative : todo);
}

function isAllowed({ json, isHidden }, verdict, url) {
  const page = location.origin;
  if (verdict) return row("origin", true, `Pages of ${page} may report.`);
  if (isHidden) return row("origin", false, ...strange({ json, isHidden }, url));
  if (json.error?.code !== "origin_not_allowed")
    return row("origin", null, "Not checked: the collector was not reached.");
  const todo = `Start the collector with --origin ${page}`;
  const isOwn = new URL(url).origin === page;
  const more = isOwn ? ", or make the proxy pass on the host (nginx: proxy_set_header Host $http_host)." : ".";
  return row("origin", false, `The collector refuses ${page}: “${json.error.message}”`, todo + more);
}

function agreed(state, verdict, version) {
  if (verdict?.consent && version) {
    const todo = `Start the collector with --consent “${version}”, or use the version that it knows.`;
    return row("consent", false, `The collector does not know version “${version}” of the consent text.`, todo);
  }
  if (state === "on") return row("consent", true, "Somebody has agreed: recording is on.");
  if (state === "off" || state === undefined) {
    const todo = "Agree on the page, with the button that calls grantConsent().";
    return row(
      "consent",
      null,
      "Nobody has agreed on this page: nothing is recorded or sent until somebody does.",
      todo,
    );
  }
  return row(
    "consent",
    null,
    `Recording is over (${state}).`,
    "Create another tracker, with tokens registered after a new consent.",
  );
}

function signed(answers, person, verdict) {
  if (person === undefined) return row("token", null, "Not checked: tokens come with the tracker.");
  const [refused, todo] = badPerson(person, verdict?.person) ?? [];
  if (refused) return row("token", false, refused, todo);
  for (const { name, token, payload, error } of answers) {
    if (token === "")
      return row("token", false, `${name} is marked, but has no token.`, `Put the token into ${ATTRIBUTE}.`);
    if (!TOKEN.test(token)) return row("token", false, `The mark of ${name} is not a token.`, BY_CODE.bad_token);
    if (payload.kind === "person") {
      return row("token", false, `${name} has the person's token.`, "Put `token` on the element, not `person_token`.");
    }
    if (error) return row("token", false, `The token of ${name}: “${error.message}”`, BY_CODE[error.code]);
  }
  const people = new Set([person, ...answers.map(({ token }) => token)].map((token) => payloadOf(token).person));
  if (people.size > 1) {
    return row(
      "token",
      false,
      "The tokens of this page belong to several people.",
      "Register all answers of a page under the same `person`.",
    );
  }
  if (!verdict) return row("token", null, "They have the right form; the collector was not asked.");
  return row(
    "token",
    true,
    `Valid: the person's${answers.length ? `, and those of all answers (${answers.length})` : ""}.`,
  );
}

function badPerson(person, error) {
  const todo = "Give the tracker the `person_token` that a registration returns, as `person` or data-person.";
  if (!person) return ["The person's token is missing.", todo];
  if (!TOKEN.test(person)) return [`What is given for the person, “${person.slice(0, 24)}”, is not a token.`, todo];
  if (payloadOf(person).kind === "response") return ["Instead of the person's token there is an answer's.", todo];
  return error && [`The person's token: “${error.message}”`, BY_CODE[error.code]];
}

async function shows(answers) {
  if (!answers.length) {
    const todo = `Mark the element of each answer's text with ${ATTRIBUTE}; if answers come later, check again then.`;
    return row("text", null, "No answer is marked on this page so far.", todo);
  }
  const seen = answers.filter(({ element }) => element.getClientRects().length);
  if (!seen.length) {
    return row(
      "text",
      false,
      `No marked answer is shown: ${answers[0].name} is not.`,
      `Put ${ATTRIBUTE} on the element that people see.`,
    );
  }
  const known = seen.filter(({ payload }) => payload.text_sha256);
  if (!known.length) return row("text", null, "Not checked: without a token it is unknown what is registered.");
  const differing = [];
  for (const answer of known) {
    const difference = await differenceOf(answer);
    if (difference) differing.push([answer.name, ...difference]);
  }
  if (!differing.length) {
    const rule = crypto.subtle ? "text that was" : "number of characters that was (without HTTPS, no more is known)";
    return row("text", true, `Each answer shows the ${rule} registered for it.`);
  }
  const [name, what, todo] = differing[0];
  return row(
    "text",
    false,
    `${differing.length} of ${known.length} answers show another text than the registered one. ${name}: ${what}.`,
    todo,
  );
}

/** [what differs, what to do], or null if an answer shows its registered text. */
async function differenceOf({ element, payload }) {
  const { text_length: length, text_sha256: sha256 } = payload;
  const { textContent: text } = element;
  const characters = [...text];
  if (length && !text.trim()) return ["it is empty", `Put ${ATTRIBUTE} on the element that holds the text.`];
  if (!length) return null; // registered when it began to stream: every text begins with an empty one
  const isIt = async (some) => (crypto.subtle ? (await hash(some.join(""))) === sha256 : some.length === length);
  const isRegistered = (other) => isIt([...other].slice(0, length));
  if (await isIt(crypto.subtle ? characters.slice(0, length) : characters)) return null;
  if (isTranslated(element))
    return ["the browser has translated it", 'Keep it as it is: translate="no" on its element.'];
  for (let start = 1; start <= Math.min(characters.length - length, REACH); start++) {
    if (!(await isIt(characters.slice(start, start + length)))) continue;
    const before = characters.slice(0, start).join("");
    const what = before.trim() ? `“${before.trim().slice(0, 40)}”` : `white space (${start} characters)`;
    return [`${what} stands before it`, `Put ${ATTRIBUTE} on the element that holds the answer's text alone.`];
  }
  for (const other of [` ${text}`, `\n${text}`, `${text} `, `${text}\n`, text.trim(), text.replaceAll("\n", "\r\n")]) {
    if (await isRegistered(other)) return ["white space or line breaks differ", AGAIN];
  }
  const isRendered = element.querySelector("strong, em, code, pre, h1, h2, h3, h4, li, table, a, blockquote");
  const counts = `it has ${characters.length} characters, and ${length} are registered`;
  if (isRendered && characters.length < length)
    return [`${counts}: apparently its Markdown, not what is rendered`, AGAIN];
  if (characters.length < length) return [`${counts}: it is cut, or not complete yet`, AGAIN];
  return [counts, AGAIN];
}

const isTranslated = (element) =>
  document.documentElement.matches(".translated-ltr, .translated-rtl") ||
  element.querySelector("font font, [_msttexthash]") ||
  element.closest("[_msttexthash]");

async function hash(text) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function onTime(verdict) {
  if (!verdict) return [];
  const ahead = performance.timeOrigin + performance.now() - verdict.now;
  if (Math.abs(ahead) < CLOCK_MS) return [row("clock", true, "The clocks of page and collector agree.")];
  const minutes = Math.round(Math.abs(ahead) / 60_000);
  const said = `This page's clock is ${minutes} minutes ${ahead > 0 ? "ahead of" : "behind"} the collector's.`;
  return [row("clock", false, said, "Set the one that is wrong. Until then readings are kept, with a mark.")];
}
