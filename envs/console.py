"""What a person sees: tables as wide as they are, progress as a bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LINES = 10  # plain lines of a whole job
Progress = Callable[[str, int, int], None]  # what is being done, done, total


def table_console(width: int) -> Console:
    """Standard output; a pipe or a file gets ``width`` columns, so that tables arrive whole."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=width)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Lend a function of (what is being done, done, total) to call as often as one likes.

    Everything goes to standard error, so that results can be piped.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    shown = 0

    def line(what: str, done: int, total: int) -> None:
        nonlocal shown
        if LINES * done // total > shown:
            shown = LINES * done // total
            console.print(f"{label}: {100 * shown // LINES} %, {what}", highlight=False, soft_wrap=True)

    if not console.is_terminal:
        yield line
        return
    with Bar(console=console, transient=True) as bar:
        task = bar.add_task(label)
        yield lambda what, done, total: bar.update(
            task, completed=done, total=total, description=f"{label}: {what}"
        )


def part_of(progress: Progress | None, number: int, parts: int, name: str = "") -> Progress | None:
    """Progress of one part, counted from 0, as progress of the whole; ``name`` goes before what is being done."""
    if progress is None:
        return None
    begin = f"{name}: " if name else ""
    return lambda what, done, total: progress(begin + what, number * total + done, parts * total)
