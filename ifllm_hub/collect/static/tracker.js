/**
 * ifllm-tracker: where in an LLM answer the cursor is, for people who have agreed.
 *
 * Answers are elements marked `data-ifllm-response="TOKEN"`, now or later. It listens to, keeps and sends nothing
 * before `grantConsent()`. Every 80 ms it samples the pointer and, if that is on a marked answer, records its position
 * with the offset of the character under it, in code points of the answer's `textContent`. While an answer is on the
 * screen, it records which characters are. Never recorded: text, keys, form values, anything outside marked answers.
 */

const ATTRIBUTE = "data-ifllm-response";
const SELECTOR = `[${ATTRIBUTE}]:not([${ATTRIBUTE}=""])`;
const SAMPLE_MS = 80;
// After this long without pointer movement or scrolling, nobody is taken to be reading with the pointer.
const IDLE_MS = 120_000;
// A gaze adapter that sees no face reports nothing; its last point counts for this long.
const GAZE_MS = 500;
// A page that did not run for this long was not busy but asleep with its machine, and nobody was reading it.
const ASLEEP_MS = 5000;
const REQUEST_MS = 30_000;
// What is on the screen is recorded when it changes, and this often if it does not.
const VIEW_MS = 1000;
const MOST = { responses: 16, ticks: 512, gaze: 512, events: 256, views: 512, text: 32_767 };
const KINDS = { mouse: 0, pen: 1, touch: 2, gaze: 3, noFace: 4 };
// Instead of an offset, if an answer does not show its registered text, or that is not known yet.
const OTHER_TEXT = -2;
// How far to look beside a caret: over 64 code points without a box (collapsed white space), or 16 with one (a
// cluster).
const FAR = 64;

// Firefox before 125 has none.
const clusters = Intl.Segmenter && new Intl.Segmenter();

const clock = () => Math.round(performance.now());

/** Number of code points; a lone surrogate counts as one. */
export function codePoints(text) {
  return text.length - (text.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);
}

/**
 * Offset of the character under a point (CSS px in the viewport), in code points of the answer's `textContent`.
 *
 * A character's box includes the leading of its line. Of a cluster (a letter and its accents, the parts of an emoji)
 * the first code point counts, whatever boxes an engine gives them. -1 if no character of the answer is there.
 */
export function charAt(answer, x, y) {
  const element = caretAt(x, y)[0]?.parentElement;
  if (!element) return -1;
  // Between two lines the caret is not always on the line that the leading belongs to; between scripts of two
  // directions its neighbors in the text are not those on the screen. Then a caret slightly further on is beside the
  // character.
  const reach = lineAt(element, answer, 0) / 2;
  for (const [dx, dy] of [[0, 0], [0, reach], [0, -reach], [reach / 4, 0], [-reach / 4, 0]]) {
    const found = characterBeside(caretAt(x + dx, y + dy), answer, x, y);
    if (!found) continue;
    const rest = found.endContainer.data.slice(found.endOffset);
    found.setStart(answer, 0);
    const upTo = found.toString();
    if (!clusters) return codePoints(upTo) - 1;
    // Uses the last unit of the code point: for the first of two, WebKit returns the cluster before.
    return codePoints(upTo.slice(0, clusters.segment(upTo + rest).containing(upTo.length - 1).index));
  }
  return -1;
}

/** The character with a point in its box, of those beside a caret, as a range, or null. */
function characterBeside([node, offset], answer, x, y) {
  if (node?.nodeType !== Node.TEXT_NODE || node.parentElement?.closest(SELECTOR) !== answer) return null;
  for (const backwards of [false, true]) {
    let passed = 0;
    for (const range of charactersFrom(answer, node, offset, backwards)) {
      const boxes = boxesOf(range).filter((box) => box.width > 0);
      const isUnder = ({ left, right, top, height }) => {
        if (x < left || x >= right) return false;
        const below = top + height / 2 - y;
        const half = lineAt(range.startContainer.parentElement, answer, height) / 2;
        return below <= half && below > -half;
      };
      if (boxes.some(isUnder)) return range;
      passed += boxes.length ? 4 : 1;
      if (passed > FAR) break;
    }
  }
  return null;
}

