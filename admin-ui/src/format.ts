// Numbers and times as people read them. Figures that change each second keep to few digits, so that they can be read at all.

const grouped = new Intl.NumberFormat("en");

/** 1,234,567 */
export function count(n: number): string {
  return grouped.format(n);
}

/** Three digits and a unit; the units are `step` apart. */
function scaled(n: number, step: number, units: string[]): string {
  let unit = 0;
  // What would be rounded up to the next unit is written in it.
  while (unit < units.length - 1 && n >= step * 0.9995) {
    n /= step;
    unit += 1;
  }
  const digits =
    n >= 99.95 || n === 0 || (unit === 0 && Number.isInteger(n))
      ? 0
      : n >= 9.995
        ? 1
        : unit === 0
          ? 1
          : 2;
  return `${n.toFixed(digits)} ${units[unit]}`.trimEnd();
}

/** 0.5, 12, 1.25 k, 3.10 M; a dash for what is not known. */
export function short(n: number | null): string {
  return n === null ? "–" : scaled(n, 1000, ["", "k", "M", "G"]);
}

/** 512 B, 1.50 KiB, 12.0 MiB */
export function bytes(n: number | null): string {
  return n === null ? "–" : scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

/** 0.3 %; more than nothing is never shown as nothing. */
export function share(part: number | null): string {
  if (part === null) return "–";
  if (part > 0 && part < 0.0005) return "< 0.1 %";
  return `${(part * 100).toFixed(part < 0.0995 ? 1 : 0)} %`;
}

/** 450 ms, 12 s, 3 min 5 s, 2 h 10 min, 4 d 3 h: two units at the most. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.floor(ms)} ms`;
  const seconds = Math.floor(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  return parts
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(" ");
}

/** A length of time in microseconds: 85 µs, 2.40 ms. */
export function micros(us: number): string {
  return us < 1000
    ? `${Math.round(us)} µs`
    : us < 1_000_000
      ? `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`
      : `${(us / 1_000_000).toFixed(2)} s`;
}

/** How long ago: now, 12 s ago. */
export function ago(ms: number | null): string {
  return ms === null ? "never" : ms < 1000 ? "now" : `${duration(ms)} ago`;
}

const hours = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** 14:03 of Unix milliseconds, in the time zone of whoever looks. */
export const minute = (at_ms: number) => hours.format(at_ms);

/** 14:03:22 */
export const clock = (at_ms: number) => seconds.format(at_ms);

/** 21 Nov 2026, 14:03:22 */
export const date = (at_ms: number) => days.format(at_ms);
