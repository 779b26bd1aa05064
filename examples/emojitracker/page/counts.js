// The counts: a snapshot, then the stream from exactly that event on.
//
// With history, the snapshot carries the ID of the last roll-up in it, and the stream resumes after
// it, so that no use is missed or counted twice. When the server cannot resume, it sends `gap`, and
// the page takes a new snapshot. Without history, the page opens the stream first and then takes
// the snapshot, which is only approximate.

const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 15_000;

/**
 * Calls `begin(snapshot)` with all counts, then `use(counts)` with each roll-up, and
 * `setState(state)` when the state of the connection changes.
 */
export function follow({ begin, use, setState }) {
  let source = null;
  let wait = FIRST_WAIT_MS;
  start();

  async function start() {
    setState("connecting");
    try {
      const snapshot = await rankings();
      if (!snapshot.history) return listen("subscribe/eps", null);
      // Before the first roll-up there is no ID to resume after, so all retained events are needed.
      const after = snapshot.lastEventId
        ? `lastEventId=${encodeURIComponent(snapshot.lastEventId)}`
        : "replay=all";
      begin(snapshot);
      listen(`subscribe/eps?${after}`, snapshot);
    } catch {
      restart();
    }
  }

  function listen(url, snapshot) {
    const stream = new EventSource(url);
    source = stream;
    let current = snapshot !== null;
    stream.onopen = async () => {
      if (snapshot === null) {
        // Without history, events before the connection was made are missing.
        current = false;
        const now = await rankings().catch(() => null);
        if (source !== stream) return;
        if (now === null) return restart();
        begin(now);
        current = true;
      }
      setState("live");
    };
    stream.onmessage = ({ data }) => {
      wait = FIRST_WAIT_MS;
      if (current) use(JSON.parse(data));
    };
    stream.addEventListener("gap", restart);
    stream.onerror = () => {
      // A browser reconnects by itself unless the server refuses it.
      if (stream.readyState === EventSource.CLOSED) restart();
      else setState("reconnecting");
    };
  }

  function restart() {
    source?.close();
    source = null;
    setState("reconnecting");
    setTimeout(start, wait * (0.5 + Math.random()));
    wait = Math.min(wait * 2, MAX_WAIT_MS);
  }
}

async function rankings() {
  const response = await fetch("rankings");
  if (!response.ok) throw new Error(`rankings: ${response.status}`);
  return response.json();
}
