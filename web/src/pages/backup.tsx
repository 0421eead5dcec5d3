// SPDX-License-Identifier: Apache-2.0
// One backup: its shards, live, and what each of them did when.
import { useState } from "preact/hooks";
import { get, getAll, post, Problem, remove, type Backup, type Event, type ShardBackup } from "../api/client";
import { Amounts } from "../ui/amounts";
import { EventList } from "../ui/event_list";
import { absolute, bytes, duration, sentence, words } from "../ui/format";
import { useLive, usePageTitle } from "../ui/hooks";
import { KeepDialog, type Keep } from "../ui/keep_dialog";
import { LimitsButton } from "../ui/limits_dialog";
import { Badge, Card, Crumbs, Dialog, Figure, Kept, Link, ProblemBox, Progress, Time, Waiting } from "../ui/parts";
import { RestoreDialog } from "../ui/restore_dialog";
import { ShardGrid } from "../ui/shard_grid";
import { Waterfall } from "../ui/waterfall";

interface Everything {
  backup: Backup;
  shards: ShardBackup[];
  events: Event[];
}

async function load(id: string): Promise<Everything> {
  const [backup, shards, page] = await Promise.all([
    get<Backup>(`/v1/backups/${id}`),
    getAll<ShardBackup>(`/v1/backups/${id}/shards`, "shards"),
    get<{ events: Event[] }>(`/v1/events?backup=${id}&page_size=100`),
  ]);
  return { backup, shards, events: page.events };
}

const isActive = (backup: Backup | undefined): boolean => backup?.state === "pending" || backup?.state === "running";

function ShardDetail(props: { shard: ShardBackup }) {
  const { shard } = props;
  return (
    <Card
      title={
        <>
          Shard {shard.shard} <Badge state={shard.state} />
        </>
      }
      actions={
        <Link to={`backups/${shard.backup_id}`} class="muted">
          All shards
        </Link>
      }
    >
      {shard.message && <p class="bad">{shard.message}</p>}
      {shard.seed_reason && <p class="warn">Seeded again: {words(shard.seed_reason)}</p>}
      <dl class="wide">
        <div>
          <dt>Generation</dt>
          <dd>{shard.generation === 0 ? "0 (seed)" : shard.generation}</dd>
        </div>
        <div>
          <dt>Checkpoint</dt>
          <dd class="mono">{shard.checkpoint || "–"}</dd>
        </div>
        <div>
          <dt>Engine</dt>
          <dd>{shard.engine_version || "–"}</dd>
        </div>
        <div>
          <dt>Pages verified</dt>
          <dd>{shard.pages_checked.toLocaleString()}</dd>
        </div>
        <div>
          <dt>Parent restored in</dt>
          <dd>{shard.parent_restore_time ? duration(shard.parent_restore_time) : "–"}</dd>
        </div>
        <div>
          <dt>Parent started in</dt>
          <dd>{shard.parent_start_time ? duration(shard.parent_start_time) : "–"}</dd>
        </div>
        <div>
          <dt>Replayed in</dt>
          <dd>{shard.replay_time ? duration(shard.replay_time) : "–"}</dd>
        </div>
        <div>
          <dt>Tries</dt>
          <dd>{shard.attempt_count}</dd>
        </div>
      </dl>
    </Card>
  );
}

function KeepButtons(props: { backup: Backup; onKeep: (keep: Keep) => void; onUnpin: () => void }) {
  const { backup } = props;
  return (
    <>
      {backup.is_pinned ? (
        <button class="quiet" onClick={props.onUnpin}>
          Unpin
        </button>
      ) : (
        <button class="quiet" onClick={() => props.onKeep("pin")}>
          Pin
        </button>
      )}
      <button class="quiet" onClick={() => props.onKeep(backup.is_held ? "release" : "hold")}>
        {backup.is_held ? "End hold" : "Legal hold"}
      </button>
    </>
  );
}

// What keeps it, and until when, in words.
function KeptText(props: { backup: Backup }) {
  const { backup } = props;
  if (!backup.is_held && !backup.is_pinned) return null;
  return (
    <p class="muted">
      {backup.is_held && (
        <>
          On legal hold since <Time at={backup.held_at} />
          {backup.hold_note && `: ${backup.hold_note}`}.{" "}
        </>
      )}
      {backup.is_pinned && (
        <>
          Pinned {backup.pinned_until ? <>until {absolute(backup.pinned_until)}</> : "until it is unpinned"}
          {backup.pin_note && `: ${backup.pin_note}`}.
        </>
      )}
    </p>
  );
}

