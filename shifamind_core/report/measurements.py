"""What was measured on the checkpoint itself, as tables: layer profiles, probes, the certificate, the ladder.

Every row says which model it speaks of and where it was measured: of another model or machine it says nothing.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

import shifamind_core
from shifamind_core.analysis.rungs import Ladder

LAYER_COLUMNS = (
    "name", "kind", "mean", "std", "absmax", "non_finite", "relative_error", "input_error", "inherited_error", "own_error",
    "expected_error", "excess",
)  # fmt: skip
CERTIFICATE_COLUMNS = (
    "split", "documents", "threshold", "decisions", "at_risk", "measured_error", "measured_notes", "epsilon", "smallest_margin",
)  # fmt: skip


def layers_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """One row a profile and module, in the order in which modules finish.

    Columns: `policy`, `against`, those of `LAYER_COLUMNS` (statistics of the policy's output; relative errors in rms;
    `excess` is the own error over what rounding explains; empty where a value is not finite), `parts_first` (whether this is the
    first module to add clearly more than rounding), `split`, `notes`, and the model's.
    """
    rows = [
        {
            "policy": profile["policy"],
            "against": profile["against"],
            **{name: layer[name] for name in LAYER_COLUMNS},
            "parts_first": layer["name"] == profile["first_divergence"],
            "split": result.get("split"),
            "notes": profile["notes"],
        }
        for profile in result["profiles"]
        for layer in profile["layers"]
    ]
    return _of_model(pd.DataFrame(rows), result)


def probes_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """One row a probe: `name`, `status` (ok, warning, failed, skipped), `max_abs_difference` (logits, except where `message`
    says otherwise), `message`, and the model's columns."""
    columns = ["name", "status", "max_abs_difference", "message"]
    return _of_model(pd.DataFrame(result["probes"], columns=columns), result)


def certificate_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """One row: the columns of `CERTIFICATE_COLUMNS`, the exact range of macro and micro F1 at ε (`…_lowest`, `…_highest`; empty
    without labels), the run's digest, and the model's columns."""
    row = {name: result.get(name) for name in CERTIFICATE_COLUMNS}
    for metric in ("macro_f1", "micro_f1"):
        row |= dict(
            zip((f"{metric}_lowest", f"{metric}_highest"), result.get(metric) or (None, None), strict=True)
        )
    return _of_model(
        pd.DataFrame([row | {"policy": "portable", "run_digest": result.get("run_digest")}]), result
    )


def ladder_table(ladder: Ladder) -> pd.DataFrame:
    """One row a policy: differences of logits from FP64, flips and scores at 0.5, or why it was `refused`; then what it was
    measured on."""
    table = pd.DataFrame([vars(rung) for rung in ladder.rungs])
    return table.assign(
        notes=ladder.documents,
        weights_digest=ladder.checkpoint,
        device=ladder.device,
        shifamind_core=shifamind_core.__version__,
    )


def _of_model(table: pd.DataFrame, result: Mapping[str, Any]) -> pd.DataFrame:
    model = result.get("model") or {}
    columns = ("run_directory", "architecture", "parameters", "weights_digest")
    about = {name: model.get(name) for name in columns} | {
        name: result.get(name) for name in ("device", "gpu")
    }
    return table.assign(**about, shifamind_core=shifamind_core.__version__)
