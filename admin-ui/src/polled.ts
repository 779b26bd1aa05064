// Tables and panels ask again while they are looked at.
import { useEffect, useRef, useState } from "preact/hooks";
import { link, reconnect } from "./live";
import { ServerError, get } from "./server";

export interface Polled<T> {
  /** The latest answer; while another page of it is on its way, still the one before. */
  data: T | null;
  /** When it came, in Unix milliseconds. */
  at_ms: number;
  /** The status of a refusal: 404 for what is no longer there. */
  refused: number | null;
  /** Asks at once. */
  again: () => void;
}

/** The answer to `path`, asked for every `every_ms`, at once when `path` changes, and not while nobody looks or the server is away. */
export function usePolled<T>(path: string, every_ms: number): Polled<T> {
  const [answer, setAnswer] = useState<{ data: T | null; at_ms: number; refused: number | null }>({ data: null, at_ms: 0, refused: null });
  const ask = useRef(() => {});
  const live = link.value.state === "live";

  useEffect(() => {
    if (!live) return;
    const gone = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    let asking: AbortController | undefined;
    const once = async () => {
      clearTimeout(timer);
      asking?.abort();
      const mine = asking = new AbortController();
      const from = performance.now();
      try {
        if (!document.hidden) {
          const data = await get<T>(path, AbortSignal.any([gone.signal, mine.signal]));
          setAnswer({ data, at_ms: Date.now(), refused: null });
        }
      } catch (error) {
        if (gone.signal.aborted || mine.signal.aborted) return;
        if (error instanceof ServerError) setAnswer((last) => ({ ...last, refused: error.status }));
        // Somebody signed out in another tab, or the server has another token now.
        if (error instanceof ServerError && error.status === 401) reconnect();
      }
      if (mine.signal.aborted || gone.signal.aborted) return;
      // A server that needs long for the answer is asked less often.
      timer = setTimeout(once, Math.max(every_ms, 20 * (performance.now() - from)));
    };
    const shown = () => { if (!document.hidden) void once(); };
    ask.current = () => void once();
    document.addEventListener("visibilitychange", shown);
    void once();
    return () => {
      gone.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
    };
  }, [path, every_ms, live]);

  return { ...answer, again: () => ask.current() };
}