/** The boxes of a range, CSS px of the page. */
function boxesOf(range) {
  const start = range.startContainer;
  const element = start.parentElement ?? start;
  const scale = element.currentCSSZoom ? 1 : zoomOf(element);
  const boxes = [...range.getClientRects()];
  if (scale === 1) return boxes;
  const scaled = ({ left, top, width, height }) => new DOMRect(left * scale, top * scale, width * scale, height * scale);
  return boxes.map(scaled);
}

/**
 * What of an answer is on the screen: [first, last, share, top, bottom], or null if nothing is.
 *
 * The first and last character whose middle is between the top and bottom of what is visible, code points of the
 * answer's `textContent` (-1 if there is none), the visible share of its box in thousandths, and the top and bottom of
 * the visible part, CSS px in the viewport. What scrolls past, or lies under something fixed at an edge, is not visible.
 */
export function visiblePart(answer) {
  const whole = document.createRange();
  whole.selectNodeContents(answer);
  const boxes = boxesOf(whole).filter((box) => box.width > 0 && box.height > 0);
  if (!boxes.length) return null;
  const edge = (name, most) => most(...boxes.map((box) => box[name]));
  const all = [edge("left", Math.min), edge("top", Math.min), edge("right", Math.max), edge("bottom", Math.max)];
  const [left, top, right, bottom] = uncovered(answer, clipped(answer, all));
  const area = (right - left) * (bottom - top);
  if (!(right > left && bottom > top)) return null;
  const share = Math.min(1000, Math.ceil((1000 * area) / ((all[2] - all[0]) * (all[3] - all[1]))));
  const edges = [Math.round(top), Math.round(bottom)];
  const first = characterAtEdge(answer, top, bottom, false);
  if (!first) return [-1, -1, share, ...edges];
  const [node, offset] = characterAtEdge(answer, top, bottom, true) ?? first;
  whole.setEnd(...first);
  const before = codePoints(whole.toString());
  whole.setEnd(node, offset + 1);
  return [before, codePoints(whole.toString()) - 1, share, ...edges];
}

/** The part of a box that the window and scrolling elements around an answer leave: [left, top, right, bottom]. */
function clipped(answer, box) {
  const meet = ([left, top, right, bottom], other) => [
    Math.max(left, other.left),
    Math.max(top, other.top),
    Math.min(right, other.right),
    Math.min(bottom, other.bottom),
  ];
  // Of a page that is zoomed by two fingers only a part is on the screen.
  const { offsetLeft: x, offsetTop: y, width, height } = visualViewport;
  box = meet(box, { left: x, top: y, right: x + width, bottom: y + height });
  for (let element = answer; element && element !== document.body; element = element.parentElement) {
    if (getComputedStyle(element).overflow !== "visible") box = meet(box, element.getBoundingClientRect());
  }
  return box;
}

/** A box without what lies over its top and bottom, such as the field for the next message on a phone. */
function uncovered(answer, [left, top, right, bottom]) {
  const middle = (left + right) / 2;
  const coverAt = (y) => {
    const found = document.elementFromPoint(middle, y);
    return found && !found.contains(answer) && !answer.contains(found) ? found.getBoundingClientRect() : null;
  };
  // A cover may consist of several elements.
  for (let tries = 0, cover; tries < 4 && top < bottom && (cover = coverAt(top + 1)); tries++) {
    top = Math.max(top + 1, cover.bottom);
  }
  for (let tries = 0, cover; tries < 4 && top < bottom && (cover = coverAt(bottom - 1)); tries++) {
    bottom = Math.min(bottom - 1, cover.top);
  }
  return [left, top, right, bottom];
}

