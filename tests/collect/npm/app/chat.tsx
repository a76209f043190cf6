// A chat whose state a test sets.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import type { Tracker } from "ifllm-tracker";
import { useIfllm, useIfllmAnswer } from "ifllm-tracker/react";

const start = {
  person: null as string | null,
  agreed: false,
  isShown: true,
  token: "",
  pieces: [] as string[],
  isStreaming: false,
};

declare global {
  interface Window {
    change(changes: Partial<typeof start>): void;
  }
}

function Answer({ tracker, token, pieces, isStreaming }: typeof start & { tracker: Tracker | null }) {
  const answer = useIfllmAnswer(tracker, token, isStreaming);
  return (
    <div id="answer" {...answer}>
      {pieces.map((piece, place) => (
        <b key={place}>{piece}</b>
      ))}
    </div>
  );
}

function Chat(shown: typeof start) {
  const { person, agreed } = shown;
  const { tracker, state } = useIfllm({
    ...{ endpoint: "/ifllm", person, agreed, consentVersion: "2026-11-29" },
    ...{ flushMs: 200, retryMs: [50, 100] as [number, number] },
  });
  return (
    <>
      <p id="state">{state}</p>
      <button onClick={() => tracker?.withdraw()}>Delete</button>
      {shown.pieces.length > 0 && <Answer tracker={tracker} {...shown} />}
    </>
  );
}

function App() {
  const [shown, setShown] = useState(start);
  window.change = (changes) => setShown((before) => ({ ...before, ...changes }));
  return shown.isShown && <Chat {...shown} />;
}

createRoot(document.querySelector("#root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
