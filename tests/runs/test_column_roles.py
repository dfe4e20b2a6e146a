"""What the columns of a table are: scores, labels, positions, or nothing that is read."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from shifamind_core.analysis.alignment import align
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.column_roles import WORDS, sort_out, word_and_code
from shifamind_core.runs.run import Run
from shifamind_core.runs.uploads import read_upload
from tests.support import foreign
from tests.support.foreign import CODES, LABELS, LOGITS, PROBABILITIES, csv, jsonl, npz, table, written
from tests.support.refused import refused


def read(content: bytes, name: str = "a.csv") -> Run:
    return read_upload(name, content)


def noted(run: Run, *words: str) -> bool:
    return any(all(word in note for word in words) for note in run.manifest.notes)


def named(form: str, values: np.ndarray = LOGITS, codes: tuple[str, ...] = CODES) -> pd.DataFrame:
    return table(values, [form.format(code) for code in codes], ids=False)


# Words beside a code


@pytest.mark.parametrize(
    "form",
    ["{}_prob", "prob_{}", "{}.probability", "p({})", "proba[{}]", "Prob {}", "y_prob_{}", "pred_{}_prob"],
)
def test_probabilities_of_a_code_are_read_as_the_code(form):
    run = read(csv(named(form, PROBABILITIES)))
    assert run.codes == CODES and run.manifest.logits_from_probabilities
    assert np.array_equal(expit(run.logits), PROBABILITIES)
    assert noted(run, repr(form.format("E785")), "as 'E785'", "26 columns")


@pytest.mark.parametrize(
    "form", ["{}_logit", "logit_{}", "logits {}", "LOGIT-{}", "prediction_{}", "{}_score", "y_score_{}"]
)
def test_logits_of_a_code_are_read_as_the_code(form):
    run = read(csv(named(form)))
    assert run.codes == CODES and np.array_equal(run.logits, LOGITS)
    assert noted(run, "as 'E785'") and run.manifest.logits_from_probabilities is None


def test_named_logits_between_0_and_1_stay_what_their_name_says():
    run = read(csv(named("logit_{}", PROBABILITIES)))
    assert np.array_equal(run.logits, PROBABILITIES) and run.manifest.logits_from_probabilities is None


def test_a_word_counts_only_where_it_is_the_rule_or_the_code_has_other_columns():
    codes = ("prob_53", *CODES[1:])
    assert read(csv(table(codes=codes))).codes == codes, "one odd name among many is a name"
    both = read(csv(table(codes=CODES), named("label_{}", LABELS[:, :26])))
    assert both.codes == CODES and np.array_equal(both.labels, LABELS)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_no_word_alone_is_taken_from_a_name(word):
    assert word_and_code(word) == (None, word)


# 0 and 1 are labels or decisions, never scores


@pytest.mark.parametrize("form", ["label_{}", "{}_true", "target_{}", "y_true_{}", "{}.gold"])
def test_columns_named_as_labels_are_labels(form):
    run = read(csv(table(PROBABILITIES), named(form, LABELS)))
    assert np.array_equal(run.labels, LABELS) and run.codes == CODES
    shuffled = named(form, LABELS).iloc[:, ::-1]
    assert np.array_equal(read(csv(table(PROBABILITIES), shuffled)).labels, LABELS)


@pytest.mark.parametrize("values", [LABELS, LABELS.astype(float), (PROBABILITIES > 0.5).astype(int)])
def test_plain_columns_of_0_and_1_beside_scores_are_never_scores_and_never_labels_by_guess(values):
    run = read(csv(named("{}_prob", PROBABILITIES), table(values, ids=False)))
    assert run.labels is None and np.array_equal(expit(run.logits), PROBABILITIES)
    assert noted(run, "Not read as scores", "0 and 1", "label_CODE")


def test_some_columns_of_0_and_1_among_scores_are_left_out_and_the_rest_is_a_part():
    values = PROBABILITIES.copy()
    values[:, [1, 3, 5, 7]] = LABELS[:, [1, 3, 5, 7]]
    run = read(csv(table(values)))
    assert run.logits.shape[1] == 22 and run.codes_of == 26 and "I10" not in run.codes
    assert noted(run, "Not read as scores", "'I10'")


def test_a_code_that_no_note_comes_near_is_0_throughout_and_stays_a_score():
    values = PROBABILITIES.copy()
    values[:, 4] = 0
    run = read(csv(table(values)))
    assert run.codes == CODES and noted(run, "0 throughout", "'0088'")


@pytest.mark.parametrize("form", ["{}", "{}_prob", "pred_{}", "decision_{}"])
def test_a_table_of_nothing_but_0_and_1_is_refused(form):
    with refused("nothing but 0 and 1", "before thresholding"):
        read(csv(table(LABELS, [form.format(code) for code in CODES])))


def test_integer_and_boolean_columns_of_a_parquet_file_are_labels_where_they_say_so():
    for kind in (np.int64, bool, np.uint8):
        parts = pd.concat([table(), named("label_{}", LABELS.astype(kind))], axis=1)
        run = read(foreign.written(parts.to_parquet), "a.parquet")
        assert np.array_equal(run.labels, LABELS) and np.array_equal(run.logits, LOGITS)
    counts = pd.concat([table(), pd.DataFrame({"tokens": np.arange(len(LOGITS))})], axis=1)
    with refused("'tokens' holds int64", "expected floating-point"):
        read(foreign.written(counts.to_parquet), "a.parquet")


def test_labels_of_some_codes_only_and_labels_that_are_none_are_refused():
    with refused("labels for 25 of its 26 codes", "'K120'"):
        read(csv(table(), named("label_{}", LABELS[:, :25], CODES[:25])))
    broken = named("label_{}", LABELS).replace(1, 2)
    with refused("'label_E785'", "other values than 0 and 1"):
        read(csv(table(), broken))


def test_codes_with_labels_and_without_scores_are_counted():
    run = read(csv(table(LOGITS[:, :22], CODES[:22]), named("label_{}", LABELS)))
    assert run.logits.shape == run.labels.shape == (len(LOGITS), 22) and run.codes_of == 26


def test_two_columns_for_one_code_are_refused():
    with refused("two columns for the code 'I10'", "'I10_prob'", "'prob_I10'"):
        read(csv(named("{}_prob", PROBABILITIES), pd.DataFrame({"prob_I10": PROBABILITIES[:, 1]})))


def test_logits_are_preferred_to_probabilities_and_what_is_left_out_is_said():
    run = read(csv(named("prob_{}", PROBABILITIES), named("logit_{}")))
    assert np.array_equal(run.logits, LOGITS) and noted(run, "Ignored", "'prob_")


# Numbers for names (case 04)

BY_TEXT = sorted(range(26), key=str)  # 0, 1, 10, 11, …


@pytest.mark.parametrize("form", ["{}", "prediction_{}", "logit_{}", "LABEL_{}", "{:02}"])
def test_numbered_columns_sorted_as_text_are_positions(form):
    run = read(csv(table(LOGITS[:, BY_TEXT], [form.format(i) for i in BY_TEXT])))
    assert run.codes is None and np.array_equal(run.logits, LOGITS)
    assert noted(run, "numbered, not named", "order of the numbers")


@given(st.permutations(range(26)), st.sampled_from([0, 1]))
def test_numbers_without_a_gap_are_positions_in_any_order(order, first):
    columns = {str(i + first): LOGITS[:, i] for i in order}
    found = sort_out("a.csv", columns)
    assert found.codes is None and np.array_equal(found.arrays["scores"], LOGITS)


def test_numbers_with_a_gap_are_names():
    run = read(csv(table(LOGITS[:, :3], ["401", "4019", "25000"])))
    assert run.codes == ("401", "4019", "25000")


def test_labels_move_with_their_numbered_columns():
    scores = named("score_{}", LOGITS[:, BY_TEXT], tuple(map(str, BY_TEXT)))
    run = read(csv(scores, named("label_{}", LABELS, tuple(map(str, range(26))))))
    assert np.array_equal(run.logits, LOGITS) and np.array_equal(run.labels, LABELS)


def test_case_04_columns_sorted_as_text_compare_as_equal_to_any_other_file_of_the_run():
    text = read(csv(table(LOGITS[:, BY_TEXT], map(str, BY_TEXT))))
    number = read(csv(table(LOGITS, map(str, range(26)))))
    bare = read_upload("a.npy", foreign.npy(LOGITS))
    for reference in (number, bare, foreign.whole()):
        aligned = align(text, reference)
        assert np.array_equal(aligned.candidate.logits, aligned.reference.logits), reference.name


# Files that are no scores at all


@pytest.mark.parametrize(
    "column", ["text", "NOTE", "notes", "discharge_summary", "hadm_id", "charttime", "labels"]
)
def test_a_column_of_a_notes_table_is_no_code(column):
    with refused(repr(column), "is no code"):
        read(csv(table(), pd.DataFrame({column: np.arange(len(LOGITS)) + 0.5})))


@pytest.mark.parametrize(
    "text", ["Patient was admitted with 3 days of chest pain", "Mr Smith, 62", "nan; see above"]
)
def test_the_text_of_a_note_is_never_in_a_refusal(text):
    with pytest.raises(ShifamindError, match="is text, no number") as caught:
        read(csv(pd.DataFrame({"document_id": ["a"], "befund": [text]})))
    assert not any(word in str(caught.value) for word in ("Patient", "Smith", "nan"))


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1,234.5", "a number with commas"),
        ("0,5", "a number with commas"),
        ("#NUM!", "an error of a spreadsheet"),
        ("12%", "a percentage"),
        ("True", "a truth value"),
        ("n/a", "a word for a missing value"),
    ],
)
def test_of_a_cell_its_kind_is_said(cell, kind):
    with refused(kind, "row 1", "'A'"):
        read(f'A,B\n"{cell}",2\n'.encode())


@pytest.mark.parametrize("merged", [CODES, CODES[:1]])
@pytest.mark.parametrize("second", [LOGITS - 1, LABELS])
def test_a_table_that_pandas_merged_is_refused_and_not_read_as_other_codes(merged, second):
    ids = table()[["document_id"]]
    left = ids.join(table(ids=False))
    right = ids.join(table(second, ids=False)[list(merged)])
    with refused(f"{len(merged):,} of its codes", "'E785_x' and 'E785_y'", "pandas", "Keep one side"):
        read(csv(left.merge(right, on="document_id")))


@pytest.mark.parametrize("column", ["doc_id", "Fallnummer"])
def test_whole_numbers_that_never_repeat_are_ids_and_no_scores(column):
    numbers = pd.DataFrame({column: 20_000 + 7 * np.arange(len(LOGITS))})
    with refused(repr(column), "whole numbers", "Name it 'document_id'"):
        read(csv(numbers, table(ids=False)))


def test_ids_are_known_however_their_name_is_written():
    plain = read(csv(table()))
    capitals = read(csv(table().rename(columns={"document_id": "Document_ID"})))
    assert capitals.codes == CODES and np.array_equal(capitals.document_ids, plain.document_ids)


# Spreadsheets (case 30)


def test_lines_that_end_in_carriage_returns_are_read():
    content = csv(table())
    for ending in (b"\r", b"\r\r\n"):
        run = read(content.replace(b"\n", ending))
        assert np.array_equal(run.logits, LOGITS) and noted(run, "Carriage returns")
    assert not noted(read(content.replace(b"\n", b"\r\n")), "Carriage returns")


def test_utf_16_is_named():
    with refused("not UTF-8", "UTF-16"):
        read(csv(table()).decode().encode("utf-16"))


def test_ids_that_went_through_floats_are_the_integers_they_were():
    ids = pd.DataFrame({"document_id": [f"{i}.0" for i in range(len(LOGITS))]})
    assert read(csv(ids, table(ids=False))).document_ids.tolist() == list(range(len(LOGITS)))
    floats = np.arange(len(LOGITS)) * 1.0
    parquet = written(lambda file: table(ids=False).assign(document_id=floats).to_parquet(file))
    half = [{"Document_ID": i * 1.0 if i % 2 else i, "I10": i / 2 - 3} for i in range(len(LOGITS))]
    assert read(jsonl(half), "a.jsonl").document_ids.tolist() == list(range(len(LOGITS)))
    some = pd.DataFrame({"document_id": [f"{i}.0" if i % 2 else f"{i}" for i in range(len(LOGITS))]})
    assert read(csv(some, table(ids=False))).document_ids.tolist() == list(range(len(LOGITS)))
    for name, content in (("a.npz", npz(logits=LOGITS, document_ids=floats)), ("a.parquet", parquet)):
        assert read(content, name).document_ids.tolist() == list(range(len(LOGITS)))
