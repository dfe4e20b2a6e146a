"""Which notes and codes the runs hold, in which order, and which of them changed: exact matchers on planted faults."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.diagnosis.evidence.aligned_logits import Pair
from shifamind_core.diagnosis.exact import order, order_names
from shifamind_core.diagnosis.exact.rows import reason_of_ids
from shifamind_core.diagnosis.exact.subsets import length_rule
from shifamind_core.runs.manifest import CheckpointRecord, Manifest, TokenizationRecord
from shifamind_core.runs.run_file import read_run_file
from simulation import planted
from simulation.planted import Planted, with_logits
from tests.support.examined import examined, found

REFERENCE = planted.synthetic_run(900, seed=3)
LENGTHS, LABELS = REFERENCE.token_counts, REFERENCE.labels
assert LENGTHS is not None and LABELS is not None
OTHER_NOTES = planted.synthetic_run(900, seed=3, notes=1)
ROWS = list(planted.plant_rows(REFERENCE, 5))
ORDERS = [
    case
    for plant in (planted.plant_document_order, planted.plant_code_order, planted.plant_both_orders)
    for case in plant(REFERENCE, 5)
]
FEW = [
    case
    for case in planted.plant_few(REFERENCE, 5)
    if "noise" not in case.variant or case.variant.endswith("noise 0")
]
DATA = [
    case for case in planted.plant_other_data(REFERENCE, OTHER_NOTES, 5) if case.variant != "another split"
]
REFERENCES = Path(__file__).parents[2] / "shifamind_core" / "demo" / "data" / "references"
IDS = np.random.default_rng(0).integers(-(2**63), 2**63, 900)


def name(case: Planted) -> str:
    return f"{case.cause}: {case.variant}"


@pytest.mark.parametrize("case", [*ROWS, *ORDERS, *FEW, *DATA], ids=name)
def test_a_planted_fault_is_found_first_and_what_was_planted_beside_it_too(case: Planted) -> None:
    causes = list(found(case.candidate, case.reference))
    expected = {case.cause, *case.also} - {"numerics"}
    assert causes[0] in expected
    assert expected <= set(causes)


@pytest.mark.parametrize("case", [*ROWS, *ORDERS, *FEW, *DATA], ids=name)
def test_what_was_planted_is_never_ruled_out(case: Planted) -> None:
    ruled_out = {
        f.cause for f in examined(case.candidate, case.reference).findings if f.status == "ruled_out"
    }
    assert not ruled_out & {case.cause, *case.also}


@pytest.mark.parametrize("case", [*ROWS, *ORDERS], ids=name)
def test_only_equal_values_confirm(case: Planted) -> None:
    exact = not any(word in case.variant for word in ("noise", "BF16"))
    finding = found(case.candidate, case.reference).get(case.cause)
    if finding is not None:
        assert (finding.status == "confirmed") == exact


@pytest.mark.parametrize(
    "case",
    [*planted.plant_dense(REFERENCE, OTHER_NOTES, 5), *planted.plant_calibration(REFERENCE, 5)],
    ids=name,
)
def test_changes_of_every_score_are_handed_on(case: Planted) -> None:
    causes = set(found(case.candidate, case.reference))
    assert causes <= {case.cause, *case.also} & {"document_order", "code_order"}


def test_a_run_differs_from_itself_in_nothing() -> None:
    assert not found(REFERENCE, REFERENCE)


# --- rows


def rows_of(run, rows):
    return replace(run.select(rows=np.asarray(rows)), name="candidate")


@pytest.mark.parametrize("ids", [None, IDS])
def test_a_samplers_padding_is_counted_and_placed(ids) -> None:
    reference = replace(REFERENCE, document_ids=ids)
    finding = found(rows_of(reference, np.append(np.arange(900), np.arange(24))), reference)[
        "repeated_documents"
    ]
    assert (finding.status, finding.share) == ("confirmed", 1.0)
    assert finding.numbers == "The last 24 rows of the candidate repeat the first 24 rows."


def test_a_copy_that_follows_its_original_is_a_copy() -> None:
    rows = np.sort(np.append(np.arange(900), [7, 30, 31, 500]))
    finding = found(rows_of(replace(REFERENCE, document_ids=IDS), rows), replace(REFERENCE, document_ids=IDS))
    told = finding["repeated_documents"]
    assert told.evidence["candidate"]["kind"] == "repeats" and "other scores" not in told.numbers


def test_the_last_batch_dropped_is_placed() -> None:
    finding = found(rows_of(REFERENCE, np.arange(892)), REFERENCE)["missing_documents"]
    assert (
        "leaves out the last 8 rows of the reference's 900 notes. It holds the first 892." in finding.numbers
    )
    assert "other notes" not in finding.explanation


def test_fill_is_named_where_a_row_for_it_stands_in_both() -> None:
    logits = REFERENCE.logits.copy()
    logits[-24:] = -100
    finding = found(with_logits(REFERENCE, logits), REFERENCE)["repeated_documents"]
    assert finding.numbers.startswith("The last 24 rows of the candidate hold -100 in every code")


def test_windows_are_told_from_repeats() -> None:
    case = next(case for case in ROWS if case.variant == "a row a window")
    finding = found(case.candidate, case.reference)["repeated_documents"]
    assert finding.evidence["candidate"]["kind"] == "windows"
    assert "Each note was compared by its first row." in finding.numbers


@pytest.mark.parametrize("processes", [2, 3, 7, 8])
@pytest.mark.parametrize("cut", [False, True])
def test_rows_dealt_to_processes_are_named_whatever_is_left_over(processes: int, cut: bool) -> None:
    total = -(-893 // processes) * processes
    reference = rows_of(REFERENCE, np.arange(893))
    dealt = planted.interleaved(total, processes) % 893
    finding = found(rows_of(reference, dealt[:893] if cut else dealt), reference)["document_order"]
    assert finding.status == "confirmed"
    assert (finding.evidence["kind"], finding.evidence["processes"]) == ("interleaved", processes)


def test_notes_that_changed_beyond_recognition_are_not_called_others_for_sure() -> None:
    order_ = np.random.default_rng(0).permutation(900)
    mixed = np.vstack([REFERENCE.logits[:880], OTHER_NOTES.logits[880:]])[order_]
    finding = found(with_logits(REFERENCE, mixed, labels=None), REFERENCE)["different_documents"]
    assert finding.probability == 0.5
    assert "changed beyond recognition" in finding.numbers


# --- ids


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (IDS // 4, (IDS // 4).astype(np.float64).astype(np.int64), "cut"),
        (np.arange(5), np.array([text_digest(f"{n}.0".encode()) for n in range(5)]), "with a decimal point"),
        (
            np.array([text_digest(f"{n:06d}".encode()) for n in range(5)]),
            np.arange(5),
            "leading zeros, 6 digits",
        ),
        (IDS, np.array([text_digest(f"{n % 2**64:016x}".encode()) for n in IDS.tolist()]), "hexadecimal"),
        (IDS, IDS.byteswap(), "in another order"),
        (np.arange(5) + 3, np.arange(5), "counted from another number"),
        (IDS, IDS ^ 5, ""),
    ],
)
def test_why_ids_differ_is_said_where_it_can_be_seen(mine, theirs, said) -> None:
    reason = reason_of_ids(mine, theirs)
    assert said in reason and bool(said) == bool(reason)


def test_equal_token_ids_say_that_the_texts_differ_in_what_nobody_reads() -> None:
    reference = replace(REFERENCE, document_ids=IDS, token_digests=IDS[::-1])
    finding = found(replace(reference, document_ids=IDS ^ 2**40), reference)["document_ids"]
    assert (finding.status, finding.evidence["same_tokens"]) == ("confirmed", True)
    assert "line ends" in finding.numbers


def test_a_false_partner_among_many_is_no_fault() -> None:
    """Other casing under other ids, as recorded on a GPU: one pair of 1,000 is wrong, and nothing is made of it."""
    upper, lower = (read_run_file(REFERENCES / f"h200-{kind}-test.safetensors") for kind in ("cased", "fp32"))
    assert lower.document_ids is not None
    bare = [replace(run, token_digests=None) for run in (upper, lower)]
    causes = found(replace(bare[0], document_ids=lower.document_ids ^ 5), bare[1])
    assert {cause for cause, finding in causes.items() if finding.probability > 0.5} == {"document_ids"}


def test_a_few_texts_that_come_up_again_make_no_order_of_other_notes() -> None:
    """Other notes of the same kind: short ones are alike, in one run as often as between the two."""
    mine, theirs = OTHER_NOTES.logits[:300].copy(), REFERENCE.logits[:300].copy()
    mine[[7, 40, 120]], mine[[8, 41]], theirs[[9, 200]] = theirs[[70, 11, 5]], mine[[9, 42]], theirs[[3, 4]]
    runs = [
        replace(run, logits=logits, labels=None, token_counts=None)
        for run, logits in ((OTHER_NOTES, mine), (REFERENCE, theirs))
    ]
    assert not found(*runs)
    mine[20:60] = theirs[100:140]  # forty notes of the same split
    assert found(replace(runs[0], logits=mine), runs[1])["document_order"].status == "confirmed"


# --- orders


@given(order_of=st.permutations(range(12)))
def test_every_column_is_found_again(order_of: list[int]) -> None:
    logits = REFERENCE.logits[:, :12].astype(np.float64)
    partner = order.closed(order.columns_by_notes(Pair(logits[:, order_of], logits)))
    assert (list(range(12)) if partner is None else partner.tolist()) == list(order_of)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (planted.shifted(100, 40, 3)[:97], "shift"),
        (np.roll(np.arange(100), -7), "rotation"),
        (np.arange(100)[::-1], "reversed"),
        (planted.interleaved(100, 4), "interleaved"),
        (np.argsort(planted.interleaved(100, 4)), "interleaved"),
        (planted.interleaved(100, 7), "interleaved"),
        (planted.swapped_blocks(100, np.random.default_rng(1)), "blocks"),
        (np.random.default_rng(1).permutation(100), "permutation"),
    ],
)
def test_an_order_is_called_by_its_name(rows: np.ndarray, kind: str) -> None:
    assert order_names.describe_rows(rows)[1]["kind"] == kind


def test_rows_sorted_by_length_are_told_and_the_scores_come_back() -> None:
    rows = np.argsort(LENGTHS, kind="stable")
    finding = found(with_logits(REFERENCE, REFERENCE.logits[rows]), REFERENCE)["document_order"]
    assert (finding.status, finding.evidence["kind"]) == ("confirmed", "sorted_by_length")
    assert finding.evidence["labels_moved_along"] is False
    assert finding.evidence["scores_once_undone"] == finding.evidence["scores_of_reference"]
    assert finding.evidence["scores"]["macro_f1"] < finding.evidence["scores_of_reference"]["macro_f1"]


def test_labels_that_moved_along_are_no_fault_of_the_labels() -> None:
    moved = rows_of(REFERENCE, np.random.default_rng(0).permutation(900))
    examination = examined(moved, REFERENCE)
    finding = examination.finding("document_order")
    assert finding is not None and finding.evidence["labels_moved_along"] is True
    assert examination.finding("different_labels") is None


def test_notes_matched_by_id_need_no_order() -> None:
    named = replace(REFERENCE, document_ids=np.arange(900))
    assert not found(rows_of(named, np.random.default_rng(0).permutation(900)), named)


@pytest.mark.parametrize("moved", [[0, 3], [1, 4, 7, 9], list(range(REFERENCE.logits.shape[1]))])
def test_an_order_of_codes_is_seen_in_the_notes_that_another_length_left_as_they_were(
    moved: list[int],
) -> None:
    """Long notes were cut earlier, so that most scores are others; in the short ones columns exchange places and no more."""
    rng = np.random.default_rng(3)
    long = np.quantile(LENGTHS, 0.3) < LENGTHS
    logits = np.where(long[:, None], rng.permutation(REFERENCE.logits) + 1, REFERENCE.logits)
    back = np.arange(REFERENCE.logits.shape[1])
    back[moved] = np.roll(moved, 1)
    causes = found(with_logits(REFERENCE, logits[:, back]), REFERENCE)
    assert (
        causes["code_order"].status == "confirmed"
        and causes["code_order"].evidence["permutation"].tolist() == back.tolist()
    )
    assert f"they are equal in {(~long).sum():,} of 900 notes." in causes["code_order"].numbers
    assert "code_order" not in found(with_logits(REFERENCE, logits), REFERENCE)


def test_values_that_meet_by_chance_in_a_few_notes_are_no_order_of_codes() -> None:
    """Coarse scores under noise: here and there a note holds the other's values, exchanged."""
    rng = np.random.default_rng(5)
    coarse = np.round(2 * rng.normal(size=(900, 5))) / 2
    noisy = np.round(2 * (coarse + rng.normal(scale=0.3, size=coarse.shape))) / 2
    kept = (np.sort(coarse) == np.sort(noisy)).all(axis=1)
    assert (kept & (coarse != noisy).any(axis=1)).sum() > 3
    assert order.closed(order.columns_of_unchanged_notes(Pair(noisy, coarse))) is None
    one = np.where(np.arange(900)[:, None] == 0, coarse[:, [1, 0, 2, 3, 4]], coarse + 10)
    assert order.closed(order.columns_of_unchanged_notes(Pair(one, coarse))) is None


