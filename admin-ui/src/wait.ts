// Waiting that can be called off.

/** Resolves after `ms`, or without it never, and in any case when `signal` is aborted. */
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