/** The first (or last) character of an answer whose middle is between two heights: [node, offset in units], or null. */
function characterAtEdge(answer, top, bottom, fromEnd) {
  const walker = document.createTreeWalker(answer, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  if (fromEnd) nodes.reverse();
  for (const node of nodes) {
    range.selectNodeContents(node);
    if (!boxesOf(range).some((box) => box.bottom > top && box.top < bottom)) continue;
    // The height of the first character with a box from an offset on, or of the last one before it.
    const heightAt = (offset) => {
      range.setStart(node, fromEnd ? 0 : offset);
      range.setEnd(node, fromEnd ? offset + 1 : node.length);
      const box = boxesOf(range).filter(({ width }) => width > 0).at(fromEnd ? -1 : 0);
      return box && box.top + box.height / 2;
    };
    // Within a node lines follow one another, so half of what is left can be passed over at each step.
    let [low, high] = [0, node.length];
    while (low < high) {
      const at = (low + high) >> 1;
      const height = heightAt(at);
      const isPast = fromEnd ? height >= bottom : height === undefined || height >= top;
      if (isPast) high = at;
      else low = at + 1;
    }
    let found = fromEnd ? low - 1 : low;
    const height = found >= 0 && found < node.length ? heightAt(found) : undefined;
    if (!(height >= top && height < bottom)) continue;
    const hasBox = () => {
      range.setStart(node, found);
      range.setEnd(node, found + 1);
      return boxesOf(range).some(({ width }) => width > 0);
    };
    while (!hasBox()) found += fromEnd ? -1 : 1; // collapsed white space
    return [node, found];
  }
  return null;
}

/** The position between two characters nearest to a point: [node, offset], or []. */
function caretAt(x, y) {
  const caret = document.caretPositionFromPoint?.(x, y);
  if (caret?.offsetNode) return [caret.offsetNode, caret.offset];
  const range = document.caretRangeFromPoint?.(x, y);
  return range ? [range.startContainer, range.startOffset] : [];
}

/** Code points after (or before) a position in an answer's text, nearest first, as one moving range. */
function* charactersFrom(answer, node, offset, backwards) {
  const walker = document.createTreeWalker(answer, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  walker.currentNode = node;
  while (node) {
    while (backwards ? offset > 0 : offset < node.length) {
      const size = node.data.codePointAt(backwards ? offset - 2 : offset) > 0xffff ? 2 : 1;
      const start = backwards ? offset - size : offset;
      range.setStart(node, start);
      range.setEnd(node, start + size);
      yield range;
      offset = backwards ? start : start + size;
    }
    node = backwards ? walker.previousNode() : walker.nextNode();
    offset = backwards && node ? node.length : 0;
  }
}

/** Height of the line that a box is on, or of the box if that is more, px. */
function lineAt(element, answer, height) {
  let block = element;
  while (block !== answer && getComputedStyle(block).display === "inline") block = block.parentElement;
  return Math.max(height, parseFloat(getComputedStyle(block).lineHeight) * zoomOf(block) || 1.25 * height);
}

/**
 * CSS zoom; 1 if unsupported (Firefox before 126).
 *
 * Engines without `currentCSSZoom` (WebKit, Chromium before 128) give an element's boxes in its own px.
 */
function zoomOf(element) {
  if (!element) return 1;
  return element.currentCSSZoom ?? (getComputedStyle(element).zoom || 1) * zoomOf(element.parentElement);
}

/**
 * Send until it is done or refused; {status, text}, or null if `signal` is aborted first. Waits double, with jitter.
 *
 * 408, 429 and 5xx are not refusals, and an answer that the server would not give comes from something in between, such
 * as the login page of a network. `tell` is called at the third failure in a row.
 */
async function persist(url, init, isDone, tell, [first, longest], signal) {
  for (let failures = 0; !signal.aborted; failures++) {
    const asked = ask(url, { ...init, keepalive: true, credentials: "omit", signal });
    const answer = await Promise.race([asked, pause(REQUEST_MS, signal)]).catch(() => null);
    if (signal.aborted) break;
    const { status, text, wished } = answer ?? { status: 0 };
    const isOver = status < 400 ? status && isDone(answer) : ![408, 429].includes(status) && status < 500;
    if (isOver) return answer;
    if (failures === 2) tell("undelivered", "nothing arrives at the collector", status, text);
    const wait = Math.min(longest, first * 2 ** failures) * (0.5 + Math.random() / 2);
    await pause(wished > wait ? wished : wait, signal, !wished);
  }
  return null;
}

async function ask(url, init) {
  const response = await fetch(url, init);
  const wished = 1000 * response.headers.get("retry-after");
  return { status: response.status, text: await response.text(), wished };
}

/** The value of the JSON that `read` returns; {} if it is not JSON. */
function parsed(read) {
  try {
    return JSON.parse(read()) ?? {};
  } catch {
    return {};
  }
}

/**
 * Whether a text begins with the one that a token was signed for, so that an offset in one is an offset in the other.
 *
 * A token is JSON in base64url, up to its first dot. If the page cannot hash, lengths are compared.
 */
async function isRegistered(text, token) {
  const payload = parsed(() => atob(token.split(".")[0].replace(/-/g, "+").replace(/_/g, "/")));
  const { text_length: length, text_sha256: sha256 } = payload;
  if (!length) return true;
  const characters = [...text];
  if (!crypto.subtle) return characters.length === length;
  const bytes = new TextEncoder().encode(characters.slice(0, length).join(""));
  return hex(await crypto.subtle.digest("SHA-256", bytes)) === sha256;
}

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Resolves after a time, when `signal` is aborted or, if `isEager`, when the network or the reader comes or goes. */
function pause(ms, signal, isEager = false) {
  return new Promise((resolve) => {
    const ended = new AbortController();
    const done = () => {
      clearTimeout(timer);
      ended.abort();
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { signal: ended.signal });
    if (!isEager) return;
    for (const type of ["online", "visibilitychange"]) addEventListener(type, done, { signal: ended.signal });
  });
}

/** Sealed batches on their way to the server: numbered, in order, one at a time, kept until accepted or refused. */
function createOutbox(url, tell, retryMs, maxTicks, onWithdrawn) {
  const closing = new AbortController();
  let queue = [];
  let sequence = 0;
  let dropped = 0;
  let draining = null;

  const number = (batch) => {
    const ticks = batch.ticks.length + batch.views.length + (batch.gaze?.length ?? 0);
    return { batch: { ...batch, sequence: sequence++ }, ticks };
  };

  async function drain() {
    while (queue.length) {
      const [{ batch, ticks }] = queue;
      const init = { method: "POST", headers: { "content-type": "text/plain" }, body: JSON.stringify(batch) };
      const isTaken = ({ text }) => parsed(() => text).accepted === true;
      const { status, text } = (await persist(url, init, isTaken, tell, retryMs, closing.signal)) ?? {};
      if (!status) return;
      queue.shift();
      if (status === 410 && text.includes("withdrawn")) {
        queue = [];
        onWithdrawn();
      } else if ([400, 401, 410].includes(status) && batch.responses.length > 1) {
        queue.unshift(...byAnswer(batch).map(number)); // one answer's bad token does not take the others with it
      } else if (status >= 400) {
        dropped += ticks;
        tell("refused", "a batch was refused", status, text);
      }
    }
  }

  return {
    isEmpty: () => !queue.length,
    /** Beyond `maxTicks` in all, the oldest batch that is not being sent is dropped. */
    add(batch) {
      if (dropped) batch.events.push([clock(), "dropped", -1, dropped]);
      const item = number(batch);
      item.ticks += dropped; // counted again if this batch is lost, too
      dropped = 0;
      queue.push(item);
      let held = queue.reduce((sum, { ticks }) => sum + ticks, 0);
      while (held > maxTicks && queue.length > 2) {
        const [lost] = queue.splice(1, 1);
        held -= lost.ticks;
        dropped += lost.ticks;
      }
    },
    send: () => (draining ??= drain().finally(() => (draining = null))),
    /** For a page that may be closing. A beacon reports no outcome, so batches stay; the server stores each once. */
    beacon: () => queue.every((item) => (item.beaconed ||= navigator.sendBeacon(url, JSON.stringify(item.batch)))),
    /** The page did not close, or there was no network: what is left when it hides again is sent again. */
    rearm: () => queue.forEach((item) => (item.beaconed = false)),
    async close() {
      queue = [];
      closing.abort();
      await draining;
    },
  };
}

/** A batch of several answers, split into one for each; what belongs to no answer goes with the last. */
function byAnswer(batch) {
  return batch.responses.map((token, r) => {
    const mine = (rows, place) =>
      rows
        .filter((row) => row[place] === r || (row[place] < 0 && r === batch.responses.length - 1))
        .map((row) => row.with(place, Math.min(row[place], 0)));
    const [ticks, views, events] = [mine(batch.ticks, 1), mine(batch.views, 1), mine(batch.events, 2)];
    return { ...batch, responses: [token], ticks, views, events, gaze: batch.gaze && mine(batch.gaze, 1) };
  });
}

/** Within what the wire takes. */
const calibrationOf = (accuracy, error) => [
  Math.round(Math.min(Math.max(accuracy, 0), 100)),
  Math.round(Math.min(Math.max(error, 0), MOST.text)),
];

const newBatch = () => ({ responses: [], ticks: [], gaze: [], views: [], events: [] });

/** A tracker for this page and tab, `window.ifllm`; see tracker.d.ts. */
export function createTracker(options) {
  const { endpoint, person, consentVersion, gaze, flushMs = 5000, retryMs = [1000, 30_000], maxTicks = 60_000 } = options;
  for (const name of ["endpoint", "person", "consentVersion"]) {
    if (!options[name]) throw new TypeError(`ifllm-tracker: ${name} is missing`);
  }
  const base = endpoint.replace(/\/+$/, "");
  const session = hex(crypto.getRandomValues(new Uint8Array(16)));
  const outbox = createOutbox(`${base}/v1/batches`, tell, retryMs, maxTicks, () => end("deleted"));
  const problems = new Set();
  const ending = new AbortController();
  const streaming = new WeakSet();
  const texts = new WeakMap();
  const places = {};
  const onScreen = new Set();
  const viewed = new Map(); // the last row of each answer in `views`, by its token
  let state = "off"; // see tracker.d.ts
  let batch = newBatch();
  let [activeAt, flushedAt] = [0, 0];
  let [pageChanged, awaitsKey] = [true, true];
  let [viewedAt, viewChanged] = [0, true];
  let lastToken, pointer, look, viewing, mutations, timer, sampledAt;

  /** Close the open batch. One that names no answer would belong to nobody, so it stays open until there is one. */
  function seal() {
    const { responses, ticks, views, events } = batch;
    const token = responses.at(-1) ?? lastToken;
    if (!token || !(ticks.length + views.length + batch.gaze.length + events.length)) return;
    const { accuracy, error } = gaze?.calibration ?? {};
    lastToken = token;
    outbox.add({
      v: 1,
      session,
      consent: consentVersion,
      origin: Math.round(performance.timeOrigin),
      viewport: [Math.max(innerWidth, 1), Math.max(innerHeight, 1), devicePixelRatio],
      responses: responses.length ? responses : [token],
      ticks,
      views,
      events,
      gaze: gaze ? batch.gaze : undefined, // left out of the JSON
      calibration: Number.isFinite(accuracy + error) ? calibrationOf(accuracy, error) : undefined,
    });
    batch = newBatch();
  }

  function flush() {
    flushedAt = clock();
    if (outbox.isEmpty()) seal(); // else it keeps growing: few large batches after an outage, not many small ones
    return outbox.send();
  }

  const tokenOf = (answer) => answer.getAttribute(ATTRIBUTE); // null if it is no longer an answer

  /** Index of an answer in the open batch, which is closed first if it is full. */
  function indexOf(token) {
    if (!batch.responses.includes(token)) {
      if (batch.responses.length === MOST.responses) seal();
      batch.responses.push(token);
    }
    return batch.responses.indexOf(token);
  }

  function note(name, token, value, at = clock()) {
    if (state !== "on" || token === "" || token === null) return;
    const r = token ? indexOf(token) : -1;
    batch.events.push([at, name, r, value]);
    if (batch.events.length >= MOST.events - 1) seal(); // leaves room for `dropped`
    if (batch.events.length >= MOST.events) batch.events.shift();
  }

  function noteOn(name, element, value) {
    const answer = element?.closest(SELECTOR);
    if (answer) note(name, tokenOf(answer), value);
    else tell("unmarked", `${name} of an element without ${ATTRIBUTE}`);
    return answer;
  }

  /** Whether an answer shows its registered text; while it streams, the text on the screen may lag behind. */
  async function showsItsText(answer) {
    if (streaming.has(answer)) return true;
    const [token, text] = [tokenOf(answer), answer.textContent];
    const known = texts.get(answer);
    if (known?.[0] === token && known[1] === text) return known[2];
    const same = isRegistered(text, token);
    texts.set(answer, [token, text, same]);
    return same;
  }

  /** Set where a list's next tick is. An event says when the last was left, since a busy page lacks ticks, too. */
  function moveTo(list, now, token, kind) {
    const last = places[list];
    if (last && (last[0] !== token || last[1] !== kind)) note("leave", ...last, now);
    places[list] = token && [token, kind];
  }

  function leaveAll(now = clock()) {
    moveTo("ticks", now);
    moveTo("gaze", now);
    view(now, []);
    viewChanged = true;
  }

  /** Record what is on the screen of all answers in view at once, and that others are not any more. */
  function view(now, answers) {
    if (state !== "on") return;
    const rows = new Map();
    for (const answer of answers) {
      const part = answer.isConnected && tokenOf(answer) && visiblePart(answer);
      if (part) [part[0], part[1]] = [Math.min(part[0], MOST.text), Math.min(part[1], MOST.text)];
      if (part) rows.set(tokenOf(answer), [answer, part]);
    }
    for (const token of viewed.keys()) if (!rows.has(token)) rows.set(token, [null, [-1, -1, 0, 0, 0]]);
    const isNew = [...rows].some(([token, [, part]]) => String(viewed.get(token)) !== String(part));
    if (!isNew && now - viewedAt < VIEW_MS) return;
    viewedAt = now;
    if (batch.views.length + rows.size > MOST.views) seal();
    for (const [token, [answer, part]] of rows) {
      if (answer) viewed.set(token, part);
      else viewed.delete(token);
      const row = [now, indexOf(token), ...part];
      const open = batch;
      open.views.push(row);
      if (!answer || streaming.has(answer)) continue;
      [row[2], row[3]] = [OTHER_TEXT, OTHER_TEXT];
      showsItsText(answer).then((same) => {
        if (same && batch === open) [row[2], row[3]] = part;
      });
    }
  }

  function sample(list, now, point) {
    const { x, y, kind } = point ?? {};
    const answer = point && document.elementFromPoint(x, y)?.closest(SELECTOR);
    moveTo(list, now, answer && tokenOf(answer), Math.min(kind, KINDS.gaze));
    if (!answer) return;
    if (batch[list].length === MOST[list]) seal();
    const row = [now, indexOf(tokenOf(answer)), Math.round(x), Math.round(y), OTHER_TEXT, kind];
    const [open, char] = [batch, Math.min(charAt(answer, x, y), MOST.text)];
    open[list].push(row);
    showsItsText(answer).then((same) => {
      if (same && batch === open) row[4] = char; // a sealed batch does not change
      if (!same) tell("other_text", "an answer's text is not the registered one");
    });
  }

  function tick() {
    if (document.hidden) return;
    if (pageChanged) for (const answer of document.querySelectorAll(SELECTOR)) viewing.observe(answer);
    viewChanged ||= pageChanged;
    pageChanged = false;
    const now = clock();
    if (now - flushedAt >= flushMs) flush(); // before the samples, whose text is checked later
    if (now - sampledAt > ASLEEP_MS) leaveAll(sampledAt + SAMPLE_MS);
    sampledAt = now;
    const isIdle = now - activeAt >= IDLE_MS;
    if (viewChanged || now - viewedAt >= VIEW_MS) view(now, isIdle ? [] : onScreen);
    viewChanged = false;
    sample("ticks", now, !isIdle && pointer);
    sample("gaze", now, now - look?.at < GAZE_MS && look);
  }

  function hold(event) {
    activeAt = clock();
    pointer = { x: event.clientX, y: event.clientY, kind: KINDS[event.pointerType] ?? 0 }; // an unknown one is a mouse
  }

  function noteCopy() {
    const selection = document.getSelection();
    if (!selection?.rangeCount) return;
    for (const answer of document.querySelectorAll(SELECTOR)) {
      if (!selection.containsNode(answer, true)) continue;
      const part = selection.getRangeAt(0).cloneRange();
      if (!answer.contains(part.startContainer)) part.setStart(answer, 0);
      if (!answer.contains(part.endContainer)) part.setEnd(answer, answer.childNodes.length);
      note("copy", tokenOf(answer), codePoints(part.toString()));
    }
  }

  function noteVisible(entries) {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting === onScreen.has(target)) continue;
      onScreen[isIntersecting ? "add" : "delete"](target);
      viewChanged = true;
      if (isIntersecting) note("shown", tokenOf(target));
    }
  }

  function comeBack() {
    outbox.rearm();
    flush();
  }

  function leave() {
    leaveAll();
    seal();
    if (!outbox.beacon()) outbox.send();
  }

  const listeners = {
    pointermove: hold,
    pointerdown: hold,
    pointerover: hold,
    pointerout: (event) => {
      if (!event.relatedTarget) pointer = null; // it left the window, or the finger was lifted
    },
    scroll: () => {
      activeAt = clock();
      viewChanged = true;
    },
    resize: () => (viewChanged = true),
    beforeinput: () => {
      if (awaitsKey) note("first_key");
      awaitsKey = false;
    },
    copy: noteCopy,
    visibilitychange: () => (document.hidden ? leave() : comeBack()),
    online: comeBack,
    pagehide: leave,
  };

  const announce = (type, detail) => document.dispatchEvent(new CustomEvent(type, { detail }));

  function enter(next) {
    if (next === state) return;
    state = next;
    announce("ifllm:state", { state });
  }

  /** Report each kind of problem once per reason that the server gives; returns the message. */
  function tell(problem, sentence, status = null, text = "") {
    const { code = null, message = "no answer of its own" } = parsed(() => text).error ?? {};
    const told = `ifllm-tracker: ${sentence}${status === null ? "" : `: ${message} (${status})`}`;
    const kind = problem + code;
    if (!problems.has(kind)) {
      console.warn(told);
      announce("ifllm:problem", { problem, code, status, message: told });
    }
    problems.add(kind);
    return told;
  }

  function end(next) {
    if (state === "on") {
      ending.abort();
      clearInterval(timer);
      mutations.disconnect();
      viewing.disconnect();
      gaze?.stop();
    }
    batch = newBatch();
    enter(next);
  }

  return (globalThis.ifllm = {
    grantConsent() {
      if (state !== "off") return;
      enter("on");
      activeAt = flushedAt = clock();
      for (const [type, listener] of Object.entries(listeners)) {
        addEventListener(type, listener, { capture: true, passive: true, signal: ending.signal });
      }
      // A keyboard that opens and two fingers that zoom are told here only.
      for (const type of ["resize", "scroll"]) {
        globalThis.visualViewport?.addEventListener(type, () => (viewChanged = true), { signal: ending.signal });
      }
      viewing = new IntersectionObserver(noteVisible);
      mutations = new MutationObserver(() => (pageChanged = true));
      mutations.observe(document, { subtree: true, childList: true, characterData: true, attributeFilter: [ATTRIBUTE] });
      gaze?.start((x, y, faceOk = true) => (look = { x, y, kind: faceOk ? KINDS.gaze : KINDS.noFace, at: clock() }));
      timer = setInterval(tick, SAMPLE_MS);
      note("consent");
    },
    async withdraw() {
      end("deleting");
      await outbox.close();
      const init = { method: "DELETE", headers: { authorization: `Bearer ${person}` } };
      const isDone = ({ status }) => status === 204;
      const never = new AbortController().signal;
      const { status, text } = await persist(`${base}/v1/people/me`, init, isDone, tell, retryMs, never);
      if (status > 204) {
        enter("ended");
        throw new Error(tell("kept", "the deletion was refused", status, text));
      }
      enter("deleted");
    },
    streamStart: (element) => void streaming.add(noteOn("stream_start", element) ?? {}),
    streamEnd: (element) => void streaming.delete(noteOn("stream_end", element)),
    thumb: (element, value) => noteOn("thumb", element, value > 0 ? 1 : -1),
    vote: (element) => void noteOn("vote", element),
    regenerate: (element) => void noteOn("regenerate", element),
    submit: () => void (awaitsKey = true),
    flush() {
      seal();
      return outbox.send();
    },
    stop() {
      leaveAll();
      seal();
      if (["off", "on"].includes(state)) end("ended"); // a deletion is not undone
      return outbox.send();
    },
    diagnose: () => import("./diagnose.js").then((it) => it.diagnose(options, state)),
    get state() {
      return state;
    },
  });
}

