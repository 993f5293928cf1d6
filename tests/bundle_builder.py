"""Spoils bundles for tests: forged cards, swapped arrays, a pickle that would show that it was unpickled."""

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from carbonpilot.agents.bundle import CARD_FILE, WEIGHTS_FILE, read_bundle, read_card, seal
from carbonpilot.agents.frozen import FrozenPolicy
from carbonpilot.envs.errors import BundleError


def forged(bundle, **changes):
    """A bundle whose hashes are right though its content is not, as another version may write it."""
    content = read_card(bundle)
    content.update(changes)
    (bundle / CARD_FILE).write_bytes(seal(content))


def swap_weights(bundle, content, **savez):
    buffer = io.BytesIO()
    np.savez(buffer, **content, **savez)
    (bundle / WEIGHTS_FILE).write_bytes(buffer.getvalue())
    files = {**read_card(bundle)["files"], WEIGHTS_FILE: hashlib.sha256(buffer.getvalue()).hexdigest()}
    forged(bundle, files=files)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def check_never_unpickled(bundle, target):
    """Arrays with objects in them are refused, and what unpickling them would do is not done."""
    _, arrays = read_bundle(bundle)
    last = sorted(arrays)[-1]
    swap_weights(bundle, {**arrays, last: np.array([Bomb(target)], dtype=object)}, allow_pickle=True)
    with pytest.raises(BundleError, match="not a plain NumPy archive"):
        FrozenPolicy.load(bundle)
    raw = pickle.dumps(Bomb(target))
    (bundle / WEIGHTS_FILE).write_bytes(raw)  # np.load would take a bare pickle for an array, too
    forged(bundle, files={**read_card(bundle)["files"], WEIGHTS_FILE: hashlib.sha256(raw).hexdigest()})
    with pytest.raises(BundleError, match="not a plain NumPy archive"):
        FrozenPolicy.load(bundle)
    assert not target.exists()
    pickle.loads(raw)
    assert target.exists()  # the bomb is a real one
