"""The notes of a reference are found among texts whose ids, but not whose words, are others."""

from dataclasses import replace

import numpy as np
import pytest

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.artifacts.splits import Split
from shifamind_core.replay.reference_rows import target_of
from shifamind_core.runs.run import Run
from tests.support.refused import refused

CODES = ("A", "B")
TEXTS = tuple(f"note {n}\nwith  two lines {n}\n" for n in range(12))


def split_of(texts: tuple[str, ...]) -> Split:
    labels = np.random.default_rng(0).integers(0, 2, (len(texts), 2)).astype(np.uint8)
    return Split("test", texts=texts, labels=labels, codes=CODES)


def run_of(texts: tuple[str, ...], **fields) -> Run:
    ids = np.array([text_digest(text.encode()) for text in texts], np.int64)
    return Run(np.zeros((len(texts), 2), np.float32), "other", CODES, document_ids=ids, **fields)


SPLIT = split_of(TEXTS)


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ([text.replace("\n", "\r\n") for text in TEXTS], "with CRLF line ends"),
        ([text.strip() for text in TEXTS], "without space at either end"),
        ([" ".join(text.split()) for text in TEXTS], "with single spaces"),
    ],
)
def test_ids_of_texts_with_other_white_space_are_those_of_the_same_notes(theirs, said):
    target = target_of(run_of(tuple(theirs)), {None: SPLIT}, CODES)
    assert target.places[None].index.tolist() == list(range(12))
    assert any(said in remark for remark in target.remarks)


def test_some_ids_with_other_line_ends_are_found_beside_the_others():
    theirs = tuple(text.replace("\n", "\r\n") if n % 3 else text for n, text in enumerate(TEXTS))
    target = target_of(run_of(theirs), {None: SPLIT}, CODES)
    assert target.places[None].index.tolist() == list(range(12))
    assert any(remark.startswith("8 of the reference's 12 document ids") for remark in target.remarks)


def test_ids_made_otherwise_leave_the_notes_to_their_labels():
    stranger = replace(run_of(TEXTS), document_ids=np.arange(12), labels=SPLIT.labels)
    target = target_of(stranger, {None: SPLIT}, CODES)
    assert target.places[None].index.tolist() == list(range(12))
    assert any(
        "none of the document ids here" in remark and "labels show" in remark for remark in target.remarks
    )


def test_notes_that_nothing_shows_to_be_here_are_refused():
    with refused("None of the 12 notes"):
        target_of(replace(run_of(TEXTS), document_ids=np.arange(12)), {None: SPLIT}, CODES)
