"""While a run stands, looking for garbage leaves out what was there before, and nothing else."""

import gc
import weakref

import pytest

from carbonpilot.real.runtime.process import standing


class Knot:
    """Refers to itself, so only the collector can end it."""

    def __init__(self):
        self.itself = self


def test_what_was_there_before_is_left_out_and_later_garbage_is_still_found():
    before, kept = gc.get_freeze_count(), [Knot()]
    with standing():
        assert gc.get_freeze_count() > before
        assert kept[0] not in _looked_through()
        later = Knot()
        assert later in _looked_through()
        ended = weakref.ref(later)
        del later
        gc.collect()
        assert ended() is None
    assert gc.get_freeze_count() == 0
    assert kept[0] in _looked_through()


def _looked_through():
    """The knots that the collector would go through."""
    return [o for o in gc.get_objects() if type(o) is Knot]


def test_a_run_that_fails_leaves_nothing_aside():
    with pytest.raises(RuntimeError), standing():
        raise RuntimeError
    assert gc.get_freeze_count() == 0
