/** What is needed of assistant-ui's `ThreadMessage`. */
export interface RatedMessage {
  readonly id: string;
  readonly metadata?: { readonly custom?: Record<string, unknown> };
}

export interface FeedbackOptions<M> {
  /** Where the collector is, such as `/ifllm`. */
  endpoint: string;
  /** The token of a message's answer; `message.metadata.custom.ifllmToken` if not given. Without one nothing is sent. */
  tokenOf?: (message: M) => string | null | undefined;
  /** Called if a rating could not be stored; `console.warn` if not given. */
  onError?: (error: Error) => void;
}

/**
 * For `adapters: { feedback }` of an assistant-ui runtime: a thumb becomes a rating of the answer, 5 or 1 of 1 to 5, and
 * the page's tracker, if it records, notes it as `thumb` does.
 *
 * A comment is not sent. The promise never rejects.
 */
export function createFeedbackAdapter<M extends RatedMessage = RatedMessage>(
  options: FeedbackOptions<M>,
): { submit(feedback: { message: M; type: "positive" | "negative"; comment?: string }): Promise<void> };
