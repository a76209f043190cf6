// The tracker's bookkeeping, on a made-up page with a clock of its own: consent, batches, numbers, back-off, bounds.

import assert from "node:assert/strict";
import test from "node:test";
import { codePoints, createTracker } from "../../../ifllm_hub/collect/static/tracker.js";

const TAKEN = '{"accepted": true, "duplicate": false}';
const refusal = (code) => JSON.stringify({ error: { code, message: `The server says ${code}.` } });

/** A page with one pointer on one answer; `server(request)` answers: a status, [status, headers, text], or it throws. */
function makeWorld(server = () => 202) {
  const world = { now: 0, timers: new Map(), listeners: {}, requests: [], beacons: [], states: [], problems: [], token: "A", server };
  const heard = {};
  let lastTimer = 0;
  const answer = {
    closest: (selector) => (selector.startsWith("[data-ifllm-response]") && world.token ? answer : null),
    getAttribute: () => world.token,
    matches: () => Boolean(world.token),
  };
  world.answer = answer;
  const start = (run, ms, every) => {
    world.timers.set(++lastTimer, { run, due: world.now + ms, every });
    return lastTimer;
  };
  const stop = (id) => world.timers.delete(id);
  const globals = {
    document: {
      hidden: false, elementFromPoint: () => answer, caretPositionFromPoint: () => null, querySelectorAll: () => [],
      dispatchEvent: ({ type, detail }) => void (type === "ifllm:state" ? world.states.push(detail.state) : world.problems.push(detail)),
    },
    IntersectionObserver: class { observe() {} disconnect() {} },
    MutationObserver: class { observe() {} disconnect() {} },
    addEventListener: (type, listener, { signal }) => {
      const all = (heard[type] ??= new Set()).add(listener);
      world.listeners[type] = (event) => [...all].forEach((hear) => hear(event));
      signal.addEventListener("abort", () => (all.delete(listener), all.size || delete world.listeners[type]));
    },
    navigator: { sendBeacon: (url, body) => (world.beacons.push(JSON.parse(body)), true) },
    performance: { now: () => world.now, timeOrigin: 1e12 },
    innerWidth: 1280, innerHeight: 720, devicePixelRatio: 1.25,
    setTimeout: (run, ms) => start(run, ms, 0),
    setInterval: (run, ms) => start(run, ms, ms),
    clearTimeout: stop, clearInterval: stop,
    fetch: async (url, init) => {
      const request = { url, at: world.now, method: init.method, headers: init.headers, body: init.body && JSON.parse(init.body) };
      world.requests.push(request);
      const [status, headers = {}, text = status === 202 ? TAKEN : ""] = [await world.server(request)].flat();
      return { status, ok: status < 300, headers: new Map(Object.entries(headers)), text: async () => text };
    },
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  world.point = () => world.listeners.pointermove?.({ clientX: 3.6, clientY: 4.2, pointerType: "mouse" });
  world.batches = () => world.requests.filter(({ method }) => method === "POST").map(({ body }) => body);
  /** Let time go by, all timers in their order, promises in between. */
  world.pass = async (ms) => {
    const end = world.now + ms;
    for (;;) {
      for (let n = 0; n < 10; n++) await null;
      const due = [...world.timers].filter(([, timer]) => timer.due <= end).sort((a, b) => a[1].due - b[1].due)[0];
      if (!due) break;
      const [id, timer] = due;
      world.now = timer.due;
      if (timer.every) timer.due += timer.every;
      else world.timers.delete(id);
      timer.run();
    }
    world.now = end;
  };
  /** Ticks at the sampling rate: the pointer never rests for long. */
  world.read = async (ticks) => {
    for (let n = 0; n < ticks; n++) {
      world.point();
      await world.pass(80);
    }
  };
  return world;
}

const track = (options) => createTracker({ endpoint: "/ifllm/", person: "p", consentVersion: "1", ...options });
/** An event of no answer: the first key of the next message. */
const type = (world, tracker) => {
  tracker.submit();
  world.listeners.beforeinput();
};
const named = (batches, name) => batches.flatMap(({ events }) => events).filter((event) => event[1] === name);

test("code points", () => {
  for (const text of ["", "abc", "e\u0301", "\u{1f600}", "a\u{1f468}\u200d\u{1f469}z", "\ud83d", "\ude00\ud83d", "\ud83d\ud83d\ude00"]) {
    assert.equal(codePoints(text), [...text].length, JSON.stringify(text));
  }
});

test("an option that is missing is named", () => {
  makeWorld();
  for (const name of ["endpoint", "person", "consentVersion"]) {
    assert.throws(() => track({ [name]: "" }), new RegExp(`TypeError.*${name}|${name} is missing`));
  }
});

test("before consent: no listener, no timer, no request, no event kept", async () => {
  const world = makeWorld();
  const tracker = track();
  tracker.submit();
  tracker.streamStart(world.answer);
  tracker.thumb(world.answer, 1);
  await tracker.flush();
  await world.pass(60_000);
  assert.deepEqual([world.listeners, world.timers.size, world.requests, world.beacons], [{}, 0, [], []]);
  tracker.grantConsent();
  await world.read(2);
  await tracker.flush();
  assert.deepEqual(world.batches()[0].events.map(([, name]) => name), ["consent"]);
});

test("a batch every 5 s, numbered, with ticks of 80 ms", async () => {
  const world = makeWorld();
  const tracker = track();
  tracker.grantConsent();
  await world.read(250);
  const batches = world.batches();
  assert.deepEqual(batches.map(({ sequence }) => sequence), [0, 1, 2]);
  assert.deepEqual(world.requests.map(({ at }) => at), [5040, 10080, 15120]);
  const { session, origin, viewport, responses, consent, v } = batches[0];
  assert.match(session, /^[0-9a-f]{32}$/);
  assert.deepEqual([v, origin, viewport, responses, consent], [1, 1e12, [1280, 720, 1.25], ["A"], "1"]);
  assert.ok(batches.every((batch) => batch.session === session));
  const ticks = batches.flatMap((batch) => batch.ticks);
  assert.deepEqual(ticks[0], [80, 0, 4, 4, -1, 0]);
  assert.deepEqual(ticks.map(([t]) => t), ticks.map((_, n) => 80 * (n + 1)));
  assert.notEqual(session, await (async () => {
    const other = track();
    other.grantConsent();
    await world.read(1);
    await other.flush();
    return world.batches().at(-1).session;
  })());
});

test("batches stay within 512 ticks, 256 events and 16 answers", async () => {
  const world = makeWorld();
  const tracker = track({ flushMs: 1e9 });
  tracker.grantConsent();
  await world.read(600);
  for (let n = 0; n < 40; n++) {
    world.token = `answer ${n}`;
    await world.read(1);
  }
  for (let n = 0; n < 600; n++) type(world, tracker);
  world.token = "B";
  await tracker.stop();
  const batches = world.batches();
  assert.equal(batches.reduce((sum, { ticks }) => sum + ticks.length, 0), 640);
  assert.equal(named(batches, "first_key").length, 600);
  for (const { ticks, events, responses } of batches) {
    assert.ok(ticks.length <= 512 && events.length <= 256 && responses.length <= 16 && responses.length > 0);
    for (const [, r] of ticks) assert.ok(r >= 0 && r < responses.length);
  }
  const tokens = batches.flatMap(({ ticks, responses }) => ticks.map(([, r]) => responses[r]));
  assert.deepEqual(tokens.slice(600), Array.from({ length: 40 }, (_, n) => `answer ${n}`));
});

test("events wait for an answer that says whose they are", async () => {
  const world = makeWorld();
  world.token = "";
  const tracker = track();
  tracker.grantConsent();
  for (let n = 0; n < 700; n++) type(world, tracker);
  await world.read(100);
  assert.deepEqual(world.requests, []);
  world.token = "A";
  await world.read(80);
  assert.ok(world.batches()[0].events.length <= 256);
  world.token = "";
  type(world, tracker);
  await tracker.flush();
  assert.deepEqual(world.batches().at(-1).responses, ["A"]);
});

test("waits double from 1 s to 30 s, with jitter; the order is kept and the body stays the same", async (t) => {
  for (const random of [0, 0.999]) {
    t.mock.method(Math, "random", () => random);
    let failing = 8;
    const world = makeWorld(() => {
      if (failing-- <= 0) return 202;
      if (failing % 2) throw new TypeError("network");
      return failing % 4 ? 503 : 408;
    });
    const tracker = track();
    tracker.grantConsent();
    await world.read(2000);
    await tracker.stop();
    const waits = world.requests.slice(1, 9).map(({ at }, n) => at - world.requests[n].at);
    const full = [1, 2, 4, 8, 16, 30, 30, 30].map((seconds) => 1000 * seconds);
    assert.deepEqual(waits, full.map((ms) => ms * (0.5 + random / 2)));
    for (const { body } of world.requests.slice(1, 9)) assert.deepEqual(body, world.requests[0].body);
    const accepted = world.batches().slice(8);
    assert.deepEqual(accepted.map(({ sequence }) => sequence), accepted.map((_, n) => n));
    assert.equal(accepted.flatMap(({ ticks }) => ticks).length, 2000);
    assert.equal(named(accepted, "dropped").length, 0);
  }
});

test("Retry-After is heeded, a request without an answer is tried again", async () => {
  const answers = [[429, { "retry-after": "7" }], new Promise(() => {}), 202];
  const world = makeWorld(() => answers.shift() ?? 202);
  track().grantConsent();
  await world.read(700);
  const [first, second, third] = world.requests;
  assert.equal(second.at - first.at, 7_000);
  assert.ok(third.at - second.at >= 30_500 && third.at - second.at <= 31_000);
  assert.deepEqual(third.body, first.body);
});

test("what is refused is dropped once, and counted in the next batch", async () => {
  for (const status of [400, 401, 403, 409, 410, 413]) {
    const world = makeWorld(({ body }) => (body.sequence === 0 ? [status, {}, "expired"] : 202));
    track().grantConsent();
    await world.read(130);
    const batches = world.batches();
    assert.deepEqual(batches.map(({ sequence }) => sequence), [0, 1]);
    assert.deepEqual(named(batches, "dropped").map(([, , r, n]) => [r, n]), [[-1, batches[0].ticks.length]], `${status}`);
  }
});

for (const refusal of [[410, {}, "expired_token"], [401, {}, "bad_token"], [400, {}, "malformed"]]) {
  test(`${refusal[2]}: one answer does not take the other answers of its batch with it`, async () => {
    const world = makeWorld(({ body }) => (body.responses.includes("old") ? refusal : 202));
    const tracker = track({ flushMs: 1e9 });
    tracker.grantConsent();
    await world.read(3);
    world.token = "old";
    await world.read(2);
    tracker.thumb(world.answer, 1);
    world.token = "B";
    await world.read(4);
    tracker.thumb(world.answer, -1);
    type(world, tracker);
    await tracker.flush();
    await world.read(1);
    await tracker.flush();
    const batches = world.batches();
    const sizes = batches.map(({ sequence, responses, ticks }) => [sequence, responses, ticks.length]);
    assert.deepEqual(sizes, [[0, ["A", "old", "B"], 9], [1, ["A"], 3], [2, ["old"], 2], [3, ["B"], 4], [4, ["B"], 1]]);
    for (const { ticks } of batches.slice(1)) assert.ok(ticks.every(([, r]) => r === 0));
    assert.deepEqual(batches[3].events.map(([, name, r, value]) => [name, r, value]), [["consent", -1, null], ["thumb", 0, -1], ["first_key", -1, null]]);
    assert.deepEqual(named(batches, "dropped").map((event) => event[3]), [2]);
  });
}

test("memory is bounded: the oldest ticks go, and every tick is sent or counted", async () => {
  let up = false;
  const world = makeWorld(() => (up ? 202 : 503));
  const tracker = track({ maxTicks: 2000 });
  tracker.grantConsent();
  await world.read(4000);
  up = true;
  await world.read(800);
  tracker.stop();
  await world.pass(60_000);
  const accepted = world.requests.filter(({ at }) => at > 4000 * 80).map(({ body }) => body);
  const sent = accepted.flatMap(({ ticks }) => ticks).length;
  const dropped = named(accepted, "dropped").reduce((sum, event) => sum + event[3], 0);
  assert.equal(sent + dropped, 4800);
  assert.ok(dropped > 1000);
  const numbers = accepted.map(({ sequence }) => sequence);
  assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
});

test("when the page hides, all that is left goes out as beacons, each once, and is confirmed on return", async () => {
  const world = makeWorld();
  const tracker = track();
  tracker.grantConsent();
  await world.read(10);
  document.hidden = true;
  world.listeners.visibilitychange();
  world.listeners.pagehide();
  assert.deepEqual(world.beacons.map(({ sequence, ticks }) => [sequence, ticks.length]), [[0, 10]]);
  await world.pass(20_000);
  assert.deepEqual(world.requests, []);
  document.hidden = false;
  world.listeners.visibilitychange();
  await world.pass(100);
  assert.deepEqual(world.batches(), world.beacons);
});

test("a beacon that the browser refuses becomes a request", async () => {
  const world = makeWorld();
  track().grantConsent();
  await world.read(3);
  navigator.sendBeacon = () => false;
  world.listeners.pagehide();
  await world.pass(1);
  assert.equal(world.batches().length, 1);
});

test("withdrawal: the buffer is dropped, DELETE until it is done, nothing after it", async () => {
  let failing = 3;
  const world = makeWorld(({ method }) => (method === "POST" ? 503 : failing-- > 0 ? 503 : 204));
  const tracker = track();
  tracker.grantConsent();
  await world.read(100);
  let done = false;
  tracker.withdraw().then(() => (done = true));
  await world.pass(60_000);
  assert.ok(done);
  await world.read(10);
  tracker.grantConsent();
  tracker.thumb(world.answer, 1);
  await tracker.flush();
  await world.pass(60_000);
  const after = world.requests.slice(world.requests.findIndex(({ method }) => method === "DELETE"));
  assert.deepEqual(after.map(({ method }) => method), Array(4).fill("DELETE"));
  assert.ok(after.every(({ url, headers }) => url === "/ifllm/v1/people/me" && headers.authorization === "Bearer p"));
  assert.deepEqual([world.listeners, world.timers.size], [{}, 0]);
});

test("a server that says the person has withdrawn ends the session", async () => {
  const world = makeWorld(() => [410, {}, '{"detail": "withdrawn"}']);
  track().grantConsent();
  await world.read(200);
  assert.equal(world.requests.length, 1);
  assert.deepEqual(world.listeners, {});
  assert.deepEqual(world.states, ["on", "deleted"]);
});

test("after two minutes without a movement no ticks are made, until the next", async () => {
  const world = makeWorld();
  const tracker = track();
  tracker.grantConsent();
  world.point();
  await world.pass(180_000);
  await tracker.flush();
  const count = world.batches().flatMap(({ ticks }) => ticks).length;
  assert.equal(count, 1499); // 120 s less one tick of 80 ms
  await world.read(5);
  await tracker.flush();
  assert.equal(world.batches().flatMap(({ ticks }) => ticks).length, count + 5);
});

test("every change of the state is told, and can be asked for", async () => {
  let refuses = true;
  const world = makeWorld(({ method }) => (method === "POST" ? 202 : refuses ? 401 : 204));
  const tracker = track();
  assert.equal(tracker.state, "off");
  tracker.grantConsent();
  tracker.grantConsent();
  assert.equal(tracker.state, "on");
  await assert.rejects(tracker.withdraw(), /401/);
  assert.equal(tracker.state, "ended"); // nothing was deleted
  refuses = false;
  await tracker.withdraw();
  tracker.stop();
  tracker.grantConsent();
  assert.deepEqual(world.states, ["on", "deleting", "ended", "deleting", "deleted"]);
  const other = track();
  other.grantConsent();
  other.stop();
  assert.deepEqual(world.states.slice(5), ["on", "ended"]);
});

test("the first refusal is told with the server's reason, in the console and as an event", async (t) => {
  const warned = t.mock.method(console, "warn", () => {});
  const world = makeWorld(({ body }) => (body.sequence < 3 ? [400, {}, refusal("malformed")] : [401, {}, refusal("bad_token")]));
  track().grantConsent();
  await world.read(400);
  assert.deepEqual(world.problems, ["malformed", "bad_token"].map((code, n) => ({
    problem: "refused", code, status: 400 + n, message: `ifllm-tracker: a batch was refused: The server says ${code}. (${400 + n})`,
  })));
  assert.deepEqual(warned.mock.calls.map((call) => call.arguments[0]), world.problems.map(({ message }) => message));
});

test("a server that is away is told at the third failure; a withdrawal that is refused, at once", async (t) => {
  t.mock.method(console, "warn", () => {});
  const world = makeWorld(({ method }) => {
    if (method === "DELETE") return [401, {}, refusal("expired_token")];
    throw new TypeError("network");
  });
  const tracker = track();
  tracker.grantConsent();
  while (world.requests.length < 2) await world.read(1);
  assert.deepEqual(world.problems, []);
  await world.read(200);
  assert.deepEqual(world.problems.map(({ problem, code, status }) => [problem, code, status]), [["undelivered", null, 0]]);
  await assert.rejects(tracker.withdraw());
  const { problem, code, status } = world.problems[1];
  assert.deepEqual([problem, code, status], ["kept", "expired_token", 401]);
});

test("only the server's own word counts: a network's login page takes nothing and deletes nothing", async (t) => {
  t.mock.method(console, "warn", () => {});
  const pages = [[200, {}, "<html>Log in</html>"], [202, {}, "null"], [202, {}, "{}"], [200, {}, '{"ok": true}'], [204, {}, ""]];
  const world = makeWorld(() => pages.shift() ?? 202);
  const tracker = track();
  tracker.grantConsent();
  await world.read(600);
  const batches = world.batches();
  assert.deepEqual(batches.slice(0, 6).map(({ sequence }) => sequence), Array(6).fill(0));
  assert.equal(batches[6].sequence, 1);
  assert.deepEqual(named(batches, "dropped"), []);
  assert.match(world.problems[0].message, /no answer of its own \(202\)/);
  const answers = [[200, {}, "<html>Log in</html>"], 202, 204];
  world.server = () => answers.shift();
  const withdrawn = tracker.withdraw();
  await world.pass(100);
  assert.equal(tracker.state, "deleting");
  await world.pass(5_000);
  await withdrawn;
  assert.deepEqual([tracker.state, answers], ["deleted", []]);
});

for (const [what, comesBack] of [
  ["the network", (world) => world.listeners.online()],
  ["the reader", (world) => world.listeners.visibilitychange()],
]) {
  test(`when ${what} comes back, what waits is sent at once, unless the server asked to wait`, async (t) => {
    t.mock.method(console, "warn", () => {});
    let away = true;
    const world = makeWorld(() => {
      if (away) throw new TypeError("network");
      return world.requests.length === before + 1 ? [503, { "retry-after": "60" }] : 202;
    });
    let before;
    track().grantConsent();
    await world.read(2000);
    away = false;
    before = world.requests.length;
    comesBack(world);
    await world.pass(1);
    assert.equal(world.requests.length, before + 1);
    comesBack(world);
    await world.pass(59_900);
    assert.equal(world.requests.length, before + 1);
    await world.pass(20_000);
    assert.ok(world.requests.length > before + 1);
  });
}

test("what was beaconed while there was no network is beaconed again when the page hides again", async (t) => {
  t.mock.method(console, "warn", () => {});
  const world = makeWorld(() => {
    throw new TypeError("network");
  });
  track().grantConsent();
  await world.read(10);
  const hide = (hidden) => {
    document.hidden = hidden;
    world.listeners.visibilitychange();
  };
  hide(true);
  hide(false);
  await world.read(10);
  hide(true);
  world.listeners.pagehide();
  assert.deepEqual(world.beacons.map(({ sequence }) => sequence), [0, 0, 1]);
  world.listeners.online();
  world.listeners.pagehide();
  assert.deepEqual(world.beacons.map(({ sequence }) => sequence), [0, 0, 1, 0, 1]);
});

test("when the pointer leaves an answer, that is said at once, once, and of which answer", async () => {
  const world = makeWorld();
  const tracker = track({ flushMs: 1e9 });
  tracker.grantConsent();
  const leaves = async (happens) => {
    world.token = "A";
    await world.read(3);
    await happens();
    await world.pass(400);
    await tracker.flush();
    const batches = world.batches().splice(0);
    world.requests = [];
    const said = batches.flatMap(({ events, responses }) =>
      events.filter(([, name]) => name === "leave").map(([at, , r, kind]) => [at - start, responses[r], kind]));
    return [said, batches.flatMap(({ ticks }) => ticks.map(([at]) => at - start))];
  };
  let start = 0;
  const to = (token) => () => (world.token = token);
  assert.deepEqual(await leaves(to("")), [[[320, "A", 0]], [80, 160, 240]]);
  start = world.now;
  assert.deepEqual(await leaves(to("B")), [[[320, "A", 0]], [80, 160, 240, 320, 400, 480, 560, 640]]);
  start = world.now;
  assert.deepEqual(await leaves(() => world.listeners.pointerout({})), [[[80, "B", 0], [320, "A", 0]], [80, 160, 240]]);
  start = world.now;
  const hide = () => {
    document.hidden = true;
    world.listeners.visibilitychange();
  };
  assert.deepEqual((await leaves(hide))[0], [[240, "A", 0]]);
  document.hidden = false;
  start = world.now;
  const finger = () => world.listeners.pointermove({ clientX: 1, clientY: 1, pointerType: "touch" });
  assert.deepEqual((await leaves(finger))[0], [[320, "A", 0]]);
  start = world.now;
  assert.deepEqual((await leaves(() => tracker.stop()))[0], [[80, "A", 2], [240, "A", 0]]);
});

test("a busy page has not left; one that was asleep left when it fell asleep; an idle pointer leaves", async () => {
  const world = makeWorld();
  const tracker = track({ flushMs: 1e9 });
  tracker.grantConsent();
  await world.read(2);
  for (const held of [350, 350, 4000, 3_600_000]) {
    world.now += held;
    for (const timer of world.timers.values()) timer.due = Math.max(timer.due, world.now); // none ran meanwhile
    await world.read(2);
  }
  await world.pass(130_000);
  await tracker.flush();
  const ticks = world.batches().flatMap((batch) => batch.ticks.map(([at]) => at));
  const slept = ticks.find((at, n) => ticks[n + 1] > at + 3_000_000);
  assert.deepEqual(named(world.batches(), "leave").map(([at]) => at), [slept + 80, ticks.at(-1) + 80]);
});
