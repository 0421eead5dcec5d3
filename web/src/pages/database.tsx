// SPDX-License-Identifier: Apache-2.0
// One database: its protection, shards, running backup, policies, history.
import { useState } from "preact/hooks";
import {
  get,
  getAll,
  name as encode,
  patch,
  post,
  Problem,
  startBackup,
  type Backup,
  type Database,
  type Policy,
  type Shard,
  type ShardBackup,
} from "../api/client";
import { BackupTable } from "../ui/backup_table";
import { absolute, bytes, duration, relative, sentence } from "../ui/format";
import { HistoryChart } from "../ui/history_chart";
import { useLive, useNow, usePageTitle } from "../ui/hooks";
import { LimitsButton, limitsText } from "../ui/limits_dialog";
import { Badge, Card, Crumbs, Empty, Figure, Link, ProblemBox, Time, Waiting } from "../ui/parts";
import { RestoreDialog } from "../ui/restore_dialog";
import { RetentionDialog } from "../ui/retention_dialog";
import { ShardGrid } from "../ui/shard_grid";

interface Everything {
  database: Database;
  shards: Shard[];
  policies: Policy[];
  backups: Backup[];
}

async function load(name: string): Promise<Everything> {
  const path = `/v1/databases/${encode(name)}`;
  const [database, shards, policies, page] = await Promise.all([
    get<Database>(path),
    getAll<Shard>(`${path}/shards`, "shards"),
    getAll<Policy>(`${path}/policies`, "policies"),
    get<{ backups: Backup[] }>(`${path}/backups?page_size=60`),
  ]);
  return { database, shards, policies, backups: page.backups };
}

function Running(props: { backup: string }) {
  const { data } = useLive(() => getAll<ShardBackup>(`/v1/backups/${props.backup}/shards`, "shards"), props.backup, {
    concerns: (event) => event.backup_id === props.backup,
    every: () => 1000,
  });
  return (
    <Card title={<Link to={`backups/${props.backup}`}>Running backup</Link>}>
      {data ? (
        <ShardGrid backup={props.backup} shards={data} />
      ) : (
        <div class="skeleton">
          <div />
        </div>
      )}
    </Card>
  );
}

