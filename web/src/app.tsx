// SPDX-License-Identifier: Apache-2.0
// The frame around every page: sign-in, navigation, theme, and whether the server is there.
import { useEffect, useState } from "preact/hooks";
import { get, session, type Event } from "./api/client";
import { onStreamState, resumeAfter, startEvents, stopEvents, type StreamState } from "./api/events";
import { ActivityPage } from "./pages/activity";
import { BackupPage } from "./pages/backup";
import { BackupsPage } from "./pages/backups";
import { DatabasePage } from "./pages/database";
import { FleetPage } from "./pages/fleet";
import { InstancesPage } from "./pages/instances";
import { RepositoriesPage, RepositoryPage } from "./pages/repositories";
import { RestorePage, RestoresPage } from "./pages/restores";
import { SignInPage } from "./pages/sign_in";
import { useRoute } from "./ui/hooks";
import { Empty, Link } from "./ui/parts";

const THEME_KEY = "holdfast-theme";
const NAVIGATION = [
  ["fleet", "Fleet"],
  ["backups", "Backups"],
  ["repositories", "Repositories"],
  ["restores", "Restores"],
  ["instances", "Instances"],
  ["activity", "Activity"],
] as const;

function applyTheme(theme: string): void {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

applyTheme(localStorage.getItem(THEME_KEY) ?? "");

function ThemeButton() {
  const isDark = (): boolean => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const [dark, setDark] = useState(isDark);
  const toggle = (): void => {
    const theme = isDark() ? "light" : "dark";
    localStorage.setItem(THEME_KEY, theme);
    applyTheme(theme);
    setDark(isDark());
  };
  return (
    <button class="quiet icon" onClick={toggle} aria-label={dark ? "Use light colours" : "Use dark colours"}>
      <span aria-hidden="true">{dark ? "☀" : "☾"}</span>
    </button>
  );
}

function Page(props: { route: string[] }) {
  const [first = "fleet", second, third] = props.route;
  switch (first) {
    case "fleet":
      return <FleetPage />;
    case "databases":
      return second ? <DatabasePage name={second} /> : <FleetPage />;
    case "backups":
      return second ? <BackupPage id={second} shard={third} /> : <BackupsPage />;
    case "repositories":
      return second ? <RepositoryPage name={second} /> : <RepositoriesPage />;
    case "restores":
      return second ? <RestorePage id={second} /> : <RestoresPage />;
    case "instances":
      return <InstancesPage />;
    case "activity":
      return <ActivityPage />;
    default:
      return (
        <Empty title="There is no such page">
          <Link to="fleet">To the fleet</Link>
        </Empty>
      );
  }
}

const SECTION: Record<string, string> = { databases: "fleet" };

export function App() {
  const [isSignedIn, setSignedIn] = useState(session.token() !== "");
  const [stream, setStream] = useState<StreamState>("connecting");
  const route = useRoute();

  useEffect(() => session.onSignedOut(() => setSignedIn(false)), []);
  useEffect(() => onStreamState(setStream), []);
  useEffect(() => {
    if (!isSignedIn) return;
    // Only what happens from now on; pages fetch what is.
    get<{ events: Event[] }>("/v1/events?page_size=1").then(
      (page) => {
        resumeAfter(page.events[0]?.id ?? 0);
        void startEvents();
      },
      () => void startEvents(),
    );
    return stopEvents;
  }, [isSignedIn]);

  if (!isSignedIn) return <SignInPage onSignedIn={() => setSignedIn(true)} />;
  const section = SECTION[route[0] ?? "fleet"] ?? route[0] ?? "fleet";
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
      >
        To the content
      </a>
      <header class="top">
        <Link to="fleet" class="brand">
          <img src="/favicon.svg" alt="" width="26" height="26" /> Holdfast
        </Link>
        <nav aria-label="Sections">
          {NAVIGATION.map(([path, label]) => (
            <a key={path} href={`#/${path}`} aria-current={section === path ? "page" : undefined}>
              {label}
            </a>
          ))}
        </nav>
        <span
          class={`stream ${stream}`}
          role="status"
          title={stream === "live" ? "Events arrive as they happen" : "The server does not answer; trying again"}
        >
          <span class="dot" aria-hidden="true" />
          {stream === "live" ? "live" : stream === "connecting" ? "connecting" : "reconnecting"}
        </span>
        <ThemeButton />
        <button class="quiet" onClick={session.signOut}>
          Sign out
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        <Page route={route} />
      </main>
    </>
  );
}
