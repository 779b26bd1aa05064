// Rates computed from counters. The server sends only counters, so every page computes correct
// rates at its own polling interval.
import type { Status } from "./server";

export type Counters = Pick<
  Status,
  "startup_time" | "uptime_ms" | "events" | "deliveries" | "bytes_sent" | "loop"
>;

/** Rates per second between two samples; `busy` is a fraction from 0 to 1. */
export interface Rates {
  events: number;
  deliveries: number;
  bytes: number;
  busy: number;
}

/** The rates between two samples; `null` if the server restarted or no time passed between them. */
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
    // A turn counts when it ends, so one that began before the interval can make this exceed 1.
    busy: Math.min(1, (now.loop.busy_ms - before.loop.busy_ms) / ms),
  };
}

/** Computes the rates of named counters, each from its last two samples. */
export class Meter {
  private samples = new Map<string, { count: number; at_ms: number; rate: number | null }>();

  /**
   * Adds a sample and returns the rate per second; `null` for the first sample and after a reset.
   * A sample less than a second after the last one is ignored, and the last rate is returned.
   */
  rate(name: string, count: number, at_ms: number): number | null {
    const last = this.samples.get(name);
    if (last && at_ms - last.at_ms < 1000 && count >= last.count) return last.rate;
    const rate =
      last && count >= last.count ? ((count - last.count) * 1000) / (at_ms - last.at_ms) : null;
    // Keep the most recently sampled names; a Map iterates in insertion order.
    this.samples.delete(name);
    this.samples.set(name, { count, at_ms, rate });
    if (this.samples.size > 5000) this.samples.delete(this.samples.keys().next().value!);
    return rate;
  }
}
