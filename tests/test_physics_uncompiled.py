"""Without numba the same functions run as plain Python and give the same results."""

import json
import subprocess
import sys

import numpy as np
import pytest

from carbonpilot.envs.compiling import forget_stale_code
from carbonpilot.envs.simulator import Simulator


def test_compiled_code_is_forgotten_when_a_source_changes(tmp_path):
    source, code = tmp_path / "physics.py", tmp_path / "__pycache__" / "kernel.step.py311.1.nbc"
    source.write_text("a = 1")
    assert forget_stale_code(tmp_path)
    code.write_text("machine code")
    assert not forget_stale_code(tmp_path)
    assert code.exists()
    source.write_text("a = 2")
    assert forget_stale_code(tmp_path)
    assert not code.exists()


PROGRAM = """
import json, sys
sys.modules["numba"] = None  # as if it were not installed
import numpy as np
from carbonpilot.envs.compiling import COMPILED
from carbonpilot.envs.simulator import Simulator
assert not COMPILED
sim = Simulator("metro", 3)
sums = [sim.reset([1, 2, 3]).sum(axis=1).tolist()]
for n in range(25):
    result = sim.step([n % 5, 0, 3])
    sums.append(result.reward.tolist() + result.observation.sum(axis=1).tolist())
sums.append([float(o.latency_ms.sum()) for o in sim.preview()])
print(json.dumps(sums))
"""


def test_plain_python_gives_what_compiled_code_gives():
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    sim = Simulator("metro", 3)
    expected = [sim.reset([1, 2, 3]).sum(axis=1).tolist()]
    for n in range(25):
        result = sim.step([n % 5, 0, 3])
        expected.append(result.reward.tolist() + result.observation.sum(axis=1).tolist())
    expected.append([float(o.latency_ms.sum()) for o in sim.preview()])
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    assert np.ptp(np.concatenate([np.ravel(e) for e in expected])) > 1
