"""What can go wrong between a client and the loopback Hub."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class What(Enum):
    """Whether a request has taken effect is what tells `BEFORE` from `AFTER`; the client cannot see it."""

    DROP_BEFORE = "the connection closes and nothing was done"
    DROP_AFTER = "it was done, and the connection closes without an answer"
    ERROR_BEFORE = "500, and nothing was done"
    ERROR_AFTER = "it was done, and the answer is 500"
    CUT = "it was done, and the connection closes in the middle of the answer"
    SLOW = "the answer comes late"
    REFUSE = "the given status, and nothing was done"


@dataclass(frozen=True)
class Call:
    """One request as it came in: `number` counts from 0 since the last `Faults.clear`."""

    number: int
    method: str
    path: str


@dataclass
class Fault:
    what: What
    when: Callable[[Call], bool]
    status: int = 500
    seconds: float = 0.0
    on_hit: Callable[[], None] | None = None  # e.g. to kill the client


class Faults:
    """The faults that are set up, and the log of requests since the last `clear`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[Fault] = []
        self.calls: list[Call] = []

    def clear(self) -> None:
        with self._lock:
            self._armed, self.calls = [], []

    def add(self, what: What, when: Callable[[Call], bool], **more: object) -> None:
        with self._lock:
            self._armed.append(Fault(what, when, **more))

    def at(self, number: int, what: What, **more: object) -> None:
        """Only the request of this number: a client that tries again succeeds."""
        self.add(what, lambda call: call.number == number, **more)

    def since(self, number: int, what: What, **more: object) -> None:
        """This request in the given way, and no later one gets through: the client or the network died here."""
        self.at(number, what, **more)
        self.add(What.DROP_BEFORE, lambda call: call.number > number)

    def meet(self, method: str, path: str) -> Fault | None:
        """Log a request; the fault that it runs into, if any."""
        with self._lock:
            call = Call(len(self.calls), method, path)
            self.calls.append(call)
            fault = next((fault for fault in self._armed if fault.when(call)), None)
        if fault and fault.on_hit:
            fault.on_hit()
        if fault and fault.what is What.SLOW:
            time.sleep(fault.seconds)
        return fault
