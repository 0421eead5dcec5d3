// SPDX-License-Identifier: Apache-2.0
// The REST interface, typed by the OpenAPI document. The token stays in this browser.
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Database = Schemas["Database"];
export type Shard = Schemas["Shard"];
export type Policy = Schemas["Policy"];
export type Backup = Schemas["Backup"];
export type ShardBackup = Schemas["ShardBackup"];
export type Attempt = Schemas["Attempt"];
export type Restore = Schemas["Restore"];
export type Instance = Schemas["Instance"];
export type Event = Schemas["Event"];
export type RetentionVerdict = Schemas["RetentionVerdict"];
export type Repository = Schemas["Repository"];
export type RepositoryDatabase = Schemas["RepositoryDatabase"];
export type ObjectStore = Schemas["ObjectStore"];
export type FleetLimits = Schemas["FleetLimits"];

const TOKEN_KEY = "holdfast-token";

// What the server says went wrong, with what to do about it.
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
    readonly hint: string,
    readonly field: string,
  ) {
    super(message);
  }
}

const signedOutListeners = new Set<() => void>();

export const session = {
  token: (): string => localStorage.getItem(TOKEN_KEY) ?? "",
  signIn: (token: string): void => localStorage.setItem(TOKEN_KEY, token),
  signOut(): void {
    localStorage.removeItem(TOKEN_KEY);
    signedOutListeners.forEach((listener) => listener());
  },
  onSignedOut(listener: () => void): () => void {
    signedOutListeners.add(listener);
    return () => signedOutListeners.delete(listener);
  },
};

async function problemOf(response: Response): Promise<Problem> {
  try {
    const body = (await response.json()) as Record<string, string>;
    return new Problem(
      response.status,
      (body.type ?? "").split(":").pop() ?? "",
      body.detail ?? body.title ?? response.statusText,
      body.hint ?? "",
      body.field ?? "",
    );
  } catch {
    return new Problem(response.status, "", `The server answered ${response.status}.`, "", "");
  }
}

async function send(method: string, path: string, body?: unknown, etag?: string): Promise<Response> {
  const headers: Record<string, string> = { Authorization: `Bearer ${session.token()}` };
  if (etag !== undefined) headers["If-Match"] = etag;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method === "POST") headers["Idempotency-Key"] = crypto.getRandomValues(new Uint32Array(4)).join("-");
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem(0, "unreachable", "The server cannot be reached.", "It is asked again by itself.", "");
  }
  if (response.status === 401 && path !== "/v1/server") session.signOut();
  if (!response.ok) throw await problemOf(response);
  return response;
}

export async function get<T>(path: string): Promise<T> {
  return (await (await send("GET", path)).json()) as T;
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  return (await (await send("POST", path, body)).json()) as T;
}

// Refused when it is not of that etag any more: somebody was faster.
export async function patch<T>(path: string, etag: string, body: unknown): Promise<T> {
  return (await (await send("PATCH", path, body, etag)).json()) as T;
}

export async function remove(path: string): Promise<void> {
  await send("DELETE", path);
}

// Reads one page of a list.
export async function getSome<T>(path: string, key: string): Promise<T[]> {
  return ((await get<Record<string, unknown>>(path))[key] as T[]) ?? [];
}

// Reads every page of a list.
export async function getAll<T>(path: string, key: string): Promise<T[]> {
  const all: T[] = [];
  let token = "";
  do {
    const separator = path.includes("?") ? "&" : "?";
    const page = await get<Record<string, unknown>>(
      `${path}${separator}page_size=500${token ? `&page_token=${encodeURIComponent(token)}` : ""}`,
    );
    all.push(...((page[key] as T[]) ?? []));
    token = (page.next_page_token as string) ?? "";
  } while (token && all.length < 20000);
  return all;
}

export const name = encodeURIComponent;

// Without a policy the server does not know where to; when there is only one repository, there is nothing to ask.
export async function startBackup(database: string): Promise<Backup> {
  const path = `/v1/databases/${name(database)}/backups`;
  const policies = await get<{ policies: Policy[] }>(`/v1/databases/${name(database)}/policies?page_size=1`);
  if (policies.policies.length > 0) return post<Backup>(path);
  const { repositories } = await get<{ repositories: Repository[] }>("/v1/repositories?page_size=2");
  return post<Backup>(path, repositories.length === 1 ? { repository: repositories[0]!.name } : {});
}