function list(parts: string[]): string {
  return parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts[parts.length - 1]}` : parts.join("");
}

function retentionText(policy: Policy): string {
  const parts: string[] = [];
  if (policy.retention?.keep_last) parts.push(`the last ${policy.retention.keep_last}`);
  const seconds = Number.parseFloat(policy.retention?.keep_for ?? "0");
  if (seconds > 0) parts.push(`those of the last ${duration(seconds)}`);
  const { keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly } = policy.retention ?? {};
  if (keep_hourly) parts.push(`${keep_hourly} hourly`);
  if (keep_daily) parts.push(`${keep_daily} daily`);
  if (keep_weekly) parts.push(`${keep_weekly} weekly`);
  if (keep_monthly) parts.push(`${keep_monthly} monthly`);
  if (keep_yearly) parts.push(`${keep_yearly} yearly`);
  return parts.length > 0 ? `keeps ${list(parts)}` : "keeps every backup";
}

function PolicyRow(props: { policy: Policy; onChange: () => void }) {
  const { policy } = props;
  const now = useNow(10000);
  const [problem, setProblem] = useState<Problem>();
  const [isAsking, setAsking] = useState(false);
  const path = `/v1/databases/${encode(policy.database)}/policies/${encode(policy.name)}`;
  const limits = limitsText(policy.limits);
  const { data } = useLive(
    () =>
      post<{ runs: string[] }>("/v1/schedules/preview", {
        schedule: policy.schedule,
        time_zone: policy.time_zone,
        stagger_delay: policy.stagger_delay,
        count: 5,
      }),
    `${policy.schedule} ${policy.time_zone} ${policy.stagger_delay}`,
    { concerns: (event) => event.kind.startsWith("policy."), every: () => 60000 },
  );
  const toggle = async (): Promise<void> => {
    try {
      await post(`${path}/${policy.is_paused ? "resume" : "pause"}`);
      setProblem(undefined);
    } catch (error) {
      setProblem(error as Problem);
    }
    props.onChange();
  };
  return (
    <div class="policy">
      <div class="policy-head">
        <div>
          <strong>{policy.name}</strong> {policy.is_paused && <Badge state="paused" />}
        </div>
        <div class="actions">
          <button class="quiet" onClick={() => setAsking(true)}>
            What it keeps
          </button>
          <LimitsButton
            title={`Limits of ${policy.name}`}
            text="What the instances of each of its backups may use together. Empty: no limit."
            isOfRun
            limits={policy.limits}
            save={(changed) => patch(path, policy.etag, { limits: changed })}
            onDone={props.onChange}
          />
          <button class="quiet" onClick={toggle}>
            {policy.is_paused ? "Resume" : "Pause"}
          </button>
        </div>
      </div>
      <p class="muted">
        <code>{policy.schedule}</code> {policy.time_zone}, to{" "}
        <Link to={`repositories/${encode(policy.repository)}`}>{policy.repository}</Link>, {retentionText(policy)}
        {limits && `; ${limits}`}
      </p>
      {policy.is_paused ? (
        <p class="muted">Paused: it does not fire, and what passes meanwhile is not made up.</p>
      ) : (
        <ol class="runs" aria-label="Next five runs">
          {(data?.runs ?? []).map((run) => (
            <li key={run} title={absolute(run)}>
              {relative(run, now)}
            </li>
          ))}
        </ol>
      )}
      {problem && <ProblemBox problem={problem} />}
      {isAsking && <RetentionDialog policy={policy} onClose={() => setAsking(false)} />}
    </div>
  );
}

function ShardTable(props: { shards: Shard[] }) {
  return (
    <div class="scroll tall" tabIndex={props.shards.length > 10 ? 0 : undefined} role="group" aria-label="Shards">
      <table>
        <thead>
          <tr>
            <th>Shard</th>
            <th>Source</th>
            <th class="number">Generation</th>
            <th>Last backup</th>
            <th>Proven</th>
            <th class="number">Recovery</th>
            <th class="number">Size</th>
            <th>Checkpoint</th>
          </tr>
        </thead>
        <tbody>
          {props.shards.map((shard) => (
            <tr key={shard.id}>
              <td>
                <strong>{shard.name}</strong>
              </td>
              <td class="muted clip" title={`${shard.source?.host}:${shard.source?.port}`}>
                {shard.source?.host}:{shard.source?.port}
              </td>
              <td class="number">
                {shard.last_backup_at ? (shard.generation === 0 ? "seed" : shard.generation) : "–"}
              </td>
              <td>
                <Time at={shard.last_backup_at} />
              </td>
              <td>
                <Time at={shard.proven_at} fallback="by the next backup" />
              </td>
              <td class="number">{shard.proven_recovery_time ? duration(shard.proven_recovery_time) : "–"}</td>
              <td class="number">{bytes(shard.size_bytes || undefined)}</td>
              <td class="mono clip" title={shard.checkpoint}>
                {shard.checkpoint || "–"}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function DatabasePage(props: { name: string }) {
  usePageTitle(props.name);
  const { data, problem, isLoading, reload } = useLive(() => load(props.name), props.name, {
    concerns: (event) => event.database === props.name && event.kind !== "shard_backup.phase",
    every: (value) => (value?.database.running_backup_id ? 5000 : 15000),
  });
  const [failure, setFailure] = useState<Problem>();
  const [isRestoring, setRestoring] = useState(false);

  if (!data) return <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />;
  const { database } = data;
  const start = async (): Promise<void> => {
    setFailure(undefined);
    try {
      await startBackup(props.name);
      reload();
    } catch (error) {
      setFailure(error as Problem);
    }
  };
  return (
    <>
      <Crumbs>
        <Link to="fleet">Fleet</Link>
      </Crumbs>
      <div class="head">
        <h1 class="name">{database.name}</h1>
        <Badge state={database.protection} />
        <div class="actions">
          <button class="quiet" disabled={!database.last_backup_id} onClick={() => setRestoring(true)}>
            Restore
          </button>
          <button disabled={!!database.running_backup_id} onClick={start}>
            {database.running_backup_id ? "Backing up…" : "Back up now"}
          </button>
        </div>
      </div>
      <p class="muted">
        {sentence(database.protection_reason)} {database.description && `· ${database.description}`}
      </p>
      {failure && <ProblemBox problem={failure} />}
      <div class="figures">
        <Figure label="Restorable to">
          <Time at={database.last_restorable_at} />
        </Figure>
        <Figure label="Objective" hint="How old the last restorable point may become">
          {duration(database.recovery_point_objective)}
        </Figure>
        <Figure
          label="Proven recovery"
          hint="The slowest shard's last proven restore, from the first byte to answering queries"
        >
          {database.proven_recovery_time ? duration(database.proven_recovery_time) : "not yet"}
        </Figure>
        <Figure label="Next run">
          <Time at={database.next_run_at} fallback="none planned" />
        </Figure>
        <Figure label="Size">{bytes(database.size_bytes || undefined)}</Figure>
      </div>
      {database.running_backup_id && <Running backup={database.running_backup_id} />}
      <div class="columns">
        <Card title="History">
          <HistoryChart backups={data.backups} />
        </Card>
        <Card title="Policies">
          {data.policies.length === 0 && (
            <Empty title="No policy">
              Nothing is backed up by itself. Add one with <code>holdfast policy create</code>.
            </Empty>
          )}
          {data.policies.map((policy) => (
            <PolicyRow key={policy.id} policy={policy} onChange={reload} />
          ))}
        </Card>
      </div>
      <Card title="Shards">
        {data.shards.length === 0 ? (
          <Empty title="No shards">
            Add one with <code>holdfast shard create</code>.
          </Empty>
        ) : (
          <ShardTable shards={data.shards} />
        )}
      </Card>
      <Card title="Backups">
        {data.backups.length === 0 ? (
          <Empty title="No backup yet">Start one, or wait for the policy.</Empty>
        ) : (
          <BackupTable backups={data.backups.slice(0, 25)} />
        )}
      </Card>
      {isRestoring && database.last_backup_id && (
        <RestoreDialog
          backup={database.last_backup_id}
          database={database.name}
          shards={data.shards.map((shard) => shard.name)}
          onClose={() => setRestoring(false)}
        />
      )}
    </>
  );
}
