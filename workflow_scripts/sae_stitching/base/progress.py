"""Progress of long steps, as log lines that read well on a terminal and in a file."""

import logging
import time
from collections.abc import Callable


class Progress:
    """Log how far a step is, how fast it goes and how long it still takes.

    Parameters
    ----------
    total
        Number of units of work in all.
    label
        What is being done, e.g. ``"train 2304"``.
    unit
        What is counted, e.g. ``"tokens"``.
    every
        Seconds between two lines; the first comes after a second.
    """

    def __init__(self, total: int, label: str, unit: str = "tokens", every: float = 10.0) -> None:
        self.total, self.label, self.unit, self.every = total, label, unit, every
        self.done = self._skipped = 0
        self._start = time.monotonic()
        self._next = self._start + 1.0
        self._logger = logging.getLogger(__name__)

    def skip(self, n: int) -> None:
        """Count `n` units as done before this step was taken up again."""
        self.done += n
        self._skipped += n

    def update(self, n: int, detail: Callable[[], str] | None = None) -> None:
        """Count `n` more units as done, and log a line if one is due or all is done.

        `detail` is called only for a line that is written, which ends with what it returns.
        """
        self.done += n
        now = time.monotonic()
        if now < self._next and self.done < self.total:
            return
        self._next = now + self.every
        elapsed = max(now - self._start, 1e-9)
        rate = (self.done - self._skipped) / elapsed
        left = (self.total - self.done) / max(rate, 1e-9)
        self._logger.info(
            "%s: %s of %s %s (%d %%), %s %s/s, %s left%s",
            self.label,
            f"{self.done:,}",
            f"{self.total:,}",
            self.unit,
            100 * self.done // max(self.total, 1),
            f"{rate:,.0f}",
            self.unit,
            duration(left),
            f", {detail()}" if detail else "",
        )


def duration(seconds: float) -> str:
    """Write a time span the way people do: ``"2 min 05 s"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
