"""Two threads step a large batch: results are those of one, whatever the second does and wherever it ends."""

import copy
import gc
import os
import pickle
import threading
import time

import numpy as np
import pytest

from carbonpilot.envs import helper_thread, tape, threads
from carbonpilot.envs.errors import InputError
from carbonpilot.envs.placement_vector_env import PlacementVectorEnv
from carbonpilot.envs.scenario import load_scenario
from carbonpilot.envs.schema import Scenario
from carbonpilot.envs.simulator import Simulator
from carbonpilot.envs.threads import SWITCH, allowed_threads

B = 600  # not a multiple of the block
TWO = pytest.mark.skipif(allowed_threads(B) == 1, reason="needs numba, POSIX and two cores")


def short(requests):
    data = load_scenario("metro").model_dump(by_alias=True)
    return Scenario.model_validate(data | {"episode": {"requests": requests}})


def simulator(count, monkeypatch, batch=B, requests=40):
    monkeypatch.setenv(SWITCH, str(count))
    sim = Simulator(short(requests), batch)
    assert (sim._helper is not None) == (count == 2)
    return sim


def helpers():
    return [t for t in threading.enumerate() if t.name == "carbonpilot-helper"]


def gone(count):
    """Whether no more than so many helpers are left; they need a moment to end."""
    for _ in range(200):
        if len(helpers()) <= count:
            return True
        time.sleep(0.01)
    return False


def assert_same(a, b):
    np.testing.assert_array_equal(a.observation, b.observation)
    np.testing.assert_array_equal(a.truncated, b.truncated)
    np.testing.assert_array_equal(a.outcome.records, b.outcome.records)


def run_both(one, two, steps, rng, pause=lambda n: None):
    """Steps of both with the same random actions; how often the second thread took part."""
    for n in range(steps):
        actions = rng.integers(0, 5, one.batch)
        pause(n)
        assert_same(one.step(actions), two.step(actions))


@TWO
@pytest.mark.parametrize("batch", [512, 600, 1024])
def test_two_threads_give_what_one_gives_over_restarts_of_some_and_of_all(monkeypatch, batch):
    one, two = (simulator(c, monkeypatch, batch) for c in (1, 2))
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(one.reset(np.arange(batch)), two.reset(np.arange(batch)))
    run_both(one, two, 20, rng)
    some = np.sort(rng.permutation(batch)[:77])
    np.testing.assert_array_equal(
        one.reset_columns(some, np.arange(77) + 5000), two.reset_columns(some, np.arange(77) + 5000)
    )
    run_both(one, two, 15, rng)
    for overwrite in (False, True):
        seeds = np.arange(batch) + 9000 + overwrite
        np.testing.assert_array_equal(one.reset(seeds), two.reset(seeds, overwrite))
        # Pauses let the helper fall asleep between some steps and listen between others.
        run_both(one, two, 35, rng, lambda n: time.sleep(0.002 * (n % 3 == 0)))


@TWO
def test_the_second_thread_really_helps(monkeypatch):
    """Asked often enough: a busy machine may keep it away for some steps, not for all."""
    monkeypatch.setattr(helper_thread, "SHORTEST", 0)
    monkeypatch.setattr(helper_thread, "LONGEST", 0)
    sim = simulator(2, monkeypatch, 4096, requests=1000)
    sim.reset(np.arange(4096))
    from carbonpilot.envs.kernel_shared import DONE

    taken = 0
    for _ in range(900):
        sim.step(np.zeros(4096, int))
        taken += int(sim._helper._desk.words[DONE])
        if taken > 20:
            break
    assert taken > 20


@TWO
def test_a_helper_that_never_wakes_changes_nothing(monkeypatch):
    """And is given up for a while, then tried again."""
    monkeypatch.setattr(helper_thread, "_help", lambda desk: None)
    monkeypatch.setattr(helper_thread, "SHORTEST", 5)
    monkeypatch.setattr(helper_thread, "LONGEST", 5)
    one, two = (simulator(c, monkeypatch) for c in (1, 2))
    one.reset(np.arange(B))
    two.reset(np.arange(B))
    rng, alone = np.random.default_rng(1), []
    for _ in range(40):
        actions = rng.integers(0, 5, B)
        alone.append(two._helper._alone > 0)
        assert_same(one.step(actions), two.step(actions))
    assert alone[: helper_thread.USELESS] == [False] * helper_thread.USELESS
    assert 5 <= sum(alone) <= 10


