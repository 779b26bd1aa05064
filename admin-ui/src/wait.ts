// Waiting that can be called off.

/** Resolves after `ms`, or without it never, and in any case when `signal` is aborted. */
export function wait(signal: AbortSignal, ms?: number): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = ms === undefined ? undefined : setTimeout(over, ms);
    signal.addEventListener("abort", over);
    if (signal.aborted) over();
  });
}
