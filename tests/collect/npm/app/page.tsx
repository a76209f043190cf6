// The component of docs/collector.md.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { Answers } from "./answers.jsx";

const { person, token, text } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function App() {
  const [agreed, setAgreed] = useState(false);
  return (
    <>
      <button onClick={() => setAgreed(true)}>Record my cursor</button>
      <Answers
        {...{ person, agreed, onEnd: () => setAgreed(false) }}
        answers={[{ id: "one", token, isStreaming: false, text }]}
      />
    </>
  );
}

createRoot(document.querySelector("#root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