def test_a_column_order_is_called_by_its_name() -> None:
    codes = ("C", "A", "B", "D")
    assert order_names.describe_columns(np.array([1, 2, 0, 3]), codes, None) == "alphabetical"
    assert order_names.describe_columns(np.array([3, 2, 1, 0]), None, None) == "reversed"
    assert order_names.describe_columns(np.array([2, 0, 3, 1]), None, np.array([5, 1, 9, 3])) == "frequency"


# --- labels


def test_label_columns_moved_in_some_rows_stand_before_rounding() -> None:
    labels = LABELS.copy()
    labels[100:200] = np.roll(labels[100:200], 1, axis=1)
    noisy = with_logits(REFERENCE, planted.rounding_noise(REFERENCE, 1e-3, 0), labels=labels)
    finding = found(noisy, REFERENCE)["different_labels"]
    assert finding.status == "confirmed" and finding.share > 0.9
    assert "in 100 notes" in finding.numbers


def test_labels_of_notes_that_nobody_knows_to_be_the_same_prove_nothing() -> None:
    finding = found(with_logits(OTHER_NOTES, OTHER_NOTES.logits), REFERENCE)["different_labels"]
    assert finding.probability == 0.5 and "these notes are others" in finding.numbers


def test_other_labels_that_each_runs_scores_fit_are_of_other_notes_whatever_the_ids_say() -> None:
    ids = {"document_ids": IDS}
    reference = with_logits(REFERENCE, REFERENCE.logits, **ids)
    named_alike = replace(OTHER_NOTES, **ids)
    finding = found(named_alike, reference)["different_labels"]
    assert finding.status == "likely" and "fit its own labels" in finding.numbers
    relabelled = with_logits(reference, reference.logits, labels=OTHER_NOTES.labels)
    assert found(relabelled, reference)["different_labels"].status == "confirmed"


