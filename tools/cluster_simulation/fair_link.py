"""What is shared evenly by all that use it at a time, as a network link or an engine is."""

import heapq
import math
from dataclasses import dataclass, field
from itertools import count

from simpy import Environment, Event, Timeout


@dataclass(order=True)
class _Flow:
    """Something that the link carries; it is done when each flow has been given `until`."""

    until: float
    number: int
    done: Event = field(compare=False)


class FairLink:
    """Carries amounts, of whatever unit, each at the same rate.

    Attributes:
        carried: what it has carried in all.
    """

    def __init__(self, env: Environment, capacity: float, most_each: float = math.inf) -> None:
        """Create an idle link.

        Args:
            env: the simulation's clock.
            capacity: amount that it carries in a second.
            most_each: amount that one flow takes in a second at most.
        """
        if min(capacity, most_each) <= 0:
            raise ValueError("a link must be able to carry something")
        self.carried = 0.0
        self._env = env
        self._capacity = capacity
        self._most_each = most_each
        self._flows: list[_Flow] = []
        self._numbers = count()
        self._given_to_each = 0.0  # since the beginning, to a flow that was always there
        self._rate = 0.0
        self._at = env.now
        self._wake: Timeout | None = None

    def __len__(self) -> int:
        return len(self._flows)

    def carry(self, amount: float) -> Event:
        """Return an event of the moment at which the amount has been carried."""
        done = self._env.event()
        if amount <= 0 or math.isinf(min(self._capacity, self._most_each)):
            self.carried += amount
            return done.succeed()
        self._advance()
        until = self._given_to_each + amount
        heapq.heappush(self._flows, _Flow(until, next(self._numbers), done))
        self._plan()
        return done

    def abandon(self, done: Event) -> None:
        """Carry no more of the flow that ends with this event, if it has not ended."""
        kept = [flow for flow in self._flows if flow.done is not done]
        if len(kept) < len(self._flows):
            self._advance()
            heapq.heapify(kept)
            self._flows = kept
            self._plan()

    def _advance(self) -> None:
        given = (self._env.now - self._at) * self._rate
        self._given_to_each += given
        self.carried += given * len(self._flows)
        self._at = self._env.now

    def _plan(self) -> None:
        """Set the rate, and wake when the next flow ends."""
        self._wake = None
        if not self._flows:
            self._rate = 0.0
            return
        self._rate = min(self._most_each, self._capacity / len(self._flows))
        wait_s = max(0.0, self._flows[0].until - self._given_to_each) / self._rate
        wake = self._env.timeout(wait_s)
        assert wake.callbacks is not None
        wake.callbacks.append(self._woken)
        self._wake = wake

    def _woken(self, wake: Event) -> None:
        if wake is not self._wake:
            return  # other flows have come or gone since it was planned
        self._advance()
        self._given_to_each = self._flows[0].until  # which rounding may have missed
        while self._flows and self._flows[0].until <= self._given_to_each:
            heapq.heappop(self._flows).done.succeed()
        self._plan()
