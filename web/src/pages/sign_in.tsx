// SPDX-License-Identifier: Apache-2.0
// Sign in with an API token.
import { useState } from "preact/hooks";
import { get, Problem, session } from "../api/client";
import { usePageTitle } from "../ui/hooks";
import { ProblemBox } from "../ui/parts";

export function SignInPage(props: { onSignedIn: () => void }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<Problem>();
  const [isBusy, setBusy] = useState(false);
  usePageTitle("Sign in");

  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    session.signIn(token.trim());
    try {
      await get("/v1/server");
      props.onSignedIn();
    } catch (error) {
      session.signOut();
      setProblem(
        error instanceof Problem && error.status === 401
          ? new Problem(
              401,
              "",
              "The server does not know this token.",
              "./dev up prints one and keeps it in .dev/admin-token.",
              "",
            )
          : (error as Problem),
      );
    }
    setBusy(false);
  };

  return (
    <main class="sign-in">
      <form class="card" onSubmit={submit}>
        <img src="/favicon.svg" alt="" width="48" height="48" />
        <h1>Holdfast</h1>
        <p class="muted">Every backup proves the one before it.</p>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="current-password"
          autofocus
          required
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        {problem && <ProblemBox problem={problem} />}
        <button type="submit" disabled={isBusy || !token.trim()}>
          {isBusy ? "Signing in…" : "Sign in"}
        </button>
      </form>
    </main>
  );
}
