import os
import sys

import pytest
from hypothesis import settings

# One thread a process, before torch is imported: on models of a few kilobytes threads wait for each other more than they
# compute. Processes that share the tests inherit it before NumPy is imported, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["tests.support.dashboard", "tests.support.browser"]

# No deadline: a slow machine is no failure. Fewer examples where many tests share two cores.
settings.register_profile("default", deadline=None, max_examples=50)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit leaves the last page as `__main__`, which processes that a later test spawns would run."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
