// SPDX-License-Identifier: Apache-2.0
// What a policy's retention would do now, backup by backup, without doing it.
import { get, name as encode, type Policy, type RetentionVerdict } from "../api/client";
import { bytes, sentence } from "./format";
import { useLive } from "./hooks";
import { Badge, Dialog, Empty, Link, Time, Waiting } from "./parts";

function Verdicts(props: { verdicts: RetentionVerdict[] }) {
  const gone = props.verdicts.filter((verdict) => !verdict.is_kept);
  return (
    <>
      <p class="muted">
        {gone.length === 0
          ? `All ${props.verdicts.length} backups stay.`
          : `${gone.length} of ${props.verdicts.length} backups would go now.`}{" "}
        Nothing is deleted by looking.
      </p>
      <div class="scroll tall" tabIndex={0} role="group" aria-label="Verdicts">
        <table>
          <thead>
            <tr>
              <th>Checkpoint</th>
              <th>Verdict</th>
              <th class="number">Stored</th>
              <th>Why</th>
            </tr>
          </thead>
          <tbody>
            {props.verdicts.map((verdict) => (
              <tr key={verdict.backup_id}>
                <td>
                  <Link to={`backups/${verdict.backup_id}`}>
                    <Time at={verdict.checkpoint_at} />
                  </Link>
                </td>
                <td>
                  <Badge state={verdict.is_kept ? "kept" : "goes"} />
                </td>
                <td class="number">{bytes(verdict.stored_bytes)}</td>
                <td class="why">{sentence(verdict.why)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

export function RetentionDialog(props: { policy: Policy; onClose: () => void }) {
  const { policy } = props;
  const path = `/v1/databases/${encode(policy.database)}/policies/${encode(policy.name)}/retention`;
  const { data, problem, isLoading, reload } = useLive(
    () => get<{ verdicts: RetentionVerdict[] }>(path),
    path + policy.etag,
    { concerns: (event) => event.database === policy.database && event.kind.startsWith("backup."), every: () => 60000 },
  );
  return (
    <Dialog title={`What ${policy.name} keeps`} onClose={props.onClose} isWide>
      {!data && <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />}
      {data && data.verdicts.length === 0 && <Empty title="No backup yet">There is nothing to decide about.</Empty>}
      {data && data.verdicts.length > 0 && <Verdicts verdicts={data.verdicts} />}
    </Dialog>
  );
}
