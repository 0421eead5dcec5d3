// SPDX-License-Identifier: Apache-2.0
// Restores: the list, and one of them live.
import { useState } from "preact/hooks";
import { get, getSome, post, Problem, type Restore } from "../api/client";
import { bytes, duration } from "../ui/format";
import { useLive, usePageTitle } from "../ui/hooks";
import { LimitsButton } from "../ui/limits_dialog";
import { Badge, Card, Crumbs, Empty, Figure, Link, ListPage, ProblemBox, Progress, Time, Waiting } from "../ui/parts";

const isActive = (restore: Restore | undefined): boolean =>
  ["pending", "running", "serving"].includes(restore?.state ?? "");

export function RestoresPage() {
  const loaded = useLive(() => getSome<Restore>("/v1/restores?page_size=100", "restores"), "restores", {
    concerns: (event) => event.kind.startsWith("restore"),
    every: () => 5000,
  });
  return (
    <ListPage
      title="Restores"
      loaded={loaded}
      empty={<Empty title="Nothing was restored yet">Choose “Restore” on a database or a backup.</Empty>}
    >
      {(restores) => (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Started</th>
                <th>Database</th>
                <th>State</th>
                <th>As</th>
                <th>Where</th>
                <th class="number">Shards</th>
              </tr>
            </thead>
            <tbody>
              {restores.map((restore) => (
                <tr key={restore.id}>
                  <td>
                    <Link to={`restores/${restore.id}`}>
                      <Time at={restore.created_at} />
                    </Link>
                  </td>
                  <td>
                    <Link to={`databases/${encodeURIComponent(restore.database)}`}>{restore.database}</Link>
                  </td>
                  <td>
                    <Badge state={restore.state} title={restore.message} />
                  </td>
                  <td>{restore.mode}</td>
                  <td class="mono clip">{restore.directory}</td>
                  <td class="number">{restore.shards.length}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </ListPage>
  );
}

export function RestorePage(props: { id: string }) {
  const { data, problem, isLoading, reload } = useLive(() => get<Restore>(`/v1/restores/${props.id}`), props.id, {
    concerns: (event) => event.subject_id === props.id,
    every: (value) => (isActive(value) ? 1000 : 30000),
  });
  usePageTitle(data ? `Restore of ${data.database}` : "Restore");
  const [failure, setFailure] = useState<Problem>();
  if (!data) return <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />;
  const stop = async (): Promise<void> => {
    try {
      await post(`/v1/restores/${data.id}/stop`);
    } catch (error) {
      setFailure(error as Problem);
    }
    reload();
  };
  return (
    <>
      <Crumbs>
        <Link to="restores">Restores</Link> /{" "}
        <Link to={`databases/${encodeURIComponent(data.database)}`}>{data.database}</Link>
      </Crumbs>
      <div class="head">
        <h1 class="name">Restore of {data.database}</h1>
        <Badge state={data.state} />
        <span class="muted">
          <Time at={data.created_at} /> from <Link to={`backups/${data.backup_id}`}>a backup</Link>
        </span>
        <div class="actions">
          {isActive(data) && (
            <>
              {data.state !== "serving" && (
                <LimitsButton
                  title="Limits of this restore"
                  text="What its instances may use together. Empty: no limit."
                  isOfRun
                  limits={data.limits}
                  save={(limits) => post(`/v1/restores/${data.id}/limit`, { limits })}
                  onDone={reload}
                />
              )}
              <button class="quiet" onClick={stop}>
                {data.state === "serving" ? "Stop the servers" : "Cancel"}
              </button>
            </>
          )}
        </div>
      </div>
      {failure && <ProblemBox problem={failure} />}
      {data.state === "failed" && data.message && (
        <ProblemBox problem={new Problem(0, data.reason, data.message, "", "")} />
      )}
      {(data.state === "running" || data.state === "pending") && (
        <Progress value={data.progress} label="Progress of the restore" tone="busy" />
      )}
      <div class="figures">
        <Figure label="Shards">{data.shards.length}</Figure>
        <Figure label="As">{data.mode === "server" ? "running servers" : "directories"}</Figure>
        <Figure label="Where">
          <span class="mono">{data.directory}</span>
        </Figure>
      </div>
      <Card title="Shards">
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Shard</th>
                <th>State</th>
                <th>Address</th>
                <th>Directory</th>
                <th class="number">Restored</th>
                <th class="number">Restore</th>
                <th class="number">Start</th>
                <th>Checkpoint</th>
              </tr>
            </thead>
            <tbody>
              {data.shards.map((shard) => (
                <tr key={shard.shard}>
                  <td>
                    <strong>{shard.shard}</strong>
                  </td>
                  <td>
                    <Badge state={shard.state} title={shard.message} />
                    {shard.message && <div class="bad small">{shard.message}</div>}
                  </td>
                  <td class="mono">{shard.port ? `127.0.0.1:${shard.port}` : "–"}</td>
                  <td class="mono clip" title={shard.directory}>
                    {shard.directory}
                  </td>
                  <td class="number">{bytes(shard.done_bytes)}</td>
                  <td class="number">{shard.restore_time ? duration(shard.restore_time) : "–"}</td>
                  <td class="number">{shard.start_time ? duration(shard.start_time) : "–"}</td>
                  <td class="mono clip" title={shard.checkpoint}>
                    {shard.checkpoint}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </Card>
    </>
  );
}
