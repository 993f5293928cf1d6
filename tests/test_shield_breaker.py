"""The circuit breaker against its contract, over any order of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from carbonpilot.real.shield import Breaker, BreakerSettings

SETTINGS = BreakerSettings(failures=3, rest_ms=100.0, longest_rest_ms=350.0)


class BreakerMachine(RuleBasedStateMachine):
    """A model of what the docstring promises, in lists of events."""

    def __init__(self):
        super().__init__()
        self.breaker, self.now_ms = Breaker(SETTINGS), 0.0
        self.in_a_row = 0  # failures since the last success
        self.opened_ms = None  # when it opened, if it is not closed
        self.rest_ms = 100.0
        self.trial_ms = None

    def open(self):
        if self.opened_ms is not None:
            self.rest_ms = min(2 * self.rest_ms, 350.0)
        self.opened_ms, self.trial_ms = self.now_ms, None

    @rule(ms=st.sampled_from([1.0, 30.0, 99.0, 100.0, 250.0, 1000.0]))
    def wait(self, ms):
        self.now_ms += ms

    def allowed(self):
        """Ask both: a trial of which nothing was heard is given up when somebody asks."""
        if self.trial_ms is not None and self.now_ms - self.trial_ms >= self.rest_ms:
            self.open()
        rested = self.opened_ms is None or self.now_ms >= self.opened_ms + self.rest_ms
        assert self.breaker.allows(self.now_ms) == (rested and self.trial_ms is None)
        return rested and self.trial_ms is None

    @rule()
    def ask(self):
        self.allowed()

    @precondition(lambda self: self.allowed())
    @rule()
    def begin(self):
        self.breaker.began(self.now_ms)
        if self.opened_ms is not None:
            self.trial_ms = self.now_ms

    @rule()
    def succeed(self):
        self.breaker.succeeded()
        self.in_a_row, self.opened_ms, self.trial_ms, self.rest_ms = 0, None, None, 100.0

    @rule()
    def fail(self):
        self.breaker.failed(self.now_ms)
        self.in_a_row += 1
        if (self.opened_ms is None and self.in_a_row >= 3) or self.trial_ms is not None:
            self.open()

    @invariant()
    def state_is_told(self):
        if self.opened_ms is None:
            expected = "closed"
        else:
            expected = "open" if self.now_ms < self.opened_ms + self.rest_ms else "half-open"
        assert self.breaker.state(self.now_ms) == expected
        if expected == "open":
            assert not self.breaker.allows(self.now_ms)


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase


def test_one_success_between_failures_keeps_it_closed():
    breaker = Breaker(SETTINGS)
    for now_ms in range(20):
        breaker.failed(now_ms)
        breaker.failed(now_ms)
        breaker.succeeded()
    assert breaker.allows(20.0)


def test_rests_double_up_to_the_longest():
    breaker, now_ms, rests = Breaker(SETTINGS), 0.0, []
    for _ in range(3):
        breaker.failed(now_ms)
    for _ in range(4):
        began = now_ms
        while not breaker.allows(now_ms):
            now_ms += 10.0
        rests.append(now_ms - began)
        breaker.began(now_ms)
        breaker.failed(now_ms)
    assert rests == [100.0, 200.0, 350.0, 350.0]
    assert breaker.opened == 5
