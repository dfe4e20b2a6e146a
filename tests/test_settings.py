"""What the environment says is heeded."""

import os
import subprocess
import sys

import pytest

from shifamind_core.settings import processors

ASKED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); from shifamind_core.settings import processors; print(processors())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no such limit")
def test_a_process_that_may_run_on_one_processor_counts_one():
    first = min(os.sched_getaffinity(0))
    found = subprocess.run([sys.executable, "-c", ASKED, str(first)], capture_output=True, text=True)
    assert found.stdout == "1\n", found.stderr


@pytest.mark.parametrize(("here", "share"), [(1, 8), (2, 4), (3, 2), (16, 1)])
def test_processes_that_torchrun_started_share_what_there_is(monkeypatch, here, share):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert processors() == 8
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    assert processors() == share
