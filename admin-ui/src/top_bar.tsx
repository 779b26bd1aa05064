// The bar at the top with the server's name and state, and the banner for a lost connection.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { duration } from "./format";
import { link, reconnect, session, signOut, status } from "./live";

export function TopBar() {
  const server = status.value;
  return (
    <header class="bar">
      <h1>
        <img src="./icon.svg" alt="" width="28" height="28" /> fanfare
      </h1>
      {server && (
        <dl class="facts">
          <div>
            <dt class="hidden">State</dt>
            <dd>
              <State />
            </dd>
          </div>
          <div>
            <dt>Node</dt>
            <dd>{server.node}</dd>
          </div>
          <div>
            <dt>Version</dt>
            <dd>{server.version}</dd>
          </div>
          <div>
            <dt>Uptime</dt>
            <dd>{duration(Math.max(1000, server.uptime_ms))}</dd>
          </div>
        </dl>
      )}
      {session.value?.login && session.value.signed_in && (
        <button type="button" onClick={() => void signOut().catch(reconnect)}>
          Sign out
        </button>
      )}
    </header>
  );
}

function State() {
  if (link.value.state !== "live") return <span class="state lost">Not connected</span>;
  return status.value?.state === "draining" ? (
    <span class="state draining">Draining</span>
  ) : (
    <span class="state serving">Serving</span>
  );
}

/** Overlays the page, so that nothing moves when it appears or disappears. */
export function LostBanner() {
  const lost = link.value.state === "lost" ? link.value : null;
  return (
    <div class="lost-banner" role="alert">
      {lost && (
        <div>
          <strong>{lost.message}</strong> <Countdown until={lost.retryAt} />{" "}
          <button type="button" onClick={reconnect}>
            Retry now
          </button>
        </div>
      )}
    </div>
  );
}

function Countdown({ until }: { until: number }) {
  const now = useSignal(Date.now());
  useEffect(() => {
    const timer = setInterval(() => {
      now.value = Date.now();
    }, 250);
    return () => clearInterval(timer);
  }, []);
  const left_s = Math.ceil((until - now.value) / 1000);
  // Hidden from screen readers, which would read it out every second.
  return (
    <span class="countdown" aria-hidden="true">
      {left_s > 0 ? `Retrying in ${left_s} s.` : "Retrying …"}
    </span>
  );
}
