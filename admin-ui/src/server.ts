// The server's JSON types, and the only calls of `fetch`. All URLs are relative, so that the page
// works behind any path prefix.
import { Decoder, type StreamEvent } from "./decoder";

/** One event stream. Times without a unit in their name are Unix seconds. */
export interface Connection {
  id: number;
  namespace: string;
  /** All its namespaces; `namespace` is the first. */
  namespaces: string[];
  request_path: string;
  created_at: number;
  connected_ms: number;
  client_ip: string;
  user_agent: string;
  msgs_sent: number;
  bytes_sent: number;
  /** Bytes of its events that are not yet written to its socket. */
  lag: number;
  /** Milliseconds since the last write to it. */
  last_write_ms: number | null;
}

export interface NamespaceRow {
  namespace: string;
  subscribers: number;
  /** Subscribers of this namespace and of all namespaces below it. */
  subscribers_below: number;
  events: number;
  retained_events: number;
  retained_bytes: number;
  /** Unix milliseconds. */
  last_event_at: number | null;
  /** The number of namespaces in use directly below it. */
  children: number;
}

/** The counters and gauges that the server sends once a second. */
export interface Status {
  node: string;
  version: string;
  state: "serving" | "draining";
  warnings: string[];
  startup_time: number;
  uptime_ms: number;
  connections_now: number;
  connections_peak: number;
  connections_total: number;
  subscribers: number;
  events: number;
  deliveries: number;
  bytes_sent: number;
  queue_events: number;
  queue_bytes: number;
  namespaces: number;
  retained_events: number;
  retained_bytes: number;
  retained_limit: number;
  disconnects: Record<string, number>;
  loop: { busy_ms: number; longest_turn_us: number };
}

/** The fields common to all pages of a table. */
export interface Page {
  total: number;
  matched: number;
  limit: number;
  offset: number;
}

export type Connections = Page & { connections: Connection[] };

/** `at` is the row of the namespace given as `under`. */
export type Namespaces = Page & { namespaces: NamespaceRow[]; at?: NamespaceRow };

export interface Session {
  /** Whether an admin token is set. */
  login: boolean;
  signed_in: boolean;
  /** Whether this page can publish; `elsewhere` is another address of the same server. */
  publish: "open" | "token" | "closed" | "elsewhere";
}

/** An answer with an error status. */
export class ServerError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** The message to show for an error. */
export function errorText(error: unknown): string {
  return error instanceof ServerError ? error.message : "The server cannot be reached.";
}

async function checkStatus(reply: Response): Promise<Response> {
  if (reply.ok) return reply;
  const body = (await reply.json().catch(() => null)) as { error?: unknown } | null;
  throw new ServerError(
    reply.status,
    typeof body?.error === "string" ? body.error : `The server answered ${reply.status}.`,
  );
}

export async function get<T>(path: string, signal: AbortSignal | null = null): Promise<T> {
  return (await checkStatus(await fetch(path, { signal, cache: "no-store" }))).json() as Promise<T>;
}

/** Posts JSON. The result of an answer without a body is `undefined`. */
export async function post<T>(path: string, body: object, token = ""): Promise<T> {
  const headers: Record<string, string> = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const reply = await checkStatus(
    await fetch(path, { method: "POST", headers, body: JSON.stringify(body) }),
  );
  return reply.status === 204 ? (undefined as T) : (reply.json() as Promise<T>);
}

/**
 * Reads an event stream until it ends. Uses `fetch` because an `EventSource` hides the status and
 * the error, and delivers only event types known beforehand. A stream that is silent for
 * `silence_ms` counts as broken; 0 waits without a limit.
 */
export async function follow(
  path: string,
  signal: AbortSignal,
  onEvents: (events: StreamEvent[]) => void,
  silence_ms = 0,
  onOpen = () => {},
): Promise<void> {
  const broken = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const resetTimer = () => {
    clearTimeout(timer);
    if (silence_ms) timer = setTimeout(() => broken.abort(), silence_ms);
  };
  try {
    resetTimer();
    const reply = await fetch(path, {
      signal: AbortSignal.any([signal, broken.signal]),
      cache: "no-store",
      headers: { Accept: "text/event-stream" },
    });
    const body = (await checkStatus(reply)).body;
    if (!body) return;
    onOpen();
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const decoder = new Decoder();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      resetTimer();
      const events = decoder.push(read.value);
      if (events.length) onEvents(events);
    }
  } finally {
    clearTimeout(timer);
  }
}
