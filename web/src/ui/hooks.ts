// SPDX-License-Identifier: Apache-2.0
// Data that stays current: fetched, fetched again when an event concerns it, and every few seconds while it moves.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Problem, type Event } from "../api/client";
import { onEvent, onStreamState } from "../api/events";

export interface Loaded<T> {
  data: T | undefined;
  problem: Problem | undefined;
  isLoading: boolean;
  reload: () => void;
}

export interface LiveOptions<T> {
  // Does this event mean that the data may have changed?
  concerns?: (event: Event) => boolean;
  // How long until it is fetched again, in ms; 0: only on events.
  every?: (data: T | undefined) => number;
}

const EVENT_DELAY_MS = 250; // several events at once cause one request

export function useLive<T>(load: () => Promise<T>, key: string, options: LiveOptions<T> = {}): Loaded<T> {
  const [data, setData] = useState<T>();
  const [problem, setProblem] = useState<Problem>();
  const [isLoading, setLoading] = useState(true);
  const current = useRef({ load, options, data });
  current.current = { load, options, data };
  const generation = useRef(0);

  const reload = useCallback(() => {
    const mine = ++generation.current;
    current.current.load().then(
      (result) => {
        if (mine !== generation.current) return;
        setData(result);
        setProblem(undefined);
        setLoading(false);
      },
      (error: unknown) => {
        if (mine !== generation.current) return;
        setProblem(error instanceof Problem ? error : new Problem(0, "", String(error), "", ""));
        setLoading(false);
      },
    );
  }, []);

  useEffect(() => {
    setData(undefined);
    setLoading(true);
    reload();
    let pending: ReturnType<typeof setTimeout> | undefined;
    const unsubscribe = onEvent((event) => {
      if (current.current.options.concerns?.(event) === false || pending) return;
      pending = setTimeout(() => {
        pending = undefined;
        reload();
      }, EVENT_DELAY_MS);
    });
    let isBroken = false;
    const unsubscribeState = onStreamState((state) => {
      if (state === "live" && isBroken) reload();
      isBroken = state === "broken";
    });
    let timer: ReturnType<typeof setTimeout>;
    const tick = (): void => {
      const wait = current.current.options.every?.(current.current.data) ?? 30000;
      timer = setTimeout(() => {
        if (!document.hidden) reload();
        tick();
      }, wait || 30000);
    };
    tick();
    return () => {
      generation.current += 1;
      unsubscribe();
      unsubscribeState();
      clearTimeout(pending);
      clearTimeout(timer);
    };
  }, [key, reload]);

  return { data, problem, isLoading, reload };
}

// The time, for "3 min ago"; all on the page move together.
export function useNow(everyMs = 1000): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

export function useRoute(): string[] {
  const parse = (): string[] =>
    window.location.hash.replace(/^#\/?/, "").split("?")[0]!.split("/").filter(Boolean).map(decodeURIComponent);
  const [route, setRoute] = useState(parse);
  useEffect(() => {
    const update = (): void => {
      setRoute(parse());
      window.scrollTo(0, 0);
    };
    window.addEventListener("hashchange", update);
    return () => window.removeEventListener("hashchange", update);
  }, []);
  return route;
}

export function usePageTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Holdfast` : "Holdfast";
  }, [title]);
}
