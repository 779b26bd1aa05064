import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { retryDelay, wait } from "./wait";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Whether a wait is over after a time. */
async function isOver(waiting: Promise<void>, ms: number): Promise<boolean> {
  const done = vi.fn();
  void waiting.then(done);
  await vi.advanceTimersByTimeAsync(ms);
  return done.mock.calls.length > 0;
}

test("a wait ends after its time", async () => {
  const waiting = wait(new AbortController().signal, 100);
  expect(await isOver(waiting, 99)).toBe(false);
  expect(await isOver(waiting, 1)).toBe(true);
});

test("a wait without a time does not end by itself", async () => {
  expect(await isOver(wait(new AbortController().signal), 3_600_000)).toBe(false);
});

test.each([[100], [undefined]])("a wait of %s ms ends when it is aborted", async (ms) => {
  const controller = new AbortController();
  const waiting = wait(controller.signal, ms);
  expect(await isOver(waiting, 1)).toBe(false);
  controller.abort();
  expect(await isOver(waiting, 0)).toBe(true);
  expect(await isOver(wait(controller.signal, ms), 0), "aborted before").toBe(true);
});

test.each([
  [1, 0, 500],
  [1, 1, 1000],
  [2, 0.5, 1500],
  [4, 1, 8000],
  [5, 0, 4000],
  [1000, 1, 8000],
])("after %s failures and with the random number %s the delay is %s ms", (failures, random, ms) => {
  expect(retryDelay(failures, random)).toBe(ms);
});
