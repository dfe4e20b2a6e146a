"""Which run a number comes from, in every row of every file."""

import pandas as pd

import shifamind_core
from shifamind_core.precision.environment import Environment
from shifamind_core.runs.manifest import CheckpointRecord, Manifest, TokenizationRecord
from shifamind_core.runs.run import Run


def provenance(run: Run) -> dict[str, object]:
    """Name, digest and the facts of the manifest that most often explain a gap; `None` is not known.

    `lowercase` is the effective casing, not the one asked for.
    """
    manifest: Manifest = run.manifest
    environment = manifest.environment or Environment()
    tokenization = manifest.tokenization or TokenizationRecord()
    checkpoint = manifest.checkpoint or CheckpointRecord()
    return {
        "run": run.name,
        "run_digest": run.digest,
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


def with_provenance(table: pd.DataFrame, **runs: Run) -> pd.DataFrame:
    """The table with each run's provenance in every row, after its own columns.

    The keyword is the prefix of the run's columns, e.g. `candidate_policy`; the keyword `run` has none.
    The last column is the version of this program.
    """
    extra: dict[str, object] = {}
    for role, run in runs.items():
        prefix = "" if role == "run" else f"{role}_"
        extra.update({prefix + name: value for name, value in provenance(run).items()})
    extra["shifamind_core"] = shifamind_core.__version__
    columns = {name: pd.Series([value] * len(table), dtype=object) for name, value in extra.items()}
    return pd.concat([table.reset_index(drop=True), pd.DataFrame(columns)], axis=1)
