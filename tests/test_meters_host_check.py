"""The cross-check of a whole host: codecarbon beside a meter whose energy is known."""

import subprocess
import sys
import time

import pytest

from carbonpilot.envs.errors import InputError
from carbonpilot.real.meters import Sample, Scope
from carbonpilot.real.meters.host_check import check, main, report

SLEEP = [sys.executable, "-c", "import time; time.sleep(3.2)"]


class Counter:
    """A counter of exactly 25 W."""

    name, scope = "counter", Scope.CPU_PACKAGE

    def sample(self):
        now_s = time.monotonic()
        return Sample(now_s, energy_j=25.0 * now_s)

    def close(self):
        pass


def test_both_see_the_same_stretch():
    found = check(SLEEP, "GBR", Counter())
    assert found.exit_code == 0
    assert found.seconds == pytest.approx(3.2, abs=1.5)
    # The counter is read once a second, so it may miss one at either end.
    assert 25.0 * 1.5 < found.counted_j < 25.0 * 4.5
    assert found.estimate is not None
    assert found.estimate.total_j > 0
    assert min(found.estimate.cpu_j, found.estimate.ram_j, found.estimate.gpu_j) >= 0
    assert "RAPL" in report(found)


def test_the_exit_code_is_the_commands(capsys):
    assert main(["--country", "GBR", "--", sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert "codecarbon" in capsys.readouterr().err


def test_an_unknown_country_is_refused_before_the_command_runs(tmp_path):
    mark = tmp_path / "ran"
    with pytest.raises(InputError, match="country 'ZZZ'"):
        check([sys.executable, "-c", f"open({str(mark)!r}, 'w')"], "ZZZ")
    assert not mark.exists()


def test_mistakes_are_told_without_a_traceback(capsys):
    assert main(["--country", "ZZZ", "--", "true"]) == 2
    assert main(["--country", "GBR", "--", "no-such-program"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_it_loads_without_codecarbon():
    code = "import sys; sys.modules['codecarbon'] = None; import carbonpilot.real.meters.host_check"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
