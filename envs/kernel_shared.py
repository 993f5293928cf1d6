"""One step of a batch, shared between the thread that wants it and one that helps.

Both take blocks of episodes, the caller from the front and the helper from the back, so that each finds
most of its episodes in its own cache. Episodes are independent: who takes which changes no result. The caller waits
for blocks that the helper has begun, never for the helper to begin. Needs numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import sharing
from .kernel import step_block
from .shared_words import address_of, array_at, give_way, load_word, store_word, swap_word, wait_a_moment

# The words that the two threads share, each on a cache line of its own.
LINE = 8
STEP, LEFT, DONE, AWAKE, JOB, ADDRESSES = (LINE * i for i in range(6))
WORDS = LINE * 6
FIELD = 16  # bits of a block's number; LEFT holds the step's number, the first block left, and the one after the last
MASK = (1 << FIELD) - 1  # most blocks of a step
LAST_STEP = (1 << 31) - 1
PATIENCE = 3000  # looks for the next step before the helper goes to sleep: some 60 us
# Looks for the end of a block before the caller holds the helper's core for taken: some 200 us.
OVERDUE = 10_000
STALLED = -1


@sharing
def take_block(words: Any, step: int, from_back: bool) -> int:
    """The number of a block of this step that nobody else will take, or -1."""
    while True:
        left = load_word(words, LEFT)
        first, after = (left >> FIELD) & MASK, left & MASK
        if left >> (2 * FIELD) != step or first >= after:
            return -1
        taken = after - 1 if from_back else first
        rest = left - 1 if from_back else left + (1 << FIELD)
        if swap_word(words, LEFT, left, rest):
            return taken


@sharing
def step_shared(
    words: Any, job: int, step: int, sites: Any, placements: Any, tables: Any, encoding: Any, tape: Any, state: Any,
    sendings: Any, actions: Any, outcomes: Any, observations: Any, truncated: Any,
) -> int:  # fmt: skip
    """`kernel.step_all`, with the blocks of ``sendings.shape[0]`` episodes offered to the helper.

    Args:
        words: shared words (WORDS,) int64.
        job: number of the arguments from ``sites`` to ``state``; the helper joins if it was given the same.
        step: number of this step, 0 to LAST_STEP, not that of a step shortly before.

    Returns:
        How many blocks the helper took; STALLED if it was kept from finishing one.
    """
    block, count = sendings.shape[0], truncated.shape[0]
    blocks = (count + block - 1) // block
    store_word(words, JOB, job)
    store_word(words, ADDRESSES, address_of(actions))
    store_word(words, ADDRESSES + 1, address_of(outcomes))
    store_word(words, ADDRESSES + 2, address_of(observations))
    store_word(words, ADDRESSES + 3, address_of(truncated))
    store_word(words, DONE, 0)
    store_word(words, LEFT, (step << (2 * FIELD)) | blocks)
    store_word(words, STEP, step)
    mine = 0
    while True:
        i = take_block(words, step, False)
        if i < 0:
            break
        step_block(
            sites, placements, tables, encoding, tape, state, sendings, actions, outcomes, observations, truncated,
            i * block, min((i + 1) * block, count),
        )  # fmt: skip
        mine += 1
    looks = 0
    while load_word(words, DONE) < blocks - mine:
        looks += 1
        wait_a_moment()
        if looks > OVERDUE:
            give_way()
    return STALLED if looks > OVERDUE else blocks - mine


@sharing
def help_steps(
    words: Any, job: int, sites: Any, placements: Any, tables: Any, encoding: Any, tape: Any, state: Any,
    sendings: Any, actions: Any, outcomes: Any, observations: Any, truncated: Any,
) -> None:  # fmt: skip
    """Take blocks of the steps that `step_shared` offers, until they stop coming or belong to another job.

    Args:
        words, job: as for `step_shared`.
        actions, outcomes, observations, truncated: show type and shape; each step's own are found by address.
    """
    block, count = sendings.shape[0], truncated.shape[0]
    seen = np.int64(-1)
    looks = 0
    while True:
        step = load_word(words, STEP)
        if step == seen:
            looks += 1
            if looks < PATIENCE:
                wait_a_moment()
                continue
            store_word(words, AWAKE, 0)
            if load_word(words, STEP) == seen:
                return
            store_word(words, AWAKE, 1)
            continue
        if load_word(words, JOB) != job:
            return
        # If the step is over by now, these may be the next one's; but then no block of this step is left.
        a = array_at(actions, load_word(words, ADDRESSES))
        o = array_at(outcomes, load_word(words, ADDRESSES + 1))
        v = array_at(observations, load_word(words, ADDRESSES + 2))
        t = array_at(truncated, load_word(words, ADDRESSES + 3))
        while True:
            i = take_block(words, step, True)
            if i < 0:
                break
            first = i * block
            step_block(
                sites, placements, tables, encoding, tape, state, sendings, a, o, v, t, first,
                min(first + block, count),
            )  # fmt: skip
            store_word(words, DONE, load_word(words, DONE) + 1)
        seen, looks = step, 0
