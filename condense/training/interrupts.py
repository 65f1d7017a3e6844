"""Ctrl-C and SIGTERM: end at the next step, with the state saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training stopped because it was asked to; what it had is saved.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


class StopRequest:
    """Whether somebody asked to stop.

    Args:
        number: Of the signal that came; 0 for none.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note the first signal instead of breaking off; a second one breaks off at once.

    Signals can be caught in the main thread only; elsewhere nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, _: FrameType | None) -> None:
        if request.number:
            raise Interrupted(number)
        request.number = number

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
