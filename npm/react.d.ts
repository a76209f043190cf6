import type { Tracker, TrackerOptions, TrackerState } from "./dist/ifllm.js";

export interface IfllmOptions extends Omit<TrackerOptions, "person"> {
  /** The person's token, from the server; nothing while there is none. */
  person?: string | null;
  /** Whether the person has agreed to `consentVersion`. */
  agreed: boolean;
}

export interface Ifllm {
  /** Null on the server, before the first effect, and without `person`. */
  tracker: Tracker | null;
  /** Of `tracker`; `off` if there is none. */
  state: TrackerState;
}

/**
 * A tracker for as long as the component is mounted, which records while `agreed`. Use it once a page, near its top.
 *
 * When `endpoint`, `person`, `consentVersion` or `agreed` change, and at unmount, the tracker stops and sends the rest;
 * a new one takes its place. The other options are read when a tracker is made. To delete, call `tracker.withdraw()`
 * first and set `agreed` to false then: the other way round, the rest is sent.
 */
export function useIfllm(options: IfllmOptions): Ifllm;

/**
 * Props for the element that holds an answer's text and nothing else; without a token it is not recorded.
 *
 * Set the token of the complete text in the same update as `isStreaming` to false. A regenerated answer needs another
 * `key`, or a render that does not stream between the two.
 */
export function useIfllmAnswer<E extends HTMLElement = HTMLDivElement>(
  tracker: Tracker | null,
  token: string | null | undefined,
  isStreaming?: boolean,
): { ref: { readonly current: E | null }; "data-ifllm-response": string | undefined };
