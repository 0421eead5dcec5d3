// SPDX-License-Identifier: Apache-2.0
// Repositories: the list, and what one of them holds.
import { useState } from "preact/hooks";
import {
  get,
  getAll,
  getSome,
  name as encode,
  patch,
  type Backup,
  type ObjectStore,
  type Repository,
  type RepositoryDatabase,
} from "../api/client";
import { BackupTable } from "../ui/backup_table";
import { bytes } from "../ui/format";
import { GrowthChart } from "../ui/history_chart";
import { useLive, usePageTitle } from "../ui/hooks";
import { LimitsButton, limitsText } from "../ui/limits_dialog";
import { Badge, Card, Crumbs, Empty, Figure, Link, ListPage, Time, Waiting } from "../ui/parts";

const SHOWN_BACKUPS = 25;
const READ_BACKUPS = 500;

const concerns = (event: { kind: string }): boolean => /^(backup|repository)\./.test(event.kind);

function lockText(store: ObjectStore | undefined): string {
  const mode = store?.lock_mode || "none";
  return mode === "none" ? "none" : `${mode}, ${store?.lock_days} ${store?.lock_days === 1 ? "day" : "days"}`;
}

function storeEncryption(store: ObjectStore): string {
  if (store.encryption === "kms") return `with the key ${store.kms_key_id}`;
  return store.encryption === "store" ? "with its own key" : "as the bucket says";
}

