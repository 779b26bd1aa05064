import { expect, test } from "vitest";
import { History, type Point, SPAN_S } from "./history";

const point = (events: number | null): Point => ({
  connections: 1,
  events,
  deliveries: 0,
  bytes: 0,
  busy: 0,
});

test("the history keeps ten minutes", () => {
  const history = new History();
  for (let at_s = 0; at_s <= 1000; at_s += 1) history.push(at_s, point(at_s));
  expect(history.times.length).toBe(SPAN_S + 1);
  expect([history.times[0], history.times.at(-1)]).toEqual([400, 1000]);
  expect(history.values("events")[0]).toBe(400);
});

test("a line breaks where points are missing, and older points are ignored", () => {
  const history = new History();
  history.push(10, point(1));
  history.push(11, point(2));
  history.push(20, point(3));
  history.push(19, point(4));
  expect(history.times).toEqual([10, 11, 12, 20]);
  expect(history.values("events")).toEqual([1, 2, null, 3]);
  expect(history.values("connections")).toEqual([1, 1, null, 1]);
});

test("a summary covers the known values", () => {
  const history = new History();
  expect(history.summary("events")).toBeNull();
  history.push(1, point(null));
  expect(history.summary("events")).toBeNull();
  history.push(2, point(2));
  history.push(3, point(7));
  expect(history.summary("events")).toEqual({ min: 2, mean: 4.5, max: 7 });
});

test("minutes are means, latest first", () => {
  const history = new History();
  for (const [at_s, events] of [
    [58, 2],
    [59, 4],
    [60, 10],
    [61, null],
  ] as const)
    history.push(at_s, point(events));
  expect(
    history.minutes().map(({ at_s, means }) => [at_s, means.events, means.connections]),
  ).toEqual([
    [60, 10, 1],
    [0, 3, 1],
  ]);
});
