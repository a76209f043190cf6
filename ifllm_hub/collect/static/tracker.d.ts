/** A source of gaze points, such as WebGazer; see docs/collector.md. */
export interface GazeAdapter {
  /**
   * Called at consent. `onPoint` takes CSS px in the viewport, as often as there is an estimate, and whether the face is
   * where it can be seen well (true if not given).
   */
  start(onPoint: (x: number, y: number, faceOk?: boolean) => void): void;
  /** Called once at `stop`, at `withdraw`, or when the server says that the person has withdrawn. */
  stop(): void;
  /**
   * Of the last calibration: its accuracy in percent, as the study computed it, and the median error in CSS px; null
   * before there is one. It goes with every batch.
   */
  readonly calibration?: { accuracy: number; error: number } | null;
}

export interface TrackerOptions {
  /** Where the server's router is mounted, such as `/ifllm`. */
  endpoint: string;
  /** The person's token, from the server. `withdraw` deletes with it. */
  person: string;
  /** Version of the consent text that the person is shown. */
  consentVersion: string;
  gaze?: GazeAdapter | null;
  /** Time between batches, ms; 5,000 if not given. */
  flushMs?: number;
  /** First and longest wait before a failed request is sent again, ms; [1,000, 30,000] if not given. */
  retryMs?: [number, number];
  /** Ticks, gaze points and views kept while the server is unreachable; beyond that the oldest are dropped and counted. 60,000 (70 minutes with a mouse) if not given. */
  maxTicks?: number;
}

/**
 * `off` before consent, `on` while recording, `ended` after `stop`, `deleting` from `withdraw` until the server has
 * deleted (`ended` again if it refuses), then `deleted`; also `deleted` when the server says that the person has
 * withdrawn. Each change is announced on `document` by an event `ifllm:state`, whose `detail.state` this is.
 */
export type TrackerState = "off" | "on" | "ended" | "deleting" | "deleted";

export interface Tracker {
  readonly state: TrackerState;
  /** Start recording. Does nothing after `stop` or `withdraw`: create a new tracker then. */
  grantConsent(): void;
  /**
   * Stop recording, forget what was not sent, and have the server delete everything of this person.
   * Resolves once it has; retries while the server is unreachable. Rejects with an Error if the server refuses.
   */
  withdraw(): Promise<void>;
  /** The text of an answer begins to appear. `element` is the marked element or one inside it. */
  streamStart(element: Element): void;
  /** The text of an answer is complete. */
  streamEnd(element: Element): void;
  /** The person has sent a message. The next keystroke in a text field is timed. */
  submit(): void;
  /** A thumb on an answer. It is a vote, too. */
  thumb(element: Element, value: 1 | -1): void;
  /** The person has rated an answer, or said which of a question's two is better: when, not what. The last one counts. */
  vote(element: Element): void;
  /** The person has asked for another answer in place of this one. */
  regenerate(element: Element): void;
  /** Send what was recorded so far. Resolves when all of it is accepted or refused. */
  flush(): Promise<void>;
  /** Stop recording and send the rest. Deletes nothing. */
  stop(): Promise<void>;
  /** Which parts of the recording work on this page, also as a table in the console. Stores nothing and sends no reading. */
  diagnose(): Promise<Finding[]>;
}

export interface Finding {
  check: "script" | "delivery" | "origin" | "consent" | "token" | "text" | "clock";
  /** Null if there was nothing to check yet. */
  ok: boolean | null;
  /** A sentence. */
  said: string;
  /** What to do; empty if nothing. */
  todo: string;
}

/** Throws a TypeError when `endpoint`, `person` or `consentVersion` is missing. */
export function createTracker(options: TrackerOptions): Tracker;

/** Offset of the character of `answer` under a point (CSS px in the viewport), code points of its `textContent`; or -1. */
export function charAt(answer: Element, x: number, y: number): number;

/**
 * What of `answer` is on the screen: its first and last character (code points of its `textContent`; -1 if none), the
 * share of its box in thousandths, and the top and bottom of that part (CSS px in the viewport). Null if nothing is.
 */
export function visiblePart(
  answer: Element,
): [first: number, last: number, share: number, top: number, bottom: number] | null;

/** Length of a text in code points. */
export function codePoints(text: string): number;

/**
 * `detail` of the event `ifllm:problem` on `document`, once for each `problem` and `code`; also a warning in the console.
 *
 * `undelivered`: the collector did not answer three times in a row; the batch will be sent again. `refused`: a batch
 * was refused, and is lost. `kept`: a withdrawal was refused, and nothing deleted. `other_text`: an answer does not
 * show the text that was registered for it; readings of it do not count until it does. `unmarked`: a call was about an
 * element in no marked answer.
 */
export interface Problem {
  problem: "undelivered" | "refused" | "kept" | "other_text" | "unmarked";
  /** The server's code, such as `expired_token`; null if there is none. */
  code: string | null;
  /** HTTP status of the last answer; 0 if there was none; null if the server is not involved. */
  status: number | null;
  /** A sentence with the server's reason. */
  message: string;
}

declare global {
  interface DocumentEventMap {
    "ifllm:problem": CustomEvent<Problem>;
    "ifllm:state": CustomEvent<{ state: TrackerState }>;
  }
  interface Window {
    /** The tracker created last on this page. */
    ifllm?: Tracker;
  }
}
