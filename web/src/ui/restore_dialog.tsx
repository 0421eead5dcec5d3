// SPDX-License-Identifier: Apache-2.0
// Restore a backup: all shards or chosen ones, to directories or as running servers.
import { useState } from "preact/hooks";
import { post, Problem, type Restore } from "../api/client";
import { Dialog, FormEnd } from "./parts";

export function RestoreDialog(props: { backup: string; database: string; shards: string[]; onClose: () => void }) {
  const [mode, setMode] = useState<"server" | "directory">("server");
  const [directory, setDirectory] = useState(`/tmp/restored-${props.database}`);
  const [port, setPort] = useState(56000);
  const [chosen, setChosen] = useState<Set<string>>(new Set(props.shards));
  const [problem, setProblem] = useState<Problem>();
  const [isBusy, setBusy] = useState(false);

  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    try {
      const restore = await post<Restore>("/v1/restores", {
        backup: props.backup,
        mode,
        directory,
        first_port: mode === "server" ? port : 0,
        shards: chosen.size === props.shards.length ? [] : [...chosen],
      });
      window.location.hash = `#/restores/${restore.id}`;
    } catch (error) {
      setProblem(error as Problem);
      setBusy(false);
    }
  };

  const toggle = (shard: string): void => {
    const next = new Set(chosen);
    if (!next.delete(shard)) next.add(shard);
    setChosen(next);
  };

  return (
    <Dialog title={`Restore ${props.database}`} onClose={props.onClose}>
      <form onSubmit={submit} class="form">
        <fieldset>
          <legend>As</legend>
          <label>
            <input type="radio" name="mode" checked={mode === "server"} onChange={() => setMode("server")} />
            running servers on 127.0.0.1, until you stop them
          </label>
          <label>
            <input type="radio" name="mode" checked={mode === "directory"} onChange={() => setMode("directory")} />
            data directories, ready to be started
          </label>
        </fieldset>
        <label>
          Directory on the server
          <input
            value={directory}
            required
            pattern="/.*"
            title="An absolute path"
            onInput={(event) => setDirectory(event.currentTarget.value)}
          />
          <small>Each shard goes into a folder of its own below; it must be empty or missing.</small>
        </label>
        {mode === "server" && (
          <label>
            First port
            <input
              type="number"
              min={1024}
              max={65535}
              value={port}
              onInput={(event) => setPort(event.currentTarget.valueAsNumber)}
            />
            <small>The next shards listen on the following ports.</small>
          </label>
        )}
        {props.shards.length > 1 && (
          <fieldset class="choices">
            <legend>Shards</legend>
            {props.shards.map((shard) => (
              <label key={shard}>
                <input type="checkbox" checked={chosen.has(shard)} onChange={() => toggle(shard)} /> {shard}
              </label>
            ))}
          </fieldset>
        )}
        <FormEnd problem={problem} onCancel={props.onClose}>
          <button type="submit" disabled={isBusy || chosen.size === 0}>
            {isBusy ? "Starting…" : "Restore"}
          </button>
        </FormEnd>
      </form>
    </Dialog>
  );
}
