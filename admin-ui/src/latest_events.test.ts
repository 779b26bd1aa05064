import { expect, test } from "vitest";
import { LatestEvents } from "./latest_events";

const events = (...data: string[]) => data.map((data) => ({ type: "message", data, id: "" }));

test.each<[string[][], string[], number]>([
  [[], [], 0],
  [[["a"]], ["1 a"], 1],
  [[["a", "b"], ["c"]], ["1 a", "2 b", "3 c"], 3],
  [
    [
      ["a", "b"],
      ["c", "d"],
    ],
    ["2 b", "3 c", "4 d"],
    4,
  ],
  [[["a"], ["b", "c", "d", "e", "f"]], ["4 d", "5 e", "6 f"], 6],
])("of %j the latest three are %j", (batches, expected, total) => {
  let latest = new LatestEvents(3);
  for (const batch of batches) latest = latest.with(events(...batch), 7);
  expect(latest.events.map(({ number, data }) => `${number} ${data}`)).toEqual(expected);
  expect(latest.total).toBe(total);
  expect(latest.events.every(({ at_ms }) => at_ms === 7)).toBe(true);
});

test("an earlier list does not change", () => {
  const before = new LatestEvents(3).with(events("a"), 1);
  before.with(events("b"), 2);
  expect(before.total).toBe(1);
  expect(before.events).toHaveLength(1);
});
