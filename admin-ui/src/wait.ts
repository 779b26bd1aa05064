// Waiting that can be aborted, and the delay between attempts to reconnect.

/** Resolves after `ms` or when `signal` is aborted; without `ms` only when it is aborted. */
export function wait(signal: AbortSignal, ms?: number): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = ms === undefined ? undefined : setTimeout(finish, ms);
    signal.addEventListener("abort", finish);
    if (signal.aborted) finish();
  });
}

/**
 * The delay in milliseconds after a number of failed attempts in a row. It doubles with each
 * failure up to eight seconds. `random`, from 0 to 1, spreads it over the upper half of that time,
 * so that many open pages do not reconnect at once.
 */
export function retryDelay(failures: number, random: number): number {
  return Math.min(500 * 2 ** failures, 8000) * (0.5 + random / 2);
}
