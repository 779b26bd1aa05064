import { expect, test } from "vitest";
import { ago, bytes, count, duration, micros, percent, plural, short, trimZeros } from "./format";

test.each([
  [0, "0"],
  [0.5, "0.5"],
  [1, "1"],
  [9.96, "10.0"],
  [12, "12"],
  [12.34, "12.3"],
  [99.96, "100"],
  [999, "999"],
  [999.6, "1.00 k"],
  [1250, "1.25 k"],
  [12_500, "12.5 k"],
  [999_900, "1.00 M"],
  [27_000_000, "27.0 M"],
  [3.1e9, "3.10 G"],
  [5e12, "5000 G"],
  [null, "–"],
])("%s is shortened to %s", (n, text) => expect(short(n)).toBe(text));

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.00 KiB"],
  [1536, "1.50 KiB"],
  [1024 ** 2, "1.00 MiB"],
  [256 * 1024 ** 2, "256 MiB"],
  [null, "–"],
])("%s bytes are %s", (n, text) => expect(bytes(n)).toBe(text));

test.each([
  [0, "0.0 %"],
  [0.0001, "< 0.1 %"],
  [0.0123, "1.2 %"],
  [0.0999, "10 %"],
  [1, "100 %"],
  [null, "–"],
])("a fraction of %s is %s", (fraction, text) => expect(percent(fraction)).toBe(text));

test.each([
  [0, "0 ms"],
  [450.7, "450 ms"],
  [12_345, "12 s"],
  [60_000, "1 min"],
  [185_000, "3 min 5 s"],
  [7_800_000, "2 h 10 min"],
  [86_400_000 * 4 + 3_600_000 * 3 + 5000, "4 d 3 h"],
  [86_400_000 + 60_000, "1 d"],
])("%s ms last %s", (ms, text) => expect(duration(ms)).toBe(text));

test.each([
  [85, "85 µs"],
  [2412, "2.41 ms"],
  [24_120, "24.1 ms"],
  [1_500_000, "1.50 s"],
])("%s µs are %s", (us, text) => expect(micros(us)).toBe(text));

test.each([
  [null, "never"],
  [999, "now"],
  [61_000, "1 min 1 s ago"],
])("%s ms ago is %s", (ms, text) => expect(ago(ms)).toBe(text));

test("the digits of a count are grouped", () => expect(count(1_234_567)).toBe("1,234,567"));

test.each([
  [0, "0 events"],
  [1, "1 event"],
  [1250, "1,250 events"],
])("%s of the noun `event` is %s", (n, text) => expect(plural(n, "event")).toBe(text));

test.each([
  ["4.00 k", "4 k"],
  ["1.50 KiB", "1.5 KiB"],
  ["0.5", "0.5"],
  ["100", "100"],
  ["10.0 %", "10 %"],
  ["20 %", "20 %"],
])("%s on an axis is %s", (text, trimmed) => expect(trimZeros(text)).toBe(trimmed));
