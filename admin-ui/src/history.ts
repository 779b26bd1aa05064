// The last ten minutes, one point per second: the data of the charts and of their table.

/** The length of the history in seconds. */
export const SPAN_S = 600;

/** One value for each line; `null` if it is unknown. */
export type Point = Record<Line, number | null>;
export const LINES = ["connections", "events", "deliveries", "bytes", "busy"] as const;
export type Line = (typeof LINES)[number];

const unknown: Point = {
  connections: null,
  events: null,
  deliveries: null,
  bytes: null,
  busy: null,
};

export class History {
  /** Unix seconds, ascending. */
  readonly times: number[] = [];
  private points: Point[] = [];

  /**
   * Adds the point at `at_s`, in Unix seconds. A point that is not newer than the last one is
   * ignored. After more than three seconds without a point, the lines have a break.
   */
  push(at_s: number, point: Point) {
    const last = this.times.at(-1);
    if (last !== undefined && at_s <= last) return;
    if (last !== undefined && at_s - last > 3) this.append(last + 1, unknown);
    this.append(at_s, point);
    while (this.times[0]! < at_s - SPAN_S) {
      this.times.shift();
      this.points.shift();
    }
  }

  private append(at_s: number, point: Point) {
    this.times.push(at_s);
    this.points.push(point);
  }

  /** The values of one line, in the order of `times`. */
  values(line: Line): (number | null)[] {
    return this.points.map((point) => point[line]);
  }

  /** Minimum, mean and maximum of the known values of one line. */
  summary(line: Line): { min: number; mean: number; max: number } | null {
    return summary(this.values(line));
  }

  /** The mean of each line per minute, latest minute first. */
  minutes(): { at_s: number; means: Point }[] {
    const byMinute = new Map<number, Point[]>();
    this.times.forEach((time, index) => {
      const at_s = Math.floor(time / 60) * 60;
      byMinute.set(at_s, [...(byMinute.get(at_s) ?? []), this.points[index]!]);
    });
    return [...byMinute].reverse().map(([at_s, points]) => {
      const means = { ...unknown };
      for (const line of LINES)
        means[line] = summary(points.map((point) => point[line]))?.mean ?? null;
      return { at_s, means };
    });
  }
}

function summary(values: (number | null)[]) {
  const known = values.filter((value) => value !== null);
  if (!known.length) return null;
  const sum = known.reduce((sum, value) => sum + value, 0);
  return { min: Math.min(...known), mean: sum / known.length, max: Math.max(...known) };
}
