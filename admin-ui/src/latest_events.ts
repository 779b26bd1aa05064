// The latest events of a followed stream.
import type { StreamEvent } from "./decoder";

export interface NumberedEvent extends StreamEvent {
  /** Its number in the stream, counted from 1. */
  number: number;
  /** When it arrived, in Unix milliseconds. */
  at_ms: number;
}

export class LatestEvents {
  /** `events` are the latest ones, oldest first; `total` counts all events of the stream. */
  constructor(
    private readonly limit: number,
    readonly events: readonly NumberedEvent[] = [],
    readonly total = 0,
  ) {}

  /** This list with events that arrived at `at_ms`; at most `limit` events are kept. */
  with(added: readonly StreamEvent[], at_ms: number): LatestEvents {
    const total = this.total + added.length;
    const kept = added.slice(-this.limit);
    const first = total - kept.length + 1;
    const numbered = kept.map((event, index) => ({ ...event, at_ms, number: first + index }));
    const events = [...this.events, ...numbered].slice(-this.limit);
    return new LatestEvents(this.limit, events, total);
  }
}
