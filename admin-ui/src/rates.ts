// Rates from counters. Only counters come over the wire, so that any number of pages, each with a beat of its own, get true rates.
import type { Status } from "./server";

export type Counters = Pick<
  Status,
  "startup_time" | "uptime_ms" | "events" | "deliveries" | "bytes_sent" | "loop"
>;

/** What happened per second between two looks; `busy` is a share of one. */
export interface Rates {
  events: number;
  deliveries: number;
  bytes: number;
  busy: number;
}

/** `null` when the two looks are not of the same run of the server, or are at the same time. */
export function rates(before: Counters | null, now: Counters): Rates | null {
  if (
    !before ||
    before.startup_time !== now.startup_time ||
    now.uptime_ms <= before.uptime_ms ||
    now.events < before.events
  )
    return null;
  const ms = now.uptime_ms - before.uptime_ms;
  return {
    events: ((now.events - before.events) * 1000) / ms,
    deliveries: ((now.deliveries - before.deliveries) * 1000) / ms,
    bytes: ((now.bytes_sent - before.bytes_sent) * 1000) / ms,
    // Time spent in a turn that has not ended when the server is asked counts for the next second.
    busy: Math.min(1, (now.loop.busy_ms - before.loop.busy_ms) / ms),
  };
}

/** Rates of many counters by name, each from when it was last looked at. */
export class Meter {
  private samples = new Map<string, { count: number; at_ms: number; rate: number | null }>();

  /** The rate of a counter that is `count` at `at_ms`. Looks less than a second apart give the rate of the first of them. */
  rate(name: string, count: number, at_ms: number): number | null {
    const last = this.samples.get(name);
    if (last && at_ms - last.at_ms < 1000 && count >= last.count) return last.rate;
    const rate =
      last && count >= last.count ? ((count - last.count) * 1000) / (at_ms - last.at_ms) : null;
    // Names come and go; those no longer looked at are forgotten, the oldest first.
    this.samples.delete(name);
    this.samples.set(name, { count, at_ms, rate });
    if (this.samples.size > 5000) this.samples.delete(this.samples.keys().next().value!);
    return rate;
  }
}
