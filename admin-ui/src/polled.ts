// Polling for tables and panels.
import { useEffect, useState } from "preact/hooks";
import { link, reconnect } from "./live";
import { get, ServerError } from "./server";
import { wait } from "./wait";

interface Polled<T> {
  /** The latest answer. It stays until the answer to a new path arrives. */
  data: T | null;
  /** When the answer arrived, in Unix milliseconds. */
  at_ms: number;
  /** The HTTP status of the latest answer if that was an error, such as 404. */
  errorStatus: number | null;
}

/**
 * Requests `path` every `interval_ms`, and at once when `path` changes or `refresh` is called.
 * Pauses while `path` is null, the browser tab is hidden, or the server is not connected.
 */
export function usePolled<T>(
  path: string | null,
  interval_ms: number,
): Polled<T> & { refresh: () => void } {
  const [polled, setPolled] = useState<Polled<T>>({ data: null, at_ms: 0, errorStatus: null });
  const [refreshes, setRefreshes] = useState(0);
  const live = link.value.state === "live";

  useEffect(() => {
    if (!live || path === null) return;
    const stop = new AbortController();
    const poll = async () => {
      try {
        const data = await get<T>(path, stop.signal);
        setPolled({ data, at_ms: Date.now(), errorStatus: null });
      } catch (error) {
        if (!(error instanceof ServerError) || stop.signal.aborted) return;
        setPolled((last) => ({ ...last, errorStatus: error.status }));
        // The user signed out in another tab, or the admin token has changed.
        if (error.status === 401) reconnect();
      }
    };
    const pollRepeatedly = async () => {
      while (!stop.signal.aborted) {
        const started = performance.now();
        if (!document.hidden) await poll();
        // Wait longer if the server is slow to answer.
        await wait(stop.signal, Math.max(interval_ms, 20 * (performance.now() - started)));
      }
    };
    void pollRepeatedly();
    return () => stop.abort();
  }, [path, interval_ms, live, refreshes]);

  return { ...polled, refresh: () => setRefreshes((count) => count + 1) };
}
