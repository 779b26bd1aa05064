// The connection to the server: signing in, the status once a second, and reconnecting. The rest of
// the page reads these signals.
import { effect, signal } from "@preact/signals";
import { History } from "./history";
import { type Rates, rates } from "./rates";
import { errorText, follow, get, post, ServerError, type Session, type Status } from "./server";
import { retryDelay, wait } from "./wait";

export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "sign-in" }
  /** `message` is the server's error if it answered; the next attempt is at `retryAt` (Unix ms). */
  | { state: "lost"; message: string; retryAt: number };

export const link = signal<Link>({ state: "connecting" });
export const session = signal<Session | null>(null);
export const status = signal<Status | null>(null);
export const currentRates = signal<Rates | null>(null);
/** When the latest status arrived, in Unix milliseconds. It changes whenever `history` grows. */
export const lastStatusAt = signal(0);
export const history = new History();

/** The server sends a status every second; after this long without one it counts as lost. */
const SILENCE_MS = 5000;

let attempt = new AbortController();

/** Ends the current connection or wait, and connects at once. */
export function reconnect() {
  attempt.abort();
}

export async function signIn(token: string) {
  await post("login", { token });
  reconnect();
}

export async function signOut() {
  await post("logout", {});
  reconnect();
}

/** Connects, and reconnects after each failure, for as long as the page is open. */
export async function stayConnected() {
  for (let failures = 0; ; ) {
    attempt = new AbortController();
    const { signal } = attempt;
    const statusBefore = lastStatusAt.value;
    let message = "The connection to the server was lost.";
    try {
      session.value = await get<Session>(
        "session.json",
        AbortSignal.any([signal, AbortSignal.timeout(SILENCE_MS)]),
      );
      if (session.value.login && !session.value.signed_in) {
        clearStatus();
        link.value = { state: "sign-in" };
        await wait(signal);
        continue;
      }
      await follow(
        "events",
        signal,
        (events) => onStatus(JSON.parse(events.at(-1)!.data) as Status),
        SILENCE_MS,
      );
    } catch (error) {
      if (error instanceof ServerError) message = errorText(error);
    }
    if (signal.aborted) continue;
    failures = lastStatusAt.value === statusBefore ? failures + 1 : 1;
    await waitBeforeRetry(message, failures, signal);
  }
}

function onStatus(latest: Status) {
  const at_ms = Date.now();
  currentRates.value = rates(status.value, latest);
  history.push(at_ms / 1000, {
    connections: latest.connections_now,
    events: currentRates.value?.events ?? null,
    deliveries: currentRates.value?.deliveries ?? null,
    bytes: currentRates.value?.bytes ?? null,
    busy: currentRates.value?.busy ?? null,
  });
  status.value = latest;
  lastStatusAt.value = at_ms;
  if (link.value.state !== "live") link.value = { state: "live" };
}

/** Clears the screen after signing out. */
function clearStatus() {
  status.value = null;
  currentRates.value = null;
}

async function waitBeforeRetry(message: string, failures: number, signal: AbortSignal) {
  const wait_ms = retryDelay(failures, Math.random());
  link.value = { state: "lost", message, retryAt: Date.now() + wait_ms };
  await wait(signal, wait_ms);
}

// The title shows the node and a lost connection while another tab is open.
effect(() => {
  const lost = link.value.state === "lost" ? "⚠ " : "";
  document.title = `${lost}${status.value ? `${status.value.node} · ` : ""}fanfare`;
});
