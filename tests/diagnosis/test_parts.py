"""What is explained in a part of the rows or codes, where all the rest is equal."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, log_expit

from shifamind_core.diagnosis.diagnose import diagnose
from simulation import planted
from simulation.planted import with_logits

REFERENCE = planted.synthetic_run(300, seed=4)
HALF = slice(150, 300)


def changed(rows: slice, columns: object, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    logits = REFERENCE.logits.copy()
    logits[rows, columns] = change(logits[rows, columns])
    return logits


def shuffled(block: np.ndarray) -> np.ndarray:
    return block[:, np.random.default_rng(0).permutation(block.shape[1])]


CASES = {
    "columns in another order": (HALF, slice(None), shuffled, "code_order"),
    "columns rotated": (HALF, slice(None), lambda block: np.roll(block, 1, axis=1), "code_order"),
    "two columns swapped": (HALF, [1, 3], lambda block: block[:, ::-1], "code_order"),
    "sigmoid of some rows": (HALF, slice(None), expit, "probabilities_as_logits"),
    "sigmoid of some codes": (slice(None), slice(10, 20), expit, "probabilities_as_logits"),
    "log sigmoid": (HALF, slice(None), log_expit, "score_map"),
    "three decimals": (HALF, slice(None), lambda block: np.round(block, 3), "stored_precision"),
    "one decimal": (HALF, slice(None), lambda block: np.round(block, 1), "stored_precision"),
    "one decimal of some codes": (slice(None), slice(10, 20), lambda block: np.round(block, 1), "stored_precision"),
    "half precision": (HALF, slice(None), lambda block: block.astype(np.float16), "stored_precision"),
    "half as large": (slice(200, 300), slice(None), lambda block: block / 2, "score_map"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_part_is_named_with_its_place_and_rounding_is_ruled_out(name: str, turned: bool) -> None:
    rows, columns, change, cause = CASES[name]
    pair = with_logits(REFERENCE, changed(rows, columns, change)), REFERENCE
    diagnosis = diagnose(*(pair[::-1] if turned else pair))
    best = diagnosis.findings[0]
    assert (best.cause, best.status) == (cause, "confirmed")
    touched = np.arange(300)[rows]
    assert best.evidence["part"]["first"] == touched[0] and best.evidence["part"]["last"] == touched[-1]
    assert "and nowhere else" in best.meaning
    if len(touched) < 300:
        assert f"rows {touched[0]}–{touched[-1]}" in best.meaning
    assert diagnosis.finding("numerics").status == "ruled_out"


def test_other_notes_in_a_part_are_no_exact_match() -> None:
    other = planted.synthetic_run(300, seed=4, notes=9).logits
    logits = REFERENCE.logits.copy()
    logits[HALF] = other[HALF]
    findings = diagnose(with_logits(REFERENCE, logits), REFERENCE).findings
    assert not [one for one in findings if one.status == "confirmed" and "part" in one.evidence]


def test_rounding_of_every_code_is_no_calibration() -> None:
    """Scores that became one are told apart by no threshold."""
    logits = np.round(REFERENCE.logits.astype(np.float64), 1) + np.arange(50) / 7
    findings = diagnose(with_logits(REFERENCE, logits.astype(np.float32)), REFERENCE).findings
    assert not [one for one in findings if one.cause == "calibration_shift" and one.status == "confirmed"]


def test_notes_under_other_ids_are_looked_at_in_place() -> None:
    """Rows that were matched by their contents have no id in common."""
    logits = changed(HALF, slice(None), lambda block: np.round(block, 3))
    ours = with_logits(REFERENCE, logits, document_ids=np.arange(300) + 10**6)
    other = with_logits(REFERENCE, REFERENCE.logits, document_ids=np.arange(300))
    diagnosis = diagnose(ours, other)
    assert ("stored_precision", "confirmed") in [(one.cause, one.status) for one in diagnosis.findings]
    elsewhere = planted.synthetic_run(300, seed=4, notes=2).logits.copy()
    elsewhere[:150] = REFERENCE.logits[:150]
    assert diagnose(with_logits(ours, elsewhere, document_ids=ours.document_ids), other).findings
