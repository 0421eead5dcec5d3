// SPDX-License-Identifier: Apache-2.0
// The server-sent events, read with fetch because EventSource cannot send a token. Resumes where it broke off.
import { session, type Event } from "./client";

export type StreamState = "connecting" | "live" | "broken";

type Listener = (event: Event) => void;

const listeners = new Set<Listener>();
const stateListeners = new Set<(state: StreamState) => void>();
let state: StreamState = "connecting";
let lastId = "";
let running: AbortController | null = null;

function setState(next: StreamState): void {
  state = next;
  stateListeners.forEach((listener) => listener(next));
}

function handle(block: string): void {
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) lastId = line.slice(4);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (!data) return;
  try {
    const event = JSON.parse(data) as Event;
    listeners.forEach((listener) => listener(event));
  } catch {
    // A line that is not an event is no reason to stop listening.
  }
}

async function read(signal: AbortSignal): Promise<void> {
  const headers: Record<string, string> = { Authorization: `Bearer ${session.token()}`, Accept: "text/event-stream" };
  if (lastId) headers["Last-Event-ID"] = lastId;
  const response = await fetch("/v1/events/stream", { headers, signal });
  if (!response.ok || !response.body) throw new Error(String(response.status));
  setState("live");
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    let end: number;
    while ((end = text.indexOf("\n\n")) >= 0) {
      handle(text.slice(0, end));
      text = text.slice(end + 2);
    }
  }
}

export async function startEvents(): Promise<void> {
  running?.abort();
  const controller = new AbortController();
  running = controller;
  let wait = 500;
  while (!controller.signal.aborted) {
    const began = Date.now();
    try {
      await read(controller.signal);
    } catch {
      // Told by the state below; tried again.
    }
    if (controller.signal.aborted) return;
    setState("broken");
    wait = Date.now() - began > 10000 ? 500 : Math.min(wait * 2, 5000);
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
  }
}

export function stopEvents(): void {
  running?.abort();
  running = null;
}

// New events only: starts the stream after this id.
export function resumeAfter(id: number): void {
  lastId = String(id);
}

export function onEvent(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function onStreamState(listener: (state: StreamState) => void): () => void {
  stateListeners.add(listener);
  listener(state);
  return () => stateListeners.delete(listener);
}
