"""When this machine kept the checker waiting: a case that seems long then says nothing about the runner."""

import threading
import time

TICK = 0.005  # seconds between two looks at the clock
LATE = 0.015  # a look that comes this much later than it should is a stall


class Stalls:
    """Watches from a thread of its own, for as long as the process lives."""

    def __init__(self):
        self.intervals = []  # (from, until), microseconds on the monotonic clock
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        last = time.monotonic()
        while True:
            time.sleep(TICK)
            now = time.monotonic()
            if now - last > TICK + LATE:
                self.intervals.append((int(last * 1e6), int(now * 1e6)))
            last = now

    def touches(self, since, until):
        return any(first < until and last > since for first, last in self.intervals)
