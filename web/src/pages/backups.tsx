// SPDX-License-Identifier: Apache-2.0
// Every backup of every database, newest first.
import { get, type Backup } from "../api/client";
import { BackupTable } from "../ui/backup_table";
import { useLive, usePageTitle } from "../ui/hooks";
import { Card, Empty, Waiting } from "../ui/parts";

export function BackupsPage() {
  usePageTitle("Backups");
  const { data, problem, isLoading, reload } = useLive(
    () => get<{ backups: Backup[] }>("/v1/backups?page_size=100"),
    "backups",
    {
      concerns: (event) => event.kind.startsWith("backup."),
      every: (value) => (value?.backups.some((backup) => backup.state === "running") ? 3000 : 15000),
    },
  );
  return (
    <>
      <div class="head">
        <h1>Backups</h1>
      </div>
      {!data && <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />}
      {data && (
        <Card>
          {data.backups.length === 0 ? (
            <Empty title="No backup yet">Start one from a database's page.</Empty>
          ) : (
            <BackupTable backups={data.backups} withDatabase />
          )}
        </Card>
      )}
    </>
  );
}
