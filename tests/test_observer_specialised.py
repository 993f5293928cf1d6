"""A function made for one site does what it did for any: the same numbers, whatever of it is known beforehand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbonpilot.real.observer.specialised import specialised

SHARE = 1.0 / 3.0


def walk(site: Any, kinds: Any, e: Any, links: Any, gaps: Any, now: float, out: Any, f: int) -> None:
    """Everything that the simulator's functions hold: loops, branches, tuples, constants of a module."""
    last, sending = -1, 0.0
    for a in range(site.count):
        kind = kinds[a]
        value = now * SHARE
        if kind.remote:
            if kind.link != last:
                last = kind.link
                link = links[last]
                sending = float(np.float32(now * site.rate))
                if link.free > now:
                    sending += link.free - now
            value += sending
        elif site.rate > 1.0:
            value = -value
        out[f + a] = value
    f += site.count
    first, best = 0, 7.0
    while first < 2 and gaps[first] <= now:
        best += gaps[first]
        first += 1
    if now > 3.0:
        best, f = best + 1.0, f + 1
    out[f] = best
    for later in range(first, e.end):
        out[later] += site.rate if later else -site.rate
    e.total += e.step
    e.last, e.end = (0.0 if now < 1.0 else SHARE if site.rate > 1.0 else now), first


def world(rate: float, free: float) -> dict[str, Any]:
    kinds = [
        SimpleNamespace(remote=r, link=link) for r, link in [(False, 0), (True, 0), (True, 0), (True, 1)]
    ]
    return {
        "site": SimpleNamespace(count=4, rate=rate),
        "kinds": kinds,
        "e": SimpleNamespace(end=3, total=1.0, step=0.1, last=0.0),
        "links": [SimpleNamespace(free=free), SimpleNamespace(free=2 * free)],
        "out": [0.0] * 8,
    }


def seen(of: dict[str, Any]) -> list[Any]:
    return [of["out"], vars(of["e"]), [vars(link) for link in of["links"]]]


@given(
    rate=st.floats(0.1, 9.0), free=st.floats(0.0, 9.0), gaps=st.lists(st.floats(0, 9), min_size=2, max_size=2),
    now=st.floats(0.0, 9.0),
)  # fmt: skip
def test_the_same_numbers_come_out(rate, free, gaps, now):
    plain, made = world(rate, free), world(rate, free)
    short = specialised(
        walk,
        {"site": made["site"], "kinds": made["kinds"], "f": 0},
        {name: made[name] for name in ("e", "links", "out")},
    )
    for moment in (now, now / 2):
        walk(gaps=gaps, now=moment, f=0, **plain)
        short(gaps, moment)
        assert seen(made) == seen(plain)


def test_what_is_known_is_not_asked_again():
    asked = []

    class Site:
        @property
        def rate(self) -> float:
            asked.append(1)
            return 2.0

    def store(site: Any, out: Any, now: float) -> None:
        out[0] = site.rate * now

    out = [0.0]
    made = specialised(store, {"site": Site()}, {"out": out})
    before = len(asked)
    made(3.0)
    assert (out, len(asked)) == ([6.0], before)


def test_a_value_that_no_literal_shows_stays_what_it_is():
    def store(site: Any, out: Any) -> None:
        out[0], out[1] = site.never, -site.never

    out = [0.0, 0.0]
    specialised(store, {"site": SimpleNamespace(never=math.inf)}, {"out": out})()
    assert out == [math.inf, -math.inf]


def test_a_statement_that_it_does_not_know_is_refused():
    def early(out: Any) -> None:
        if out[0] > 0.0:
            return
        out[0] = 1.0

    with pytest.raises(NotImplementedError, match="Return"):
        specialised(early, {}, {"out": [0.0]})
