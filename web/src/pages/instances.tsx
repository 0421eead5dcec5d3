// SPDX-License-Identifier: Apache-2.0
// The throw-away machines: what is running now, and what was.
import { useState } from "preact/hooks";
import { getSome, type Instance } from "../api/client";
import { bytes } from "../ui/format";
import { useLive } from "../ui/hooks";
import { Badge, Empty, Link, ListPage, Time } from "../ui/parts";

export function InstancesPage() {
  const [withDestroyed, setWithDestroyed] = useState(false);
  const loaded = useLive(
    () => getSome<Instance>(`/v1/instances?page_size=200&include_destroyed=${withDestroyed}`, "instances"),
    `instances${withDestroyed}`,
    { every: () => 3000 },
  );
  return (
    <ListPage
      title="Instances"
      loaded={loaded}
      actions={
        <>
          <span class="spacer" />
          <label class="check">
            <input type="checkbox" checked={withDestroyed} onChange={() => setWithDestroyed(!withDestroyed)} /> with
            destroyed ones
          </label>
        </>
      }
      empty={
        <Empty title="No instance is running">
          One is launched for each shard when a backup or a restore begins, and destroyed when it ends.
        </Empty>
      }
    >
      {(instances) => (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th>Instance</th>
                <th>State</th>
                <th>Provider</th>
                <th>For</th>
                <th>Shard</th>
                <th>Launched</th>
                <th>Last seen</th>
                <th class="number">Agent memory</th>
                <th>Destroyed</th>
              </tr>
            </thead>
            <tbody>
              {instances.map((instance) => (
                <tr key={instance.id}>
                  <td class="mono">{instance.id.slice(-12)}</td>
                  <td>
                    <Badge state={instance.state} title={instance.message} />
                  </td>
                  <td>
                    {instance.provider} <span class="muted">{instance.provider_id}</span>
                  </td>
                  <td>
                    {instance.backup_id && instance.purpose === "backup" ? (
                      <Link to={`backups/${instance.backup_id}`}>backup</Link>
                    ) : (
                      <Link to="restores">{instance.purpose}</Link>
                    )}
                  </td>
                  <td>
                    <Link to={`databases/${encodeURIComponent(instance.database)}`}>{instance.database}</Link>/
                    {instance.shard}
                  </td>
                  <td>
                    <Time at={instance.launched_at} fallback="not yet" />
                  </td>
                  <td>
                    <Time at={instance.last_seen_at} />
                  </td>
                  <td class="number">{instance.memory_bytes > 0 ? bytes(instance.memory_bytes) : "–"}</td>
                  <td>{instance.destroyed_at ? <Time at={instance.destroyed_at} /> : "–"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </ListPage>
  );
}
