"""Load what pages will need, while nobody waits for it.

Streamlit searches everything that Python ever made for garbage after each rerun: 41 % of the server's time under load, with
every other session waiting. What is loaded here stays for good, and is left out of that search.
"""

import gc
from importlib import import_module

NEEDED = (
    "plotly.graph_objects",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "shifamind_core.commands",
    "shifamind_core.diagnosis.diagnose",
    "shifamind_core.report.files",
    "shifamind_core.ui.session.cached",
)


def get_ready() -> None:
    """Import it, and keep the garbage collector from looking at it ever again."""
    for name in NEEDED:
        import_module(name)
    gc.collect()
    gc.freeze()
