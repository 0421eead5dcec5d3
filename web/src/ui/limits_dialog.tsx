// SPDX-License-Identifier: Apache-2.0
// What may be used of bandwidth, processors and memory: in words, and changing it.
import { useState } from "preact/hooks";
import { Problem } from "../api/client";
import { bytes } from "./format";
import { Dialog, FormEnd } from "./parts";

const MIB = 1024 * 1024;

// Those of a run have all four, those of a repository and of the fleet only the bandwidth. 0: none.
export interface Limits {
  upload_bytes_per_second?: number;
  download_bytes_per_second?: number;
  cpu_count?: number;
  memory_bytes?: number;
}

const FIELDS = [
  { key: "upload_bytes_per_second", label: "Upload, MiB a second", unit: MIB, min: 0.0625, step: "any" },
  { key: "download_bytes_per_second", label: "Download, MiB a second", unit: MIB, min: 0.0625, step: "any" },
  { key: "cpu_count", label: "Processors of each instance", unit: 1, min: 1, step: 1 },
  { key: "memory_bytes", label: "Memory of each instance, MiB", unit: MIB, min: 64, step: "any" },
] as const;
const BANDWIDTH_FIELDS = FIELDS.slice(0, 2);

// "at most 20.0 MiB/s up, 1 processor each", or "" without any.
export function limitsText(limits: Limits | undefined): string {
  const { upload_bytes_per_second: upload, download_bytes_per_second: download } = limits ?? {};
  const { cpu_count: cpus, memory_bytes: memory } = limits ?? {};
  const parts = [
    upload ? `${bytes(upload)}/s up` : "",
    download ? `${bytes(download)}/s down` : "",
    cpus ? `${cpus} ${cpus === 1 ? "processor" : "processors"} each` : "",
    memory ? `${bytes(memory)} of memory each` : "",
  ].filter((part) => part !== "");
  return parts.length === 0 ? "" : `at most ${parts.join(", ")}`;
}

// What the server says of it is for programs.
function explained(problem: Problem): Problem {
  if (problem.reason !== "etag-mismatch") return problem;
  return new Problem(
    problem.status,
    problem.reason,
    "They were changed by somebody else meanwhile",
    "Nothing was set. Close this and open it again to see what they are now.",
    "",
  );
}

interface LimitsProps {
  title: string;
  text: string; // whom they hold for, and what an empty field means
  isOfRun?: boolean;
  limits: Limits | undefined;
  save: (limits: Limits) => Promise<unknown>;
  onDone: () => void;
}

function LimitsDialog(props: LimitsProps & { onClose: () => void }) {
  const fields = props.isOfRun ? FIELDS : BANDWIDTH_FIELDS;
  const [texts, setTexts] = useState<Record<string, string>>(() =>
    Object.fromEntries(fields.map(({ key, unit }) => [key, props.limits?.[key] ? `${props.limits[key] / unit}` : ""])),
  );
  const [save] = useState(() => props.save); // of what was read when the dialog opened: refused when it changed since
  const [problem, setProblem] = useState<Problem>();
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    setProblem(undefined);
    try {
      await save(Object.fromEntries(fields.map(({ key, unit }) => [key, Math.round(Number(texts[key]) * unit)])));
      props.onDone();
    } catch (error) {
      setProblem(explained(error as Problem));
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form onSubmit={submit} class="form">
        <p>
          {props.text} A change reaches what is running within seconds
          {props.isOfRun ? "; memory is for what starts later." : "."}
        </p>
        {fields.map(({ key, label, min, step }) => (
          <label key={key}>
            {label}
            <input
              type="number"
              name={key}
              min={min}
              step={step}
              value={texts[key]}
              onInput={(event) => setTexts({ ...texts, [key]: event.currentTarget.value })}
            />
          </label>
        ))}
        <FormEnd problem={problem} onCancel={props.onClose}>
          <button type="submit">Set the limits</button>
        </FormEnd>
      </form>
    </Dialog>
  );
}

export function LimitsButton(props: LimitsProps) {
  const [isOpen, setOpen] = useState(false);
  const done = (): void => {
    setOpen(false);
    props.onDone();
  };
  return (
    <>
      <button class="quiet" onClick={() => setOpen(true)}>
        Limits
      </button>
      {isOpen && <LimitsDialog {...props} onClose={() => setOpen(false)} onDone={done} />}
    </>
  );
}
