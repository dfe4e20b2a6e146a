"""Tables on a page: one title and one number format for each column, wherever it appears."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st


def show_table(table: pd.DataFrame, columns: Sequence[str], height: int | None = None) -> None:
    """These columns of the table, sortable, without its index; foreign text in it stays text."""
    more: dict[str, Any] = {} if height is None else {"height": height}
    st.dataframe(
        table,
        hide_index=True,
        placeholder="",
        column_order=columns,
        column_config=column_config(table, columns),
        **more,
    )


def column_config(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """Title, number format and help of these columns."""
    return {name: _column(name, table) for name in columns}


def _column(name: str, table: pd.DataFrame) -> Any:
    label, form, help = COLUMNS.get(name, (name, None, None))
    if form == SMALL and name in table and bool(np.any(np.abs(table[name].to_numpy(float)) >= LARGE)):
        form = "%.3g"  # 10.4 reads better than 1.04e+1
    if form is None:
        return st.column_config.Column(label, help=help, width=WIDE.get(name))
    return st.column_config.NumberColumn(label, format=form, help=help)


WIDE: dict[str, Any] = {"run": "medium", "title": "medium", "name": "medium", "interventions": 340}
LARGE = 0.1
F1, GAP, SMALL, MEASURED, THRESHOLD = "%.4f", "%+.4f", "%.2e", "%.4g", "%.2f"
# Column → title, number format (None: as it is), help.
COLUMNS: dict[str, tuple[str, str | None, str | None]] = {
    "run": ("Run", None, None),
    "protocol": (
        "Protocol",
        None,
        "fixed: at 0.5; tuned: at the validation split's best; top_k: the k best.",
    ),
    "threshold": ("Threshold", THRESHOLD, None),
    "k": ("k", None, "Rounded mean number of labels a note."),
    "micro_f1": ("Micro F1", F1, "Of the counts summed over all codes."),
    "macro_f1": ("Macro F1", F1, "Mean of the F1 of all codes, absent ones as 0: the protocol's definition."),
    "macro_f1_over": (
        "Macro over",
        None,
        "The codes that this run has scores for, of all that it speaks of.",
    ),
    "macro_f1_of_means": (
        "Macro F1 of means",
        F1,
        "Harmonic mean of mean precision and mean recall, as CAML and PLM-ICD report it.",
    ),
    "validation_micro_f1": ("Validation micro F1", F1, "At the tuned threshold."),
    "plateau_lowest": ("Plateau from", THRESHOLD, "Lowest threshold within 0.001 of the best."),
    "plateau_highest": ("Plateau to", THRESHOLD, "Highest threshold within 0.001 of the best."),
    "code": ("Code", None, None),
    "title": ("Name", None, "ICD-10-CM title."),
    "support": ("Support", None, "Notes that carry the code."),
    "f1_gap": ("F1 gap", GAP, "Candidate − reference."),
    "candidate_f1": ("F1, candidate", F1, None),
    "reference_f1": ("F1, reference", F1, None),
    "candidate_precision": ("Precision, candidate", F1, None),
    "reference_precision": ("Precision, reference", F1, None),
    "candidate_recall": ("Recall, candidate", F1, None),
    "reference_recall": ("Recall, reference", F1, None),
    "mean_difference": ("Mean difference", SMALL, "Candidate − reference."),
    "max_abs_difference": ("Largest |difference|", SMALL, None),
    "abs_p50": ("Half within", SMALL, "Half of |difference| are below."),
    "abs_p99": ("99 % within", SMALL, "99 % of |difference| are below."),
    "decisions_flipped": ("Flipped", None, "Decisions that differ."),
    "decisions_gained": ("Gained", None, "Only the candidate assigns the code."),
    "decisions_lost": ("Lost", None, "Only the reference assigns the code."),
    "correlation": ("Correlation", F1, "Correlation of the code's logits between the runs."),
    "concept": ("Concept", None, None),
    "candidate_mean": ("Mean, candidate", F1, "Mean score over the notes, after the sigmoid."),
    "reference_mean": ("Mean, reference", F1, None),
    "crossed": ("Across 0.5", None, "Notes whose score lies on the other side of 0.5."),
    "note": ("Note", None, "The note's id, a digest of its text; its row where there is none."),
    "label": ("Label", None, "1: the note carries the code."),
    "candidate_probability": ("Probability, candidate", F1, None),
    "reference_probability": ("Probability, reference", F1, None),
    "difference": ("Difference", SMALL, "Candidate − reference, in logits."),
    "decision": (
        "Decision",
        None,
        "gained: only the candidate assigns the code; lost: only the reference; same: both or neither.",
    ),
    "policy": ("Policy", None, None),
    "max_abs": ("Largest", SMALL, "Largest |difference| from FP64, in logits."),
    "p99_abs": ("99 % within", SMALL, "99 % of |difference| are below."),
    "median_abs": ("Median", SMALL, None),
    "rms": ("Root mean square", SMALL, "Of the differences, in logits."),
    "flips": ("Flips", None, "Decisions at 0.5 that are not FP64's."),
    "interventions": ("Interventions", None, "What was changed in the pipeline here."),
    "explained": ("Explained", "percent", "Share of the squared difference that is gone."),
    "max_abs_residual": ("Largest left", SMALL, "Largest |difference| that remains, in logits."),
    "rms_residual": ("Root mean square left", SMALL, "Of the differences that remain, in logits."),
    "distance": ("Distance", "%.2f", "From the reported scores, in sampling errors (root mean square)."),
    "notes": ("Notes", None, None),
    "macro_f1@0.5": ("Macro F1 @0.5", F1, None),
    "micro_f1@0.5": ("Micro F1 @0.5", F1, None),
    "best_threshold": ("Best threshold", THRESHOLD, None),
    "tuned_macro_f1": ("Macro F1, tuned", F1, None),
    "tuned_micro_f1": ("Micro F1, tuned", F1, None),
    "name": ("Module", None, None),
    "kind": ("Kind", None, None),
    "mean": ("Mean", MEASURED, "Of the module's output, as the three that follow."),
    "std": ("Standard deviation", MEASURED, None),
    "absmax": ("Largest |value|", MEASURED, None),
    "relative_error": (
        "Relative error",
        SMALL,
        "Of the output against the reference, root mean square; empty: not finite.",
    ),
    "input_error": ("Of its input", SMALL, "Relative error of what came in; empty for token ids."),
    "inherited_error": (
        "Inherited",
        SMALL,
        "What the input's error alone does to the output: the reference's module on these inputs.",
    ),
    "own_error": ("Own", SMALL, "What the module itself adds."),
    "excess": (
        "Own / rounding",
        "%.2f",
        "Own error over what rounding in this format explains: about 1 or less is rounding.",
    ),
    "seconds": ("Seconds", "%.1f", "Of the forward passes, on this machine."),
    "non_finite": ("Not finite", None, "Values that are NaN or infinite; left out of the other columns."),
    "non_finite_cells": ("Not finite", None, "NaN or infinite in either run; left out of the statistics."),
    "stand_in_cells": (
        "Stored 0 or 1",
        None,
        "A probability of 0 or 1 has no logit; left out of the differences.",
    ),
}
