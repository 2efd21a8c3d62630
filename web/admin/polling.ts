// Polls the server while the tab is visible. After a failure it tries again at once, since a proxy may then reach
// another node; afterwards it goes on in its interval.

export interface Poller {
  start(): void;
  stop(): void;
  /** Polls now instead of later. */
  now(): void;
}

/** Calls `poll` again and again; one call ends before the next begins. A rejected call counts as a failure. */
export function poller(intervalMs: number, poll: () => Promise<void>): Poller {
  let isRunning = false;
  let isPolling = false;
  let isAgain = false;
  let failures = 0;
  let timer = 0;

  const isActive = (): boolean => isRunning && document.visibilityState === 'visible';

  async function run(): Promise<void> {
    clearTimeout(timer);
    if (!isActive()) return;
    if (isPolling) {
      isAgain = true;
      return;
    }
    isPolling = true;
    const startedAt = performance.now();
    try {
      await poll();
      failures = 0;
    } catch {
      failures += 1;
    }
    isPolling = false;
    const isImmediate = isAgain || failures === 1;
    isAgain = false;
    const rest = isImmediate ? 0 : Math.max(0, intervalMs - (performance.now() - startedAt));
    if (isActive()) timer = setTimeout(() => void run(), rest);
  }

  document.addEventListener('visibilitychange', () => void run());
  return {
    start() {
      isRunning = true;
      void run();
    },
    stop() {
      isRunning = false;
      clearTimeout(timer);
    },
    now: () => void run(),
  };
}
