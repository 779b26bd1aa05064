// Tables and panels ask again while they are looked at.
import { useEffect, useState } from "preact/hooks";
import { link, reconnect } from "./live";
import { get, ServerError } from "./server";
import { wait } from "./wait";

interface Answer<T> {
  /** The latest answer; while another page of it is on its way, still the one before. */
  data: T | null;
  /** When it came, in Unix milliseconds. */
  at_ms: number;
  /** The status of a refusal: 404 for what is no longer there. */
  refused: number | null;
}

/**
 * The answer to `path`, asked for every `every_ms`, at once when `path` changes or `again` is called; and not while there is no path, nobody
 * looks, or the server is away.
 */
export function usePolled<T>(
  path: string | null,
  every_ms: number,
): Answer<T> & { again: () => void } {
  const [answer, setAnswer] = useState<Answer<T>>({ data: null, at_ms: 0, refused: null });
  const [round, setRound] = useState(0);
  const live = link.value.state === "live";

  useEffect(() => {
    if (!live || path === null) return;
    const gone = new AbortController();
    const once = async () => {
      try {
        const data = await get<T>(path, gone.signal);
        setAnswer({ data, at_ms: Date.now(), refused: null });
      } catch (error) {
        if (!(error instanceof ServerError) || gone.signal.aborted) return;
        setAnswer((last) => ({ ...last, refused: error.status }));
        // Somebody signed out in another tab, or the server has another token now.
        if (error.status === 401) reconnect();
      }
    };
    const keep = async () => {
      while (!gone.signal.aborted) {
        const from = performance.now();
        if (!document.hidden) await once();
        // A server that needs long for the answer is asked less often.
        await wait(gone.signal, Math.max(every_ms, 20 * (performance.now() - from)));
      }
    };
    void keep();
    return () => gone.abort();
  }, [path, every_ms, live, round]);

  return { ...answer, again: () => setRound((last) => last + 1) };
}