export function BackupPage(props: { id: string; shard: string | undefined }) {
  const { data, problem, isLoading, reload } = useLive(() => load(props.id), props.id, {
    concerns: (event) => event.backup_id === props.id,
    every: (value) => (isActive(value?.backup) ? 1000 : 20000),
  });
  usePageTitle(data ? `Backup of ${data.backup.database}` : "Backup");
  const [failure, setFailure] = useState<Problem>();
  const [isRestoring, setRestoring] = useState(false);
  const [isDeleting, setDeleting] = useState(false);
  const [keep, setKeep] = useState<Keep>();

  if (!data) return <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />;
  const { backup, shards } = data;
  // The phases are in the waterfall already.
  const events = data.events.filter(
    (event) => event.kind !== "shard_backup.phase" && (!props.shard || event.shard === props.shard),
  );
  const chosen = shards.find((shard) => shard.shard === props.shard);
  const act = async (action: () => Promise<unknown>): Promise<void> => {
    setFailure(undefined);
    try {
      await action();
    } catch (error) {
      setFailure(error as Problem);
    }
    setDeleting(false);
    reload();
  };
  return (
    <>
      <Crumbs>
        <Link to="fleet">Fleet</Link> /{" "}
        <Link to={`databases/${encodeURIComponent(backup.database)}`}>{backup.database}</Link>
        {props.shard && (
          <>
            {" "}
            / <Link to={`backups/${backup.id}`}>backup</Link>
          </>
        )}
      </Crumbs>
      <div class="head">
        <h1 class="name">Backup of {backup.database}</h1>
        <Badge state={backup.state} />
        <Kept backup={backup} />
        <span class="muted">
          <Time at={backup.created_at} /> · {backup.policy ? `policy ${backup.policy}` : backup.trigger}
          {" · to "}
          <Link to={`repositories/${encodeURIComponent(backup.repository)}`}>{backup.repository}</Link>
          {backup.note && ` · ${backup.note}`}
        </span>
        <div class="actions">
          {isActive(backup) && (
            <>
              <LimitsButton
                title="Limits of this backup"
                text="What its instances may use together. Empty: as its policy says."
                isOfRun
                limits={backup.limits}
                save={(limits) => post(`/v1/backups/${backup.id}/limit`, { limits })}
                onDone={reload}
              />
              <button class="quiet" onClick={() => act(() => post(`/v1/backups/${backup.id}/cancel`))}>
                Cancel
              </button>
            </>
          )}
          {!backup.state?.startsWith("delet") && (
            <KeepButtons
              backup={backup}
              onKeep={setKeep}
              onUnpin={() => act(() => post(`/v1/backups/${backup.id}/unpin`))}
            />
          )}
          {backup.state === "succeeded" && <button onClick={() => setRestoring(true)}>Restore</button>}
          {!isActive(backup) && !backup.state?.startsWith("delet") && (
            <button class="quiet danger" onClick={() => setDeleting(true)}>
              Delete
            </button>
          )}
        </div>
      </div>
      <KeptText backup={backup} />
      {backup.message && backup.state === "deleting" && (
        <p class="warn">Not deleted yet: {sentence(backup.message)}.</p>
      )}
      {failure && <ProblemBox problem={failure} />}
      {backup.message && backup.state === "failed" && (
        <ProblemBox problem={new Problem(0, backup.reason, backup.message, "", "")} />
      )}
      {isActive(backup) && <Progress value={backup.progress} label="Progress of the backup" tone="busy" />}
      <div class="figures">
        <Figure label="Shards">
          {backup.committed_count}/{backup.shard_count}
        </Figure>
        <Figure label="Consistent at" hint="When the shards took their checkpoints">
          <Time at={backup.checkpoint_at} fallback="not yet" />
        </Figure>
        <Figure label="Skew" hint="The longest time that can lie between two shards' checkpoints, measured">
          {backup.checkpoint_skew ? duration(backup.checkpoint_skew) : "–"}
        </Figure>
        <Figure label="Size">{bytes(backup.size_bytes || undefined)}</Figure>
        <Figure label="Stored" hint="What this backup added to the repository">
          {bytes(backup.stored_bytes || undefined)}
        </Figure>
      </div>
      <Card title="Shards">
        <ShardGrid backup={backup.id} shards={shards} {...(props.shard ? { chosen: props.shard } : {})} />
      </Card>
      {chosen && <ShardDetail shard={chosen} />}
      <Card title="What was read and stored">
        <Amounts shards={chosen ? [chosen] : shards} />
      </Card>
      <Card title="Phases">
        <Waterfall shards={chosen ? [chosen] : shards} isRunning={isActive(backup)} />
      </Card>
      <Card title="What happened">
        <EventList events={events} />
      </Card>
      {keep && (
        <KeepDialog
          backup={backup}
          keep={keep}
          onClose={() => setKeep(undefined)}
          onDone={() => {
            setKeep(undefined);
            reload();
          }}
        />
      )}
      {isRestoring && (
        <RestoreDialog
          backup={backup.id}
          database={backup.database}
          shards={shards.filter((shard) => shard.state === "committed").map((shard) => shard.shard)}
          onClose={() => setRestoring(false)}
        />
      )}
      {isDeleting && (
        <Dialog title="Delete this backup?" onClose={() => setDeleting(false)}>
          <p>Its space is freed in the background. Other backups are not touched: each is complete by itself.</p>
          <footer>
            <button class="quiet" onClick={() => setDeleting(false)}>
              Keep it
            </button>
            <button class="danger" onClick={() => act(() => remove(`/v1/backups/${backup.id}`))}>
              Delete
            </button>
          </footer>
        </Dialog>
      )}
    </>
  );
}
