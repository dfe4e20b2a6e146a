"""The fingerprint: what it knows, what it does not, and what equal or unequal bits say of two runs."""

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.analysis.comparison import compare, comparison_json
from shifamind_core.analysis.fingerprint import bitwise_verdict, fingerprint
from shifamind_core.analysis.rounding import rounding_json
from shifamind_core.report.provenance import provenance
from shifamind_core.runs.manifest import Manifest, PolicyRecord
from shifamind_core.runs.run import Run
from tests.support import strategies

BITWISE = Manifest(policy=PolicyRecord(name="bitwise", bitwise=True))


def bitwise_runs() -> st.SearchStrategy[Run]:
    return strategies.runs(manifest=BITWISE)


@st.composite
def cells(draw) -> tuple[Run, tuple[int, int]]:
    run = draw(bitwise_runs())
    rows, columns = run.logits.shape
    return run, (draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1)))


def reordered(run: Run, order: np.ndarray) -> Run:
    assert run.document_ids is not None and run.labels is not None
    return replace(
        run, logits=run.logits[order], labels=run.labels[order], document_ids=run.document_ids[order]
    )


def one_bit_away(run: Run, cell: tuple[int, int]) -> Run:
    bits = run.logits.view(np.uint32).copy()
    bits[cell] ^= 1
    return replace(run, logits=bits.view(np.float32))


@given(bitwise_runs(), st.randoms(use_true_random=False))
def test_the_order_of_the_notes_does_not_matter(run, random):
    order = np.array(random.sample(range(run.documents), run.documents))
    assert fingerprint(reordered(run, order)) == fingerprint(run)
    ids = np.zeros_like(run.document_ids)  # not even where ids do not tell the notes apart
    assert fingerprint(reordered(replace(run, document_ids=ids), order)) == fingerprint(
        replace(run, document_ids=ids)
    )


@given(cells())
def test_one_bit_a_code_a_note_or_its_id_changes_it_and_names_and_labels_do_not(run_and_cell):
    run, cell = run_and_cell
    found = fingerprint(run)
    assert found is not None and len(found) == 64
    assert fingerprint(one_bit_away(run, cell)) != found
    assert fingerprint(replace(run, codes=("other", *run.codes[1:]))) != found
    ids = run.document_ids.copy()
    ids[cell[0]] += 1
    assert fingerprint(replace(run, document_ids=ids)) != found
    assert fingerprint(replace(run, name="elsewhere", labels=None)) == found
    if run.documents > 1:
        assert fingerprint(reordered(run, np.arange(run.documents - 1))) != found


def test_zero_and_minus_zero_are_not_the_same_bits():
    one = Run(np.zeros((1, 1), np.float32), codes=("A",), document_ids=np.array([1]), manifest=BITWISE)
    assert fingerprint(one) != fingerprint(replace(one, logits=-one.logits))


@given(bitwise_runs())
def test_there_is_none_where_equal_bits_are_not_to_be_expected(run):
    for policy in (None, PolicyRecord(), PolicyRecord(name="fp32", bitwise=False)):
        assert fingerprint(replace(run, manifest=Manifest(policy=policy))) is None
    assert fingerprint(replace(run, codes=None)) is None
    assert fingerprint(replace(run, document_ids=None)) is None
    assert fingerprint(replace(run, logits=run.logits.astype(np.float64))) is None


def test_the_format_does_not_change_unseen():
    """Colleagues with another release must come to the same line."""
    run = Run(
        np.array([[1.5, -2.0], [0.0, 3.25]], np.float32),
        codes=("A", "B"),
        document_ids=np.array([7, -3]),
        manifest=BITWISE,
    )
    content = b'["shifamind-fingerprint/1", ["A", "B"], [2, 2]]'
    content += struct.pack("<qq", -3, 7) + struct.pack("<4f", 0.0, 3.25, 1.5, -2.0)
    assert fingerprint(run) == hashlib.sha256(content).hexdigest()


@given(cells())
def test_equal_bits_and_unequal_ones_both_clear_the_gpu(run_and_cell):
    run, cell = run_and_cell
    changed = one_bit_away(run, cell)
    equal, unequal = bitwise_verdict(run, run) or "", bitwise_verdict(run, changed) or ""
    assert f"all {run.logits.size:,} logits are equal in every bit" in equal
    assert f"1 of {run.logits.size:,} logits differ" in unequal and "weights, tokens" in unequal
    found = comparison_json(compare(run, changed))
    assert unequal in found["remarks"]
    assert found["fingerprint"] == {
        "candidate": fingerprint(run),
        "reference": fingerprint(changed),
        "equal": False,
    }
    assert comparison_json(compare(run, run))["fingerprint"]["equal"] is True


@given(bitwise_runs())
def test_nothing_is_said_unless_both_runs_are_bitwise(run):
    other = replace(run, manifest=Manifest())
    assert bitwise_verdict(run, other) is bitwise_verdict(other, run) is None
    found = comparison_json(compare(run, other))
    assert found["fingerprint"] == {"candidate": fingerprint(run), "reference": None, "equal": None}
    assert not any("bitwise" in remark for remark in found["remarks"])


def test_runs_that_are_not_aligned_are_no_pair():
    one = Run(np.zeros((2, 1), np.float32), manifest=BITWISE)
    with pytest.raises(ValueError, match="shapes differ"):
        bitwise_verdict(one, Run(np.zeros((3, 1), np.float32), manifest=BITWISE))


def test_every_row_of_a_report_carries_it():
    run = Run(np.zeros((1, 1), np.float32), codes=("A",), document_ids=np.array([1]), manifest=BITWISE)
    assert provenance(run)["fingerprint"] == fingerprint(run)
    assert provenance(replace(run, manifest=Manifest()))["fingerprint"] is None


def test_what_rounding_changed_is_counted_against_bitwise():
    labels = np.array([[1, 0], [1, 1]], np.uint8)
    exact = Run(
        np.array([[1.0, -1.0], [1e-6, 1.0]], np.float32),
        codes=("A", "B"),
        labels=labels,
        document_ids=np.array([1, 2]),
        manifest=BITWISE,
    )
    usual = replace(
        exact, logits=np.array([[1.0, -1.0], [-1e-6, 1.0]], np.float32), manifest=Manifest()
    )  # one decision of code A, which falls from F1 1 to 2/3; micro from 1 to 4/5
    found = rounding_json(compare(usual, exact))
    assert (found["decisions_flipped"], found["decisions"], found["documents"]) == (1, 4, 2)
    assert found["macro_f1"]["gap"] == pytest.approx(-1 / 6)
    assert found["micro_f1"]["gap"] == pytest.approx(-1 / 5)
    assert found["fingerprint"] == fingerprint(exact)
    assert "changed 1 of 4 decisions, macro F1 by -0.1667, micro F1 by -0.2000" in found["explanation"]
    assert "more than 2.0e-06" in found["explanation"]
    same = rounding_json(compare(exact, exact))["explanation"]
    assert same.startswith("This machine's rounding changed 0 of 4 decisions; no logit moved")
    with pytest.raises(ValueError, match="against a run under bitwise"):
        rounding_json(compare(exact, usual))
