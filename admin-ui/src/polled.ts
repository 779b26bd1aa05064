// Tables and panels ask again while they are looked at.
import { useEffect, useState } from "preact/hooks";
import { link, reconnect } from "./live";
import { get, ServerError } from "./server";
import { wait } from "./wait";

interface Polled<T> {
  /** The latest answer; while another page of it is on its way, still the one before. */
  data: T | null;
  /** When it came, in Unix milliseconds. */
  at_ms: number;
  /** The status of a refusal: 404 for what is no longer there. */
  errorStatus: number | null;
}

/**
 * The answer to `path`, asked for every `interval_ms`, at once when `path` changes or `refresh` is called; and not while there is no path, nobody
 * looks, or the server is away.
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
        // Somebody signed out in another tab, or the server has another token now.
        if (error.status === 401) reconnect();
      }
    };
    const pollRepeatedly = async () => {
      while (!stop.signal.aborted) {
        const started = performance.now();
        if (!document.hidden) await poll();
        // A server that needs long for the answer is asked less often.
        await wait(stop.signal, Math.max(interval_ms, 20 * (performance.now() - started)));
      }
    };
    void pollRepeatedly();
    return () => stop.abort();
  }, [path, interval_ms, live, refreshes]);

  return { ...polled, refresh: () => setRefreshes((count) => count + 1) };
}
