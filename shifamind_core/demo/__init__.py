"""The built-in run directory: synthetic notes, a small checkpoint truly trained on them, and runs of it on a GPU.

What is shipped (`data/`, in the layout of a run directory) is what cannot be computed again in seconds; the notes
are written anew by `write_demo`. `train.py` made the checkpoint, `record.py` the reference runs.
"""

from shifamind_core.demo.writer import write_demo

__all__ = ["write_demo"]
