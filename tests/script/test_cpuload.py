from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from sipwright.script.cpuload import CpuLoad

#            user nice system idle iowait irq softirq steal guest
BEFORE = "cpu  100 0    50     800  50     0   0       0     10 0\ncpu0 1 1 1 1\n"
HALF = "cpu  130 0    70     840  60     0   0       0     30 0\ncpu0 1 1 1 1\n"


def test_load_is_the_share_of_time_that_was_not_idle(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text(BEFORE)
    load = CpuLoad(file)
    file.write_text(HALF)
    # 50 of 100; the guest's time is in the user's.
    assert load.look() == 0.5
    # No time has passed.
    assert load.look() == 0.0


@pytest.mark.parametrize("text", ["", "nothing of the kind\n", "cpu a b c\n", None])
def test_a_system_that_does_not_tell_is_not_busy(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "stat"
    if text is not None:
        file.write_text(text)
    assert CpuLoad(file).look() == 0.0


@pytest.mark.skipif(sys.platform != "linux", reason="has no /proc/stat")
def test_a_busy_loop_makes_this_machine_busy() -> None:
    load = CpuLoad()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    assert 0.0 < load.look() <= 1.0
