// Formats numbers and times for people. Numbers that change every second have few digits, so that
// they stay readable.

const groupedDigits = new Intl.NumberFormat("en");

/** Groups digits: 1,234,567. */
export function count(n: number): string {
  return groupedDigits.format(n);
}

/** A count and its noun: 1 event, 1,250 events. */
export function plural(n: number, noun: string): string {
  return `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
}

/** Three significant digits and a unit; each unit is `step` times the one before it. */
function scaled(n: number, step: number, units: string[]): string {
  let unit = 0;
  // A value that rounds up to the next unit is shown in that unit.
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

/** 0.5, 12, 1.25 k, 3.10 M; a dash for an unknown value. */
export function short(n: number | null): string {
  return n === null ? "–" : scaled(n, 1000, ["", "k", "M", "G"]);
}

/** 512 B, 1.50 KiB, 12.0 MiB; a dash for an unknown value. */
export function bytes(n: number | null): string {
  return n === null ? "–" : scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

/** A fraction as a percentage: 0.3 %. Only zero is shown as 0.0 %. */
export function percent(fraction: number | null): string {
  if (fraction === null) return "–";
  if (fraction > 0 && fraction < 0.0005) return "< 0.1 %";
  return `${(fraction * 100).toFixed(fraction < 0.0995 ? 1 : 0)} %`;
}

/** 450 ms, 12 s, 3 min 5 s, 2 h 10 min, 4 d 3 h: at most two units. */
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

/** A duration in microseconds: 85 µs, 2.40 ms. */
export function micros(us: number): string {
  return us < 1000
    ? `${Math.round(us)} µs`
    : us < 1_000_000
      ? `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`
      : `${(us / 1_000_000).toFixed(2)} s`;
}

/** A time in the past, given its age: now, 12 s ago; never if it is null. */
export function ago(ms: number | null): string {
  return ms === null ? "never" : ms < 1000 ? "now" : `${duration(ms)} ago`;
}

const hourFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const secondFormat = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const dateFormat = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** The time of Unix milliseconds in the browser's time zone: 14:03. */
export const minute = (at_ms: number) => hourFormat.format(at_ms);

/** The same with seconds: 14:03:22. */
export const clock = (at_ms: number) => secondFormat.format(at_ms);

/** Date and time: 21 Nov 2026, 14:03:22. */
export const date = (at_ms: number) => dateFormat.format(at_ms);

/** Removes trailing zeros of a formatted fraction, for the steps of an axis: 4.00 k is 4 k. */
export function trimZeros(text: string): string {
  return text.replace(/\.0+(?= |$)/, "").replace(/(\.\d*[1-9])0+(?= |$)/, "$1");
}