/**
 * The tag `<script type="module" src=".../tracker.js" data-endpoint data-person data-consent>` creates a tracker;
 * elements marked `data-ifllm-consent="grant"` and `"withdraw"` are its buttons, with `aria-pressed`.
 */
function startFromTag() {
  const tags = [...document.querySelectorAll("script[data-endpoint]")];
  const isOurs = ({ src }) => src === import.meta.url; // unless its address was redirected
  const tag = tags.find(isOurs) ?? tags.find(({ dataset }) => dataset.person);
  if (!tag || window.ifllm) return;
  const { endpoint, person, consent } = tag.dataset;
  const tracker = createTracker({ endpoint, person, consentVersion: consent });
  const buttons = "[data-ifllm-consent]";
  // In the capture phase, since a dialog or card around the buttons may stop clicks from bubbling up.
  const onClick = ({ target }) => {
    const wish = target.closest(buttons)?.dataset.ifllmConsent;
    if (wish === "grant") tracker.grantConsent();
    if (wish === "withdraw") tracker.withdraw().catch(() => {}); // a refusal is reported as `ifllm:problem`
  };
  const show = () => {
    for (const button of document.querySelectorAll(buttons)) {
      const grants = button.dataset.ifllmConsent === "grant";
      const { state } = tracker;
      button.setAttribute("aria-pressed", grants ? state === "on" : state.startsWith("delet"));
      // After the end, agreeing again needs a page with new tokens.
      if (grants && state !== "off" && state !== "on") button.disabled = true;
    }
  };
  addEventListener("click", onClick, true);
  document.addEventListener("ifllm:state", show);
  new MutationObserver(show).observe(document, { subtree: true, childList: true }); // buttons that are added later
  show();
}

if (globalThis.document) startFromTag();
