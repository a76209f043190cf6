/** assistant-ui's thumbs as thumbs for the page's tracker and ratings at the collector; see assistant-ui.d.ts. */
export function createFeedbackAdapter({ endpoint, tokenOf = ofCustom, onError = console.warn }) {
  const url = `${endpoint.replace(/\/+$/, "")}/v1/ratings`;
  return {
    async submit({ message, type }) {
      const token = tokenOf(message);
      if (!token) return;
      const isShown = ({ dataset }) => dataset.ifllmResponse === token;
      const answer = [...document.querySelectorAll("[data-ifllm-response]")].find(isShown);
      if (answer) globalThis.ifllm?.thumb(answer, type === "positive" ? 1 : -1);
      const body = JSON.stringify({ token, rating: type === "positive" ? 5 : 1 });
      const headers = { "content-type": "text/plain" }; // needs no preflight
      const init = { method: "POST", headers, body, keepalive: true, credentials: "omit" };
      try {
        const { ok, status } = await fetch(url, init);
        if (!ok) throw new Error(`the collector answered ${status}`);
      } catch (error) {
        onError(new Error(`ifllm-tracker: a rating was not stored: ${error.message}`, { cause: error }));
      }
    },
  };
}

const ofCustom = (message) => message.metadata?.custom?.ifllmToken;
