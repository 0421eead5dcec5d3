// SPDX-License-Identifier: Apache-2.0
// Every backup of every database, newest first.
import { getSome, type Backup } from "../api/client";
import { BackupTable } from "../ui/backup_table";
import { useLive } from "../ui/hooks";
import { Empty, ListPage } from "../ui/parts";

export function BackupsPage() {
  const loaded = useLive(() => getSome<Backup>("/v1/backups?page_size=100", "backups"), "backups", {
    concerns: (event) => event.kind.startsWith("backup."),
    every: (value) => (value?.some((backup) => backup.state === "running") ? 3000 : 15000),
  });
  return (
    <ListPage
      title="Backups"
      loaded={loaded}
      empty={<Empty title="No backup yet">Start one from a database's page.</Empty>}
    >
      {(backups) => <BackupTable backups={backups} withDatabase />}
    </ListPage>
  );
}
