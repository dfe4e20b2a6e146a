"""What the server loads ahead: no torch, and nothing that is searched for garbage after every rerun."""

import subprocess
import sys

SCRIPT = """
import gc, sys
from shifamind_core.ui.site.ready import get_ready
get_ready()
assert "plotly.graph_objects" in sys.modules and "torch" not in sys.modules
assert gc.get_freeze_count() > 100_000 and len(gc.get_objects()) < 10_000, len(gc.get_objects())
"""


def test_a_server_gets_ready_without_torch_and_keeps_what_it_loaded_out_of_the_search() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
