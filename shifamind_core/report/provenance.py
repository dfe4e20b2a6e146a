"""Which run a number comes from: its digest in every row, and all that is known of it once."""

from collections.abc import Mapping

import pandas as pd

import shifamind_core
from shifamind_core.analysis.fingerprint import fingerprint
from shifamind_core.precision.environment import Environment
from shifamind_core.runs.manifest import CheckpointRecord, Manifest, TokenizationRecord
from shifamind_core.runs.run import Run


def provenance(run: Run) -> dict[str, object]:
    """Name, digest and the facts of the manifest that most often explain a gap; `None` is not known.

    `fingerprint` is known of runs under `bitwise` alone; `lowercase` is the effective casing, not the one asked for.
    """
    manifest: Manifest = run.manifest
    environment = manifest.environment or Environment()
    tokenization = manifest.tokenization or TokenizationRecord()
    checkpoint = manifest.checkpoint or CheckpointRecord()
    return {
        "run": run.name,
        "run_digest": run.digest,
        "fingerprint": fingerprint(run),
        "split": manifest.split,
        "policy": None if manifest.policy is None else manifest.policy.name,
        "device": environment.device,
        "gpu": environment.gpu,
        "torch": environment.torch,
        "transformers": environment.transformers,
        "lowercase": tokenization.lowercase,
        "max_length": tokenization.max_length,
        "weights_digest": checkpoint.weights_digest,
    }


def runs_table(runs: Mapping[str, Run | None]) -> pd.DataFrame:
    """One row a run there is: `role`, its provenance, and the version of this program."""
    rows = [
        {"role": role, **provenance(run), "shifamind_core": shifamind_core.__version__}
        for role, run in runs.items()
        if run is not None
    ]
    return pd.DataFrame(rows, dtype=object)


def with_digests(table: pd.DataFrame, **runs: Run) -> pd.DataFrame:
    """The table with each run's digest in every row, after its own columns: `runs_table` says whose it is.

    The keyword is the prefix of the run's column, e.g. `candidate_run_digest`; the keyword `run` has none.
    """
    digests = {("" if role == "run" else f"{role}_") + "run_digest": run.digest for role, run in runs.items()}
    return table.reset_index(drop=True).assign(**digests)