export function RepositoriesPage() {
  const loaded = useLive(() => getAll<Repository>("/v1/repositories", "repositories"), "repositories", {
    concerns,
    every: () => 15000,
  });
  return (
    <ListPage
      title="Repositories"
      loaded={loaded}
      empty={
        <Empty title="No repository yet">
          It is where backups are stored. Add one with <code>holdfast repository create</code>.
        </Empty>
      }
    >
      {(repositories) => (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Repository</th>
                <th>Location</th>
                <th>Key</th>
                <th>Object lock</th>
                <th class="number">Stored</th>
                <th>Created</th>
              </tr>
            </thead>
            <tbody>
              {repositories.map((repository) => (
                <tr key={repository.id}>
                  <td>
                    <Link to={`repositories/${encode(repository.name)}`}>{repository.name}</Link>
                  </td>
                  <td class="mono clip" title={repository.location}>
                    {repository.location}
                  </td>
                  <td class="mono clip" title={repository.key_file}>
                    {repository.key_fingerprint}
                  </td>
                  <td>{lockText(repository.object_store)}</td>
                  <td class="number">{bytes(repository.stored_bytes)}</td>
                  <td>
                    <Time at={repository.created_at} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </ListPage>
  );
}

function Facts(props: { repository: Repository }) {
  const { repository } = props;
  const store = repository.object_store;
  const facts: [string, string | undefined][] = [
    ["Location", repository.location],
    ["Endpoint", store?.endpoint],
    ["Region", store?.region],
    ["Credentials", store?.credential || store?.credential_source],
    ["Sealed with", repository.key_file],
    ["Fingerprint of the key", repository.key_fingerprint],
    ["The store encrypts", store && storeEncryption(store)],
    ["Storage class", store?.storage_class],
    ["Object lock", lockText(store)],
    ["Limits", limitsText(repository.limits) || "none"],
    ["Repository id", repository.repository_id],
  ];
  return (
    <dl class="facts">
      {facts.map(
        ([label, value]) =>
          value && (
            <div key={label}>
              <dt>{label}</dt>
              <dd class={/[/:]|^[0-9a-f-]{16,}$/.test(value) ? "mono" : undefined}>{value}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

function DatabaseTable(props: { databases: RepositoryDatabase[] }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>Database</th>
            <th class="number">Backups</th>
            <th>Kept by hand</th>
            <th class="number">Size</th>
            <th class="number" title="What its backups that are there added">
              Stored
            </th>
            <th>Oldest</th>
            <th>Newest</th>
            <th title="The shard that has waited longest">Swept</th>
          </tr>
        </thead>
        <tbody>
          {props.databases.map((database) => (
            <tr key={database.database}>
              <td>
                <Link to={`databases/${encode(database.database)}`}>{database.database}</Link>
              </td>
              <td class="number">{database.backup_count}</td>
              <td>
                {database.held_count > 0 && <Badge state="legal_hold" text={`${database.held_count} on legal hold`} />}
                {database.pinned_count > 0 && <Badge state="pinned" text={`${database.pinned_count} pinned`} />}
                {database.held_count + database.pinned_count === 0 && "–"}
              </td>
              <td class="number">{bytes(database.size_bytes)}</td>
              <td class="number">{bytes(database.stored_bytes)}</td>
              <td>
                <Time at={database.oldest_backup_at} fallback="–" />
              </td>
              <td>
                <Time at={database.newest_backup_at} fallback="–" />
              </td>
              <td>
                <Time at={database.swept_at} fallback="not yet" />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Backups(props: { backups: Backup[]; isCut: boolean }) {
  const [isKeptOnly, setKeptOnly] = useState(false);
  const shown = props.backups.filter((backup) => !isKeptOnly || backup.is_pinned || backup.is_held);
  return (
    <Card
      title="Backups"
      actions={
        <label class="check">
          <input type="checkbox" checked={isKeptOnly} onChange={() => setKeptOnly(!isKeptOnly)} /> only pinned or on
          legal hold
        </label>
      }
    >
      {shown.length === 0 ? (
        <Empty title={isKeptOnly ? "No backup is kept by hand" : "No backup yet"}>
          {isKeptOnly ? "A backup's page has “Pin” and “Legal hold”." : "Start one from a database's page."}
        </Empty>
      ) : (
        <BackupTable backups={shown.slice(0, SHOWN_BACKUPS)} withDatabase />
      )}
      {(shown.length > SHOWN_BACKUPS || props.isCut) && (
        <p class="muted">
          The newest {Math.min(SHOWN_BACKUPS, shown.length)} of {shown.length}
          {props.isCut && ` among the last ${READ_BACKUPS}`}.{" "}
          <code>holdfast backup list</code> lists every one.
        </p>
      )}
    </Card>
  );
}

interface Everything {
  repository: Repository;
  databases: RepositoryDatabase[];
  backups: Backup[];
  isCut: boolean; // there are older backups
}

async function load(name: string): Promise<Everything> {
  const path = `/v1/repositories/${encode(name)}`;
  const [repository, databases, backups] = await Promise.all([
    get<Repository>(path),
    getAll<RepositoryDatabase>(`${path}/databases`, "databases"),
    getSome<Backup>(`/v1/backups?repository=${encode(name)}&page_size=${READ_BACKUPS}`, "backups"),
  ]);
  return {
    repository,
    databases,
    backups: backups.filter((backup) => backup.state !== "deleted"),
    isCut: backups.length === READ_BACKUPS,
  };
}

export function RepositoryPage(props: { name: string }) {
  usePageTitle(props.name);
  const { data, problem, isLoading, reload } = useLive(() => load(props.name), props.name, {
    concerns,
    every: () => 15000,
  });
  if (!data) return <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />;
  const { repository, databases, backups, isCut } = data;
  const sum = (count: (database: RepositoryDatabase) => number): number =>
    databases.reduce((total, database) => total + count(database), 0);
  const size = sum((database) => database.size_bytes);
  const stored = repository.stored_bytes;
  const others = stored - sum((database) => database.stored_bytes);
  const sweeps = databases.flatMap((database) => database.swept_at ?? []).sort();
  return (
    <>
      <Crumbs>
        <Link to="repositories">Repositories</Link>
      </Crumbs>
      <div class="head">
        <h1 class="name">{repository.name}</h1>
        <span class="muted">
          created <Time at={repository.created_at} />
        </span>
      </div>
      <div class="figures">
        <Figure label="Databases">{databases.length}</Figure>
        <Figure label="Backups">{sum((database) => database.backup_count)}</Figure>
        <Figure label="Size of the backups" hint="What restoring every one of them writes">
          {bytes(size)}
        </Figure>
        <Figure label="Stored">{bytes(stored)}</Figure>
        <Figure label="Deduplication" hint="The size of the backups by what is stored, compression included">
          {size > 0 && stored > 0 ? `${(size / stored).toFixed(1)} : 1` : "–"}
        </Figure>
        <Figure label="Swept" hint="When the shard was that has waited longest">
          <Time at={sweeps[0]} fallback="not yet" />
        </Figure>
      </div>
      <div class="columns">
        <Card title="Growth">
          <GrowthChart backups={backups} storedBytes={stored} />
          {isCut && <p class="muted">The last {READ_BACKUPS} backups.</p>}
        </Card>
        <Card
          title="Where and how"
          actions={
            <LimitsButton
              title={`Limits of ${repository.name}`}
              text="What all instances that work on this repository may use together. Empty: no limit."
              limits={repository.limits}
              save={(limits) => patch(`/v1/repositories/${encode(repository.name)}`, repository.etag, { limits })}
              onDone={reload}
            />
          }
        >
          <Facts repository={repository} />
        </Card>
      </div>
      <Card title="Databases">
        {databases.length === 0 ? (
          <Empty title="Nothing is stored here yet">
            A policy or a backup by hand that names this repository begins it.
          </Empty>
        ) : (
          <>
            <DatabaseTable databases={databases} />
            {others > 0 && (
              <p class="muted">
                {bytes(others)} more was added by backups that are deleted: later ones need it, or the next sweep frees
                it.
              </p>
            )}
          </>
        )}
      </Card>
      <Backups backups={backups} isCut={isCut} />
    </>
  );
}
