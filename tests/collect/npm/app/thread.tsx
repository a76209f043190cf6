// assistant-ui with a model that answers under the token of the page's address.
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import {
  ActionBarPrimitive,
  AssistantRuntimeProvider,
  type ChatModelAdapter,
  ComposerPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
  useAuiState,
  useLocalRuntime,
} from "@assistant-ui/react";
import { useIfllmAnswer } from "ifllm-tracker/react";
import { feedback } from "./feedback.js";

const token = new URLSearchParams(location.search).get("token");
const model: ChatModelAdapter = {
  async run() {
    return { content: [{ type: "text", text: "An answer." }], metadata: { custom: { ifllmToken: token } } };
  },
};

const Question = () => <MessagePrimitive.Content />;

function Answer() {
  const token = useAuiState(({ message }) => message.metadata.custom.ifllmToken as string);
  return (
    <MessagePrimitive.Root>
      <div {...useIfllmAnswer(null, token)}>
        <MessagePrimitive.Content />
      </div>
      <ActionBarPrimitive.Root>
        <ActionBarPrimitive.FeedbackPositive>Good</ActionBarPrimitive.FeedbackPositive>
        <ActionBarPrimitive.FeedbackNegative>Bad</ActionBarPrimitive.FeedbackNegative>
      </ActionBarPrimitive.Root>
    </MessagePrimitive.Root>
  );
}

function App() {
  return (
    <AssistantRuntimeProvider runtime={useLocalRuntime(model, { adapters: { feedback } })}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages components={{ UserMessage: Question, AssistantMessage: Answer }} />
        <ComposerPrimitive.Root>
          <ComposerPrimitive.Input aria-label="Message" />
        </ComposerPrimitive.Root>
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

createRoot(document.querySelector("#root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
