// SPDX-License-Identifier: Apache-2.0
// What happens, as it happens.
import { useEffect, useState } from "preact/hooks";
import { get, type Event } from "../api/client";
import { onEvent } from "../api/events";
import { EventList } from "../ui/event_list";
import { useLive, usePageTitle } from "../ui/hooks";
import { Card, Waiting } from "../ui/parts";

const SHOWN_MAX = 300;
const PHASES = "phases"; // everything, and each step of each shard besides

export function ActivityPage() {
  usePageTitle("Activity");
  const [severity, setSeverity] = useState("");
  const { data, problem, isLoading, reload } = useLive(
    () =>
      get<{ events: Event[] }>(
        `/v1/events?page_size=${SHOWN_MAX}${severity && severity !== PHASES ? `&minimum_severity=${severity}` : ""}`,
      ),
    `activity${severity}`,
    { concerns: () => false, every: () => 60000 },
  );
  const [fresh, setFresh] = useState<Event[]>([]);
  useEffect(() => onEvent((event) => setFresh((before) => [event, ...before].slice(0, SHOWN_MAX))), []);

  const known = new Set(data?.events.map((event) => event.id));
  const passes = (event: Event): boolean =>
    severity === PHASES ||
    (!severity && event.kind !== "shard_backup.phase") ||
    event.severity === "error" ||
    (severity === "warning" && event.severity === "warning");
  const events = [...fresh.filter((event) => !known.has(event.id)), ...(data?.events ?? [])]
    .filter(passes)
    .slice(0, SHOWN_MAX);
  return (
    <>
      <div class="head">
        <h1>Activity</h1>
        <span class="spacer" />
        <label>
          Show{" "}
          <select value={severity} onChange={(event) => setSeverity(event.currentTarget.value)}>
            <option value="">what happened</option>
            <option value={PHASES}>every step of every shard</option>
            <option value="warning">warnings and errors</option>
            <option value="error">errors</option>
          </select>
        </label>
      </div>
      {!data && <Waiting isLoading={isLoading} problem={problem} onRetry={reload} />}
      {data && (
        <Card>
          <EventList events={events} withDatabase />
        </Card>
      )}
    </>
  );
}
