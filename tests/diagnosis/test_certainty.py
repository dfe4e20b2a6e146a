"""What sounds like proof is proof: situations in which a diagnosis was surer than its evidence."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from shifamind_core.diagnosis.diagnose import Diagnosis, diagnose
from shifamind_core.runs.manifest import CAPTURED, Manifest
from shifamind_core.runs.probability import logits_of
from shifamind_core.runs.run import Run
from simulation import planted

RUN = replace(
    planted.synthetic_run(300, seed=3),
    manifest=Manifest(),
    token_digests=None,
    document_ids=np.arange(300, dtype=np.int64) * 7919,
)


def of_probabilities(values: np.ndarray) -> Run:
    logits, note = logits_of(values)
    return replace(RUN, logits=logits, manifest=Manifest(logits_from_probabilities=True, notes=(note,)))


def statuses(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.cause: finding.status for finding in diagnosis.findings}


def test_scores_set_to_zero_are_a_difference() -> None:
    scores = expit(RUN.logits.astype(np.float64))
    below = scores < np.quantile(scores, 0.25)
    diagnosis = diagnose(of_probabilities(np.where(below, 0, scores).astype(np.float32)), RUN)
    first = diagnosis.findings[0]
    assert (first.cause, first.status) == ("stored_precision", "confirmed")
    assert f"{below.sum():,} of {below.size:,}" in first.numbers
    assert "identical" not in statuses(diagnosis)


def test_noise_below_a_step_is_not_how_a_file_was_saved() -> None:
    rng = np.random.default_rng(0)
    moved = RUN.logits + rng.normal(0, 3e-7, RUN.logits.shape)
    diagnosis = diagnose(of_probabilities(np.round(expit(moved), 6).astype(np.float32)), RUN)
    stored = next(finding for finding in diagnosis.findings if finding.cause == "stored_precision")
    assert "6 decimals" in stored.numbers and "FP32" not in stored.numbers
    assert statuses(diagnosis).get("numerics") != "ruled_out"


@pytest.mark.parametrize("captured", [False, True])
def test_ids_say_that_notes_are_the_same_where_they_are_digests(captured: bool) -> None:
    manifest = Manifest(producer=f"{CAPTURED} 1") if captured else Manifest()
    runs = [
        replace(RUN, logits=RUN.logits[order], manifest=manifest)
        for order in (slice(None), slice(None, None, -1))
    ]
    found = statuses(diagnose(*runs))
    assert found["missing_documents"] == "ruled_out"
    assert (found.get("different_documents") == "ruled_out") is captured
    assert statuses(diagnose(runs[0], runs[0]))["different_documents"] == "ruled_out"


def test_an_overflow_is_not_called_no_matter_of_precision() -> None:
    logits = RUN.logits.copy()
    logits[:3] = np.nan
    diagnosis = diagnose(replace(RUN, logits=logits), RUN)
    assert diagnosis.to_json()["answer"] == "It was scores that are not numbers."
    equal = next(finding for finding in diagnosis.findings if finding.cause == "identical")
    assert "that are numbers in both runs" in equal.numbers


def test_how_few_is_counted_where_a_few_are_only_likely() -> None:
    rng = np.random.default_rng(1)
    size = np.where(np.arange(len(RUN.logits)) % 20, 0.002, 0.8)[:, None]
    diagnosis = diagnose(
        replace(RUN, logits=(RUN.logits + size * rng.normal(size=RUN.logits.shape)).astype(np.float32)), RUN
    )
    few = next(finding for finding in diagnosis.findings if finding.cause == "few_documents_changed")
    assert few.status != "confirmed" and "All changed at least a little" in few.meaning
