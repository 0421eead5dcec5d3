// SPDX-License-Identifier: Apache-2.0
// The fleet: which database can be restored, to which moment, in how long.
import { useEffect, useState } from "preact/hooks";
import { get, getAll, name, patch, startBackup, type Backup, type Database, type FleetLimits } from "../api/client";
import { bytes, duration, sentence, words } from "../ui/format";
import { useLive, usePageTitle } from "../ui/hooks";
import { LimitsButton, limitsText } from "../ui/limits_dialog";
import { Badge, Card, Empty, Link, Progress, Time, Waiting } from "../ui/parts";

const ORDER = ["unprotected", "at_risk", "protected"];
const SUMMARY = [
  ["protected", "good"],
  ["at_risk", "warn"],
  ["unprotected", "bad"],
] as const;

function RunningBackup(props: { id: string }) {
  const { data } = useLive(() => get<Backup>(`/v1/backups/${props.id}`), props.id, {
    concerns: (event) => event.backup_id === props.id,
    every: () => 1500,
  });
  if (!data) return null;
  return (
    <Link
      to={`backups/${props.id}`}
      class="running"
      label={`Running backup, ${Math.round(data.progress * 100)} percent`}
    >
      <Progress value={data.progress} label="Backup progress" tone="busy" />
      <span>{Math.round(data.progress * 100)} %</span>
    </Link>
  );
}

function DatabaseCard(props: { database: Database; onChange: () => void }) {
  const { database } = props;
  const [message, setMessage] = useState("");
  const start = async (): Promise<void> => {
    try {
      const backup = await startBackup(database.name);
      window.location.hash = `#/backups/${backup.id}`;
    } catch (error) {
      setMessage((error as Error).message);
      props.onChange();
    }
  };
  return (
    <article class={`card database ${database.protection ?? ""}`}>
      <header>
        <h2 title={database.name}>
          <Link to={`databases/${name(database.name)}`}>{database.name}</Link>
        </h2>
        <Badge state={database.protection} />
      </header>
      <p class="reason">{sentence(database.protection_reason)}</p>
      <dl>
        <div>
          <dt>Engine</dt>
          <dd>
            {database.engine} · {database.shard_count} {database.shard_count === 1 ? "shard" : "shards"}
          </dd>
        </div>
        <div>
          <dt>Restorable to</dt>
          <dd>
            <Time at={database.last_restorable_at} />
          </dd>
        </div>
        <div>
          <dt>Next run</dt>
          <dd>
            <Time at={database.next_run_at} fallback="none planned" />
          </dd>
        </div>
        <div>
          <dt title="The slowest shard's last proven restore, from the first byte to answering queries">
            Proven recovery
          </dt>
          <dd>
            {database.proven_recovery_time ? (
              duration(database.proven_recovery_time)
            ) : (
              <span class="muted">not yet proven</span>
            )}
          </dd>
        </div>
        <div>
          <dt>Size</dt>
          <dd>{bytes(database.size_bytes || undefined)}</dd>
        </div>
      </dl>
      <footer>
        {database.running_backup_id ? (
          <RunningBackup id={database.running_backup_id} />
        ) : (
          <button class="quiet" onClick={start}>
            Back up now
          </button>
        )}
        {message && (
          <span class="muted" role="alert">
            {message}
          </span>
        )}
      </footer>
    </article>
  );
}

// What all instances may use together; a word of it only where there is a limit.
function LimitsOfAll() {
  const { data, reload } = useLive(() => get<FleetLimits>("/v1/limits"), "limits", {
    concerns: (event) => event.kind === "fleet.limited",
    every: () => 60000,
  });
  if (!data) return null;
  return (
    <div class="actions">
      <span class="muted">{limitsText(data)}</span>
      <LimitsButton
        title="Limits of the fleet"
        text="What all instances may use together, of every repository. Empty: no limit."
        limits={data}
        save={(limits) => patch("/v1/limits", data.etag, limits)}
        onDone={reload}
      />
    </div>
  );
}

export function FleetPage() {
  usePageTitle("Fleet");
  const { data, problem, isLoading, reload } = useLive(() => getAll<Database>("/v1/databases", "databases"), "fleet", {
    concerns: (event) => event.kind !== "shard_backup.phase",
    every: () => 10000,
  });
  const [filter, setFilter] = useState("");
  useEffect(() => {
    const focus = (event: KeyboardEvent): void => {
      if (event.key === "/" && !(event.target instanceof HTMLInputElement)) {
        event.preventDefault();
        document.getElementById("filter")?.focus();
      }
    };
    window.addEventListener("keydown", focus);
    return () => window.removeEventListener("keydown", focus);
  }, []);

  const counts = (state: string): number => data?.filter((database) => database.protection === state).length ?? 0;
  const shown = (data ?? [])
    .filter(
      (database) => database.name.includes(filter.trim()) || database.protection === filter.trim().replace(/ /g, "_"),
    )
    .sort(
      (a, b) => ORDER.indexOf(a.protection ?? "") - ORDER.indexOf(b.protection ?? "") || a.name.localeCompare(b.name),
    );

  return (
    <>
      <div class="head">
        <h1>Fleet</h1>
        {data && data.length > 0 && (
          <div class="summary" role="status">
            {SUMMARY.map(([state, tone]) => (
              <span key={state} class={counts(state) > 0 ? tone : "muted"}>
                <strong>{counts(state)}</strong> {words(state)}
              </span>
            ))}
          </div>
        )}
        {data && data.length > 6 && (
          <input
            id="filter"
            type="search"
            placeholder="Filter, or press /"
            aria-label="Filter databases"
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
        )}
        {data && data.length > 0 && <LimitsOfAll />}
      </div>
      {!data && <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />}
      {data && data.length === 0 && (
        <Card>
          <Empty title="No database is protected yet">
            Add one with <code>holdfast database create</code>; docs/getting-started.md shows the few steps.
          </Empty>
        </Card>
      )}
      <div class="fleet">
        {shown.map((database) => (
          <DatabaseCard key={database.id} database={database} onChange={reload} />
        ))}
      </div>
      {data && data.length > 0 && shown.length === 0 && <Empty title={`Nothing matches “${filter}”`} />}
    </>
  );
}
