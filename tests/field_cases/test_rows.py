"""Rows that were repeated, filled, left out, sorted or cut into windows on their way into the file."""

from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.runs.run import Run
from simulation.planted import synthetic_run

NOTES, CODES = 1000, 26
IDS = np.random.default_rng(5).integers(-(2**62), 2**62, NOTES)
REFERENCE = replace(synthetic_run(NOTES, CODES, seed=3), document_ids=IDS)


def bare(run: Run) -> Run:
    """Scores, labels and codes, as most loops save them."""
    return replace(run, document_ids=None, token_counts=None)


def causes(diagnosis: dict) -> dict[str, str]:
    """What is not ruled out, strongest first, with its status."""
    return {f["cause"]: f["status"] for f in diagnosis["findings"] if f["status"] != "ruled_out"}


def explanation(diagnosis: dict, cause: str) -> str:
    return next(f["explanation"] for f in diagnosis["findings"] if f["cause"] == cause)


@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without"])
def test_case_01_ddp_padding_duplicates(command, write, ids):
    rows = np.r_[0:NOTES, 0:24]
    padded, reference = REFERENCE.select(rows=rows), REFERENCE
    if not ids:
        padded, reference = bare(padded), bare(reference)
    candidate, other = write("padded", padded), write("reference", reference)

    said = command("evaluate", candidate)
    if ids:
        assert (said["repeated_ids"]["repeated"], said["repeated_ids"]["rows"]) == (24, 48)
        assert any("24 of them occur twice" in remark for remark in said["remarks"])
    else:
        assert any("24 of 1,024 rows repeat an earlier row" in remark for remark in said["remarks"])
    found = command("diagnose", candidate, other)
    assert causes(found) == {"repeated_documents": "confirmed", "identical": "confirmed"}
    assert "The last 24 rows of the candidate repeat the first 24 rows" in explanation(
        found, "repeated_documents"
    )
    compared = command("compare", candidate, other)
    assert (compared["aligned_documents"], compared["max_abs_difference"]) == (NOTES, 0)


def test_case_03_sorted_by_length(command, write):
    order = np.argsort(REFERENCE.token_counts, kind="stable")
    candidate = bare(replace(REFERENCE, logits=REFERENCE.logits[order]))
    found = command(
        "diagnose", write("sorted", candidate), write("reference", replace(REFERENCE, document_ids=None))
    )
    assert found["cause"] == "document_order" and causes(found)["document_order"] == "confirmed"
    text = explanation(found, "document_order")
    right, wrong = (evaluate(run).fixed.macro_f1 for run in (REFERENCE, candidate))
    assert "sorted by length" in text and f"from {wrong:.4f} to {right:.4f}" in text


def test_case_18_one_row_a_window(command, write):
    random = np.random.default_rng(0)
    whole = REFERENCE.select(rows=np.arange(500))
    rows = np.repeat(np.arange(500), random.integers(1, 6, 500))
    shaken = whole.logits[rows] + random.normal(0, 0.8, (len(rows), CODES))
    windows = replace(whole.select(rows=rows), logits=shaken.astype(np.float32))
    candidate, reference = write("windows", windows), write("whole", whole)

    assert any(
        f"{len(rows):,} rows carry 500 document ids" in remark
        for remark in command("evaluate", candidate)["remarks"]
    )
    compared = command("compare", candidate, reference)
    assert any("notes were compared with one window of them" in remark for remark in compared["remarks"])
    found = command("diagnose", candidate, reference)
    assert found["cause"] == "repeated_documents" and "different_documents" not in causes(found)


def test_case_22_padded_with_minus_100(command, write, tmp_path):
    fill = np.full((24, CODES), -100, np.float32)
    padded = replace(
        bare(REFERENCE),
        logits=np.vstack([REFERENCE.logits, fill]),
        labels=np.vstack([REFERENCE.labels, np.zeros((24, CODES), np.uint8)]),
    )
    candidate = write("padded", padded)
    said = "24 of 1,024 rows are -100 throughout, first row 1,000"
    assert any(said in remark for remark in command("evaluate", candidate)["remarks"])
    found = command("diagnose", candidate, write("reference", bare(REFERENCE)))
    assert causes(found) == {"repeated_documents": "confirmed", "identical": "confirmed"}
    assert "hold -100 in every code: a fill" in explanation(found, "repeated_documents")

    labels = np.vstack([REFERENCE.labels.astype(np.float32), fill])
    np.savez(tmp_path / "labels.npz", predictions=padded.logits, label_ids=labels)
    line = command("evaluate", tmp_path / "labels.npz")
    assert "24 of 1,024 rows of labels are -100 throughout, the first at note 1000" in line


@pytest.mark.parametrize("shuffled", [True, False])
def test_case_27_last_batch_dropped(command, write, shuffled):
    rows = np.random.default_rng(1).permutation(NOTES)[:992] if shuffled else np.arange(992)
    found = command(
        "diagnose", write("dropped", bare(REFERENCE).select(rows=rows)), write("all", bare(REFERENCE))
    )
    expected = ["missing_documents", *(["document_order"] if shuffled else []), "identical"]
    assert causes(found) == dict.fromkeys(expected, "confirmed")
    text = explanation(found, "missing_documents")
    assert "8 rows" in text and "All 992 notes that it holds are in the reference" in text
    if shuffled:
        assert "The labels moved with" in explanation(found, "document_order")
    else:
        assert "leaves out the last 8 rows" in text and "It holds the first 992" in text


@pytest.mark.parametrize("noise", [0, 1e-3])
def test_case_43_label_columns_moved_in_some_rows(command, write, noise):
    labels = REFERENCE.labels.copy()
    labels[600:] = np.roll(labels[600:], 1, axis=1)
    wrong = np.count_nonzero(labels != REFERENCE.labels)
    logits = REFERENCE.logits + np.random.default_rng(2).normal(0, noise, REFERENCE.logits.shape)
    candidate = replace(REFERENCE, labels=labels, logits=logits.astype(np.float32))
    found = command("diagnose", write("moved", candidate), write("reference", REFERENCE))
    assert found["cause"] == "different_labels" and causes(found)["different_labels"] == "confirmed"
    assert f"{wrong:,} of 26,000 labels differ" in explanation(found, "different_labels")
    assert list(causes(found))[1] == ("numerics" if noise else "identical")
