"""How long to wait before something that failed is tried again."""

import random
from dataclasses import dataclass

_MOST_DOUBLINGS = 60  # 2 ** 60 seconds are longer than any wait, and still far from overflow


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from attempt to attempt, up to a limit.

    Attributes:
        first_s: seconds to wait after the first attempt, before jitter.
        longest_s: upper limit in seconds, jitter included.
        jitter: largest random deviation as a share of the wait, so that what failed together is
            not tried again together. 0 for none.
    """

    first_s: float
    longest_s: float
    jitter: float = 0.0

    def wait_s(self, attempts: int) -> float:
        """Return the seconds to wait after `attempts` failed attempts (1 or more)."""
        doubled = self.first_s * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS)
        wait = min(doubled, self.longest_s / (1 + self.jitter))
        if not self.jitter:
            return wait
        return min(wait * random.uniform(1 - self.jitter, 1 + self.jitter), self.longest_s)
