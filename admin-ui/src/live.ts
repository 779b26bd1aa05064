// The line to the server: who is signed in, what it says each second, and coming back when it is lost. Everything else of the page reads
// these signals.
import { effect, signal } from "@preact/signals";
import { History } from "./history";
import { type Rates, rates } from "./rates";
import { errorText, follow, get, post, ServerError, type Session, type Status } from "./server";
import { wait } from "./wait";

export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "sign-in" }
  /** `why` is the server's own reason, when it answered; the next attempt is at `retry_at` (Unix ms). */
  | { state: "lost"; why: string; retry_at: number };

export const link = signal<Link>({ state: "connecting" });
export const session = signal<Session | null>(null);
export const status = signal<Status | null>(null);
export const currentRates = signal<Rates | null>(null);
/** When the latest status came, in Unix milliseconds: changes with each, and so tells that `history` grew. */
export const lastStatusAt = signal(0);
export const history = new History();

/** A server that sends an event a second and then nothing for this long is not there any more. */
const SILENCE_MS = 5000;

let attempt = new AbortController();

/** Ends the present connection or wait, and tries at once. */
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

/** Keeps the line up for as long as the page is there. */
export async function stayConnected() {
  for (let failures = 0; ; ) {
    attempt = new AbortController();
    const { signal } = attempt;
    const statusBefore = lastStatusAt.value;
    let why = "The connection to the server is lost.";
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
      if (error instanceof ServerError) why = errorText(error);
    }
    if (signal.aborted) continue;
    failures = lastStatusAt.value === statusBefore ? failures + 1 : 1;
    await waitBeforeRetry(why, failures, signal);
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

/** Whoever signed out leaves nothing on the screen. */
function clearStatus() {
  status.value = null;
  currentRates.value = null;
}

/** Waits longer each time, and by chance, so that many open pages do not come back to a server all at once. */
async function waitBeforeRetry(why: string, failures: number, signal: AbortSignal) {
  const wait_ms = Math.min(500 * 2 ** failures, 8000) * (0.5 + Math.random() / 2);
  link.value = { state: "lost", why, retry_at: Date.now() + wait_ms };
  await wait(signal, wait_ms);
}

// The title tells from another tab what the page would.
effect(() => {
  const lost = link.value.state === "lost" ? "⚠ " : "";
  document.title = `${lost}${status.value ? `${status.value.node} · ` : ""}fanfare`;
});