@TWO
def test_whole_restarts_of_the_vector_environment_draw_the_same_tapes_over_the_worn_ones(monkeypatch):
    """Three episodes, against an environment that always takes fresh memory."""
    monkeypatch.setenv(SWITCH, "2")
    env = PlacementVectorEnv(B, scenario=short(20))
    monkeypatch.setenv(SWITCH, "1")
    plain = PlacementVectorEnv(B, scenario=short(20))
    fresh = plain.simulator.reset
    monkeypatch.setattr(plain.simulator, "reset", lambda seeds, overwrite=False: fresh(seeds))
    np.testing.assert_array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
    rng = np.random.default_rng(2)
    for _ in range(63):
        actions = rng.integers(0, 5, B)
        for mine, theirs in zip(env.step(actions)[:4], plain.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    env.close()
    plain.close()


@TWO
def test_closing_and_forgetting_end_the_thread(monkeypatch):
    gc.collect()
    assert gone(0)
    sim = simulator(2, monkeypatch)
    sim.reset(np.arange(B))
    sim.step(np.zeros(B, int))
    assert len(helpers()) == 1
    sim.close()
    sim.close()
    assert gone(0)
    sim.step(np.zeros(B, int))  # still usable: another thread starts
    assert len(helpers()) == 1
    del sim
    gc.collect()
    assert gone(0)


@TWO
def test_copies_and_pickles_have_a_thread_of_their_own(monkeypatch):
    sim = simulator(2, monkeypatch)
    sim.reset(np.arange(B))
    sim.step(np.zeros(B, int))
    for copied in (copy.deepcopy(sim), pickle.loads(pickle.dumps(sim))):
        copied.reset(np.arange(B))
        sim.reset(np.arange(B))
        assert_same(copied.step(np.ones(B, int)), sim.step(np.ones(B, int)))
        copied.close()
    sim.close()


@TWO
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_stepping_goes_on_after_a_fork(monkeypatch):
    sim = simulator(2, monkeypatch)
    sim.reset(np.arange(B))
    sim.step(np.zeros(B, int))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # the helper does not survive in the child
        found = b"failed"
        try:
            found = sim.step(np.ones(B, int)).outcome.records.tobytes()
        finally:
            os.write(writing, str(hash(found)).encode())
            os._exit(0)
    os.close(writing)
    expected = str(hash(sim.step(np.ones(B, int)).outcome.records.tobytes()))
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 100).decode() == expected
    os.close(reading)
    sim.close()


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_what_is_drawn_beside_surfaces_at_the_reset(monkeypatch, count):
    def broken(*arguments):
        raise InputError("no such arrivals")

    sim = simulator(count, monkeypatch) if allowed_threads(B) == 2 or count == 1 else Simulator(short(40), B)
    monkeypatch.setattr(tape, "_of_requests", broken)
    with pytest.raises(InputError, match="no such arrivals"):
        sim.reset(np.arange(B))
    monkeypatch.undo()
    assert sim.reset(np.arange(B)).shape[0] == B


def test_the_number_of_threads_depends_on_batch_cores_and_switch(monkeypatch):
    monkeypatch.setattr(threads, "COMPILED", True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_yield", lambda: None, raising=False)
    monkeypatch.delenv(SWITCH, raising=False)
    assert [allowed_threads(b) for b in (1, 511, 512, 4096)] == [1, 1, 2, 2]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1})
    assert allowed_threads(4096) == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setattr(threads, "COMPILED", False)
    assert allowed_threads(4096) == 1
    monkeypatch.setattr(threads, "COMPILED", True)
    monkeypatch.setenv(SWITCH, "1")
    assert allowed_threads(4096) == 1
    monkeypatch.setenv(SWITCH, "many")
    with pytest.raises(InputError, match="must be 1 or 2"):
        allowed_threads(4096)


def test_strided_actions_are_read_as_what_they_are(monkeypatch):
    first, second = Simulator("metro", 3), Simulator("metro", 3)
    first.reset([1, 2, 3])
    second.reset([1, 2, 3])
    table = np.array([[1, 0], [2, 0], [3, 0]])
    assert_same(first.step(table[:, 0]), second.step([1, 2, 3]))
