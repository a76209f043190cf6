"use client";

import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import { createTracker } from "./dist/ifllm.js";

function subscribe(onChange) {
  document.addEventListener("ifllm:state", onChange);
  return () => document.removeEventListener("ifllm:state", onChange);
}

/** The page's tracker; see react.d.ts. */
export function useIfllm(options) {
  const { endpoint, person, consentVersion, agreed } = options;
  const latest = useRef(options);
  const [tracker, setTracker] = useState(null);
  const state = useSyncExternalStore(
    subscribe,
    () => tracker?.state ?? "off",
    () => "off",
  );
  useEffect(() => {
    latest.current = options;
  });
  useEffect(() => {
    if (!person) return;
    const made = createTracker(latest.current);
    if (agreed) made.grantConsent();
    setTracker(made);
    return () => {
      made.stop();
      setTracker(null);
    };
  }, [endpoint, person, consentVersion, agreed]);
  return { tracker, state };
}

/** Props that mark an answer's element; see react.d.ts. */
export function useIfllmAnswer(tracker, token, isStreaming = false) {
  const ref = useRef(null);
  const streamsTo = useRef(null); // StrictMode runs effects twice; a tracker is told once
  useEffect(() => {
    if (!tracker || !token || isStreaming === (streamsTo.current === tracker)) return;
    streamsTo.current = isStreaming ? tracker : null;
    if (isStreaming) tracker.streamStart(ref.current);
    else tracker.streamEnd(ref.current);
  }, [tracker, token, isStreaming]);
  return { ref, "data-ifllm-response": token || undefined };
}