# --- subsets


def changed_where(mask, **fields):
    return with_logits(REFERENCE, np.where(mask[:, None], OTHER_NOTES.logits, REFERENCE.logits), **fields)


def with_manifests(candidate, **tokenization):
    """Candidate and reference under manifests that differ in what is given as a pair."""
    runs = []
    for side, run in enumerate((candidate, REFERENCE)):
        known = {
            key: value[side] if isinstance(value, tuple) else value for key, value in tokenization.items()
        }
        runs.append(replace(run, manifest=Manifest(tokenization=TokenizationRecord(**known))))
    return runs


def test_long_notes_alone_name_a_family_and_no_member() -> None:
    causes = found(changed_where(LENGTHS > 512), REFERENCE)
    assert {cause: finding.status for cause, finding in causes.items()} == dict.fromkeys(
        ("max_length", "truncation_side", "input_changed"), "possible"
    )
    assert {round(finding.probability, 6) for finding in causes.values()} == {0.333333}
    assert all(finding.evidence["limit"] <= 512 for finding in causes.values())


def rounded(run, size=1e-4, where=True):
    """The run under another kernel: logits off by a few times 1e-4, in these notes."""
    return with_logits(
        run, np.where(np.reshape(where, (-1, 1)), planted.rounding_noise(run, size, 0), run.logits)
    )


