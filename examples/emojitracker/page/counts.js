// The counts: a snapshot, and from exactly there the stream.
//
// With history, the snapshot bears the id of the last roll-up in it, and the stream resumes after that one: nothing is missed and nothing
// counted twice. When the server no longer has what was missed, it sends `gap`, and all begins anew. Without history, the
// stream is opened first and the snapshot taken then, as near as that comes.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;

/** Calls `begin(snapshot)` with all counts, then `use(counts)` with each roll-up, and `tell(state)` when the connection changes. */
export function follow({ begin, use, tell }) {
  let source = null;
  let wait = FIRST_WAIT_MS;
  start();

  async function start() {
    tell("connecting");
    try {
      const snapshot = await rankings();
      if (!snapshot.history) return listen("subscribe/eps", null);
      // Before the first roll-up there is no id to resume after: all that was kept is all there is.
      const after = snapshot.lastEventId
        ? `lastEventId=${encodeURIComponent(snapshot.lastEventId)}`
        : "replay=all";
      begin(snapshot);
      listen(`subscribe/eps?${after}`, snapshot);
    } catch {
      again();
    }
  }

  function listen(url, snapshot) {
    const stream = new EventSource(url);
    source = stream;
    let current = snapshot !== null;
    stream.onopen = async () => {
      if (snapshot === null) {
        // Without history a new connection has missed something, the first one too.
        current = false;
        const now = await rankings().catch(() => null);
        if (source !== stream) return;
        if (now === null) return again();
        begin(now);
        current = true;
      }
      tell("live");
    };
    stream.onmessage = ({ data }) => {
      wait = FIRST_WAIT_MS;
      if (current) use(JSON.parse(data));
    };
    stream.addEventListener("gap", again);
    stream.onerror = () => {
      // A browser tries again by itself until it is refused.
      if (stream.readyState === EventSource.CLOSED) again();
      else tell("reconnecting");
    };
  }

  function again() {
    source?.close();
    source = null;
    tell("reconnecting");
    setTimeout(start, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

async function rankings() {
  const response = await fetch("rankings");
  if (!response.ok) throw new Error(`rankings: ${response.status}`);
  return response.json();
}
