// SPDX-License-Identifier: Apache-2.0
// Events, newest first.
import type { Event } from "../api/client";
import { absolute, clock, sentence } from "./format";
import { Link } from "./parts";

export function EventList(props: { events: Event[]; withDatabase?: boolean }) {
  if (props.events.length === 0) return <p class="muted pad">Nothing yet.</p>;
  return (
    <ol class="events">
      {props.events.map((event) => (
        <li key={event.id} class={event.severity}>
          <time dateTime={event.time} title={absolute(event.time)}>
            {clock(event.time)}
          </time>
          <span class="kind">{event.kind}</span>
          {props.withDatabase && event.database && (
            <Link to={`databases/${encodeURIComponent(event.database)}`}>{event.database}</Link>
          )}
          {event.shard && <code>{event.shard}</code>}
          <span class="message">{sentence(event.message)}</span>
          {props.withDatabase && event.backup_id && <Link to={`backups/${event.backup_id}`}>backup</Link>}
        </li>
      ))}
    </ol>
  );
}