@pytest.mark.parametrize(
    "where", [np.ones(900, bool), LENGTHS > 300], ids=["everywhere", "but in the shortest notes"]
)
def test_notes_that_only_rounding_moved_did_not_change_where_length_decides(where) -> None:
    cut = changed_where(LENGTHS > 512)
    causes = found(rounded(cut, where=where), REFERENCE)
    assert set(causes) == {"max_length", "truncation_side", "input_changed"}
    limit = LENGTHS[LENGTHS <= 512].max()
    for finding in causes.values():
        assert finding.evidence["limit"] == limit and 0.99 < finding.share < 1
        assert "by more than rounding could" in finding.numbers
    left = examined(rounded(cut, where=where), REFERENCE).logits
    assert left.documents == (LENGTHS <= 512).sum() and 0 < left.largest < 0.01


def test_changes_that_grow_from_the_limit_on_begin_at_the_limit() -> None:
    beyond = np.maximum(LENGTHS - 512, 0) / (LENGTHS.max() - 512)
    drawn = REFERENCE.logits + (beyond**3)[:, None] * (OTHER_NOTES.logits - REFERENCE.logits)
    causes = found(with_logits(REFERENCE, drawn.astype(np.float32)), REFERENCE)
    assert causes["max_length"].evidence["limit"] == LENGTHS[LENGTHS <= 512].max()
    assert "equal bit by bit" in causes["max_length"].numbers


