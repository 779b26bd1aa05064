import { expect, test } from "vitest";
import { type Counters, Meter, rates } from "./rates";

function counters(uptime_ms: number, factor: number, startup_time = 7): Counters {
  return {
    startup_time,
    uptime_ms,
    events: factor,
    deliveries: 10 * factor,
    bytes_sent: 1000 * factor,
    loop: { busy_ms: factor, longest_turn_us: 1 },
  };
}

test("rates use the server's own clock", () => {
  expect(rates(counters(1000, 5), counters(3000, 105))).toEqual({
    events: 50,
    deliveries: 500,
    bytes: 50_000,
    busy: 0.05,
  });
});

test("`busy` is at most 1", () =>
  expect(rates(counters(0, 0), counters(1000, 1700))?.busy).toBe(1));

test.each([
  ["no earlier sample", null, counters(1000, 1)],
  ["the same sample twice", counters(1000, 1), counters(1000, 1)],
  ["a restarted server", counters(9000, 100), counters(1000, 1, 8)],
  ["a server restarted within the same second", counters(9000, 100), counters(9500, 1)],
])("rates are null for %s", (_, before, now) => expect(rates(before, now)).toBeNull());

test("a meter computes the rate of each name", () => {
  const meter = new Meter();
  expect(meter.rate("/a", 10, 1000)).toBeNull();
  expect(meter.rate("/b", 0, 1000)).toBeNull();
  expect(meter.rate("/a", 30, 3000)).toBe(10);
  expect(meter.rate("/a", 30, 3000), "the same sample").toBe(10);
  expect(meter.rate("/a", 31, 3100), "within a second of the last sample").toBe(10);
  expect(meter.rate("/a", 32, 5000)).toBe(1);
  expect(meter.rate("/a", 0, 7000), "the counter was reset").toBeNull();
  expect(meter.rate("/b", 60, 7000)).toBe(10);
});

test("a meter drops the names sampled longest ago", () => {
  const meter = new Meter();
  for (let n = 0; n < 5001; n += 1) meter.rate(`/${n}`, 0, 0);
  expect(meter.rate("/1", 5, 1000)).toBe(5);
  expect(meter.rate("/0", 5, 1000)).toBeNull();
});
