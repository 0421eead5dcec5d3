// SPDX-License-Identifier: Apache-2.0
// The small parts that every page is made of.
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import type { Backup, Problem } from "../api/client";
import { absolute, percent, relative, words } from "./format";
import { useNow, usePageTitle, type Loaded } from "./hooks";

export function Link(props: { to: string; children: ComponentChildren; class?: string; label?: string }) {
  return (
    <a href={`#/${props.to}`} class={props.class} aria-label={props.label}>
      {props.children}
    </a>
  );
}

const TONES: Record<string, string> = {
  protected: "good",
  succeeded: "good",
  committed: "good",
  serving: "good",
  joined: "good",
  at_risk: "warn",
  warning: "warn",
  destroying: "warn",
  canceled: "muted",
  paused: "muted",
  pinned: "busy",
  legal_hold: "warn",
  kept: "good",
  goes: "bad",
  pending: "muted",
  intended: "muted",
  unprotected: "bad",
  failed: "bad",
  error: "bad",
  lost: "bad",
  running: "busy",
  launched: "busy",
  deleting: "muted",
  deleted: "muted",
  destroyed: "muted",
  info: "muted",
};

export function Badge(props: { state: string | undefined; text?: string; title?: string }) {
  const state = props.state ?? "unknown";
  return (
    <span class={`badge ${TONES[state] ?? "muted"}`} title={props.title}>
      <span class="dot" aria-hidden="true" />
      {props.text ?? words(state)}
    </span>
  );
}

// What keeps a backup whatever its policy says.
export function Kept(props: { backup: Backup }) {
  const { backup } = props;
  const until = backup.pinned_until ? ` until ${absolute(backup.pinned_until)}` : "";
  const pin = `Pinned${until}${backup.pin_note && `: ${backup.pin_note}`}`;
  return (
    <>
      {backup.is_held && <Badge state="legal_hold" title={backup.hold_note} />}
      {backup.is_pinned && <Badge state="pinned" title={pin} />}
    </>
  );
}

export function Time(props: { at: string | undefined; fallback?: string }) {
  const now = useNow();
  if (!props.at) return <span class="muted">{props.fallback ?? "never"}</span>;
  return (
    <time dateTime={props.at} title={absolute(props.at)}>
      {relative(props.at, now)}
    </time>
  );
}

export function Progress(props: { value: number; label: string; tone?: string }) {
  const value = Math.max(0, Math.min(1, props.value));
  return (
    <div
      class="progress"
      role="progressbar"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(value * 100)}
    >
      <div class={`fill ${props.tone ?? ""}`} style={{ width: percent(value).replace(" ", "") }} />
    </div>
  );
}

export function Card(props: {
  title?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
}) {
  return (
    <section class={`card ${props.class ?? ""}`}>
      {(props.title || props.actions) && (
        <header>
          <h2>{props.title}</h2>
          <div class="actions">{props.actions}</div>
        </header>
      )}
      {props.children}
    </section>
  );
}

export function Figure(props: { label: string; children: ComponentChildren; hint?: string }) {
  return (
    <div class="figure" title={props.hint}>
      <div class="label">{props.label}</div>
      <div class="value">{props.children}</div>
    </div>
  );
}

export function Empty(props: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <svg viewBox="0 0 48 48" aria-hidden="true">
        <path d="M24 6v24m-10-15h20M10 28c0 9 6 14 14 14s14-5 14-14" />
      </svg>
      <h3>{props.title}</h3>
      <p>{props.children}</p>
    </div>
  );
}

export function ProblemBox(props: { problem: Problem; onRetry?: () => void }) {
  return (
    <div class="problem" role="alert">
      <strong>{props.problem.message}</strong>
      {props.problem.hint && <p>{props.problem.hint}</p>}
      {props.onRetry && (
        <button class="quiet" onClick={props.onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

// What a page shows until its data is there, or instead of it.
export function Waiting(props: { isLoading: boolean; problem: Problem | undefined; onRetry: () => void }) {
  if (props.problem) return <ProblemBox problem={props.problem} onRetry={props.onRetry} />;
  if (!props.isLoading) return null;
  return (
    <div class="skeleton" role="status" aria-label="Loading">
      <div />
      <div />
      <div />
    </div>
  );
}

// A page that is one list: what it says while there is none, and its table.
export function ListPage<T>(props: {
  title: string;
  actions?: ComponentChildren;
  loaded: Loaded<T[]>;
  empty: ComponentChildren;
  children: (items: T[]) => ComponentChildren;
}) {
  const { data } = props.loaded;
  usePageTitle(props.title);
  return (
    <>
      <div class="head">
        <h1>{props.title}</h1>
        {props.actions}
      </div>
      {!data && <Waiting {...props.loaded} onRetry={props.loaded.reload} />}
      {data && <Card>{data.length === 0 ? props.empty : props.children(data)}</Card>}
    </>
  );
}

// A modal dialog: focus moves in, Escape closes, focus returns.
export function Dialog(props: {
  title: string;
  onClose: () => void;
  isWide?: boolean;
  children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = element.current!;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={element}
      class={props.isWide ? "wide" : undefined}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => {
        if (event.target === element.current) props.onClose();
      }}
    >
      <div class="dialog">
        <header>
          <h2 id={id}>{props.title}</h2>
          <button class="quiet icon" aria-label="Close" onClick={props.onClose}>
            ×
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}

// What ends a form in a dialog: what went wrong, Cancel, and the button that submits it.
export function FormEnd(props: { problem: Problem | undefined; onCancel: () => void; children: ComponentChildren }) {
  return (
    <>
      {props.problem && <ProblemBox problem={props.problem} />}
      <footer>
        <button type="button" class="quiet" onClick={props.onCancel}>
          Cancel
        </button>
        {props.children}
      </footer>
    </>
  );
}

export function Crumbs(props: { children: ComponentChildren }) {
  return (
    <nav class="crumbs" aria-label="Where you are">
      {props.children}
    </nav>
  );
}