def test_manifests_decide_between_ways_of_cutting() -> None:
    candidate = changed_where(LENGTHS > 512)
    causes = found(*with_manifests(candidate, max_length=(512, 1024)))
    assert causes["max_length"].status == "likely" and causes["max_length"].probability > 0.98
    causes = found(*with_manifests(candidate, max_length=512, truncation_side="right"))
    assert next(iter(causes)) == "input_changed"
    assert causes["input_changed"].probability > 0.98  # a manifest may be wrong: `prior.TRUST`
    assert "head and their tail" in causes["input_changed"].meaning


def test_short_notes_alone_are_padding_or_a_mask_ignored() -> None:
    candidate = changed_where(LENGTHS < 200)
    causes = found(candidate, REFERENCE)
    assert {c: f.probability for c, f in causes.items()} == {"padding": 0.5, "attention_mask_ignored": 0.5}
    fused = Manifest(checkpoint=CheckpointRecord(architecture="cls_fusion"))
    causes = found(replace(candidate, manifest=fused), replace(REFERENCE, manifest=fused))
    assert next(iter(causes)) == "attention_mask_ignored"
    assert causes["attention_mask_ignored"].probability > 0.98


def test_equal_notes_rule_out_what_spares_none() -> None:
    examination = examined(changed_where(np.arange(900) % 10 > 0), REFERENCE)
    out = {finding.cause for finding in examination.findings if finding.status == "ruled_out"}
    assert {"dropout_active", "weights_changed", "head_not_loaded", "encoder_not_loaded"} <= out
    assert not examination.explained  # a majority changed: no few notes


def test_notes_that_changed_as_their_token_ids_did_are_proof() -> None:
    changed = np.arange(900) % 10 > 0
    reference = replace(REFERENCE, token_digests=IDS)
    candidate = changed_where(changed, token_digests=np.where(changed, IDS ^ 1, IDS))
    finding = found(candidate, reference)["input_changed"]
    assert (finding.status, finding.share) == ("confirmed", 1.0)


def test_changes_that_rounding_could_make_are_handed_on() -> None:
    logits = REFERENCE.logits.copy()
    logits[-32:] *= np.float32(1 + 1e-6)
    examination = examined(with_logits(REFERENCE, logits), REFERENCE)
    assert not examination.explained and examination.finding("few_documents_changed") is None


def test_coarse_values_that_are_equal_by_chance_rule_nothing_out() -> None:
    few = REFERENCE.select(columns=np.arange(2))
    coarse = replace(few, logits=np.round(few.logits))
    other = with_logits(coarse, np.round(planted.rounding_noise(few, 0.3, 0)))
    assert not [f for f in examined(other, coarse).findings if f.cause == "dropout_active"]


@given(st.integers(1, 60), st.integers(20, 40))
def test_a_length_rule_holds_for_every_note(limit: int, notes: int) -> None:
    counts = np.random.default_rng(limit).integers(1, 60, notes)
    changed = counts > limit
    if not changed.any() or changed.all():
        return
    rule = length_rule(counts, changed, np.ones(notes))
    if rule is not None:
        assert rule.side == "long" and np.array_equal(counts > rule.limit, changed)
