"""What surrounds a training session: one torch thread, signals that ask to stop, a disk that fills up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import torch


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Use one thread: for networks of this size a second one costs more in hand-over than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def stopping_on_signals(ask: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGTERM or Ctrl-C only ``ask`` to stop; the second one does what it always does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread alone
        return
    before = {int(number): signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[number])
        ask()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
