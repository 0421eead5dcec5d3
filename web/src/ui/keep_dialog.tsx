// SPDX-License-Identifier: Apache-2.0
// Keeping a backup whatever its policy says: a pin, with an end or without, or a legal hold; and ending a hold.
import { useState } from "preact/hooks";
import { post, Problem, type Backup } from "../api/client";
import { Dialog, FormEnd } from "./parts";

export type Keep = "pin" | "hold" | "release";

const WORDS = {
  pin: {
    title: "Pin this backup",
    text: "Retention leaves it alone, and it cannot be deleted, until it is unpinned or the pin ends.",
    button: "Pin",
    note: "Why it is kept.",
  },
  hold: {
    title: "Put this backup on legal hold",
    text: "Nothing deletes it, nor its database, until an administrator releases it.",
    button: "Put on hold",
    note: "Who asked for it and why.",
  },
  release: {
    title: "End the legal hold?",
    text: "Its policy decides about the backup again, unless a pin keeps it.",
    button: "End the hold",
    note: "Who allowed it. It is kept with the event.",
  },
};

// The end of that day where the browser is.
function endOfDay(date: string): string {
  return new Date(`${date}T23:59:59`).toISOString();
}

export function KeepDialog(props: { backup: Backup; keep: Keep; onClose: () => void; onDone: () => void }) {
  const { backup, keep } = props;
  const [date, setDate] = useState("");
  const [note, setNote] = useState("");
  const [problem, setProblem] = useState<Problem>();
  const words = WORDS[keep];
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setProblem(undefined);
    try {
      await post(`/v1/backups/${backup.id}/${keep}`, date ? { note, until: endOfDay(date) } : { note });
      props.onDone();
    } catch (error) {
      setProblem(error as Problem);
    }
  };
  return (
    <Dialog title={words.title} onClose={props.onClose}>
      <form onSubmit={submit} class="form">
        <p>{words.text}</p>
        {keep === "pin" && (
          <label>
            Until the end of
            <input type="date" name="until" value={date} onInput={(event) => setDate(event.currentTarget.value)} />
            <small>Empty: until it is unpinned.</small>
          </label>
        )}
        <label>
          Note
          <input name="note" maxLength={1024} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
          <small>{words.note}</small>
        </label>
        <FormEnd problem={problem} onCancel={props.onClose}>
          <button type="submit" class={keep === "release" ? "danger" : undefined}>
            {words.button}
          </button>
        </FormEnd>
      </form>
    </Dialog>
  );
}
