"""Uploads from peers: Trainer, Lightning, accelerate, scikit-learn, a pipeline, JSON lines. One run comes out of all."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from scipy.special import expit

from shifamind_core.runs import json_lines
from shifamind_core.runs.foreign import read_foreign
from shifamind_core.runs.uploads import read_upload
from tests.support import foreign
from tests.support.foreign import (
    CODES,
    LABELS,
    LOGITS,
    NOTES,
    PROBABILITIES,
    batches,
    jsonl,
    npy,
    npz,
    pairs,
    pt,
    tensor,
)
from tests.support.refused import refused


def noted(run, *words):
    return any(all(word in note for word in words) for note in run.manifest.notes)


LABELLED = {
    # Hugging Face: out = trainer.predict(test); labels of a multi-label model are floats
    "trainer.npz": npz(predictions=LOGITS, label_ids=LABELS.astype(np.float32)),
    "trainer.pt": pt({"predictions": tensor(LOGITS), "label_ids": tensor(LABELS)}),
    # Lightning: trainer.predict(...), a list with what predict_step returned for each batch
    "lightning dicts.pt": pt(
        [
            {"logits": a, "labels": b, "loss": torch.tensor(0.3)}
            for a, b in zip(batches(LOGITS), batches(LABELS), strict=True)
        ]
    ),
    "lightning tuples.pt": pt([*zip(batches(LOGITS), batches(LABELS), strict=True)]),
    "lightning, one loader.pt": pt([[*zip(batches(LOGITS), batches(LABELS), strict=True)]]),
    # accelerate: gather_for_metrics((logits, labels)), gathered and saved in one of these ways
    "accelerate.pt": pt({"logits": tensor(LOGITS), "labels": tensor(LABELS).float()}),
    "accelerate tuple.pt": pt((tensor(LOGITS), tensor(LABELS).long())),
    "peer.safetensors": save({"predictions": LOGITS, "label_ids": LABELS.astype(np.float32)}),
    "accelerate two lists.pt": pt([batches(LOGITS), batches(LABELS)]),
    "lightning nested.pt": pt(
        [[{"logits": a, "labels": b}] for a, b in zip(batches(LOGITS), batches(LABELS), strict=True)]
    ),
    "accelerate lists.pt": pt({"logits": batches(LOGITS), "labels": batches(LABELS)}),
    "of rows.pt": pt({"logits": [*tensor(LOGITS)], "targets": [*tensor(LABELS)]}),
    "y.npz": npz(y_score=LOGITS, y_true=LABELS, y_pred=(LOGITS > 0).astype(int)),
    "lists.jsonl": jsonl(
        {"text": "never read", "logits": row, "labels": truth}
        for row, truth in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    ),
}


@pytest.mark.parametrize("name", LABELLED)
def test_scores_and_labels_of_a_peer_are_those_of_the_run(name):
    run = read_upload(name, LABELLED[name])
    assert np.array_equal(run.logits, LOGITS) and np.array_equal(run.labels, LABELS)
    assert run.codes is None and run.manifest.logits_from_probabilities is None


UNLABELLED = {
    "lightning.pt": pt(batches(LOGITS)),
    "one batch.pt": pt([tensor(LOGITS)]),
    "one output a batch.pt": pt([[batch] for batch in batches(LOGITS)]),
    "rows.pt": pt([*tensor(LOGITS)]),
    "batches.pt": pt({"predictions": batches(LOGITS)}),
    "rows.jsonl": jsonl(LOGITS.tolist()),
    "scores.jsonl": jsonl({"id": 3, "predictions": row} for row in LOGITS.tolist()),
}


@pytest.mark.parametrize("name", UNLABELLED)
def test_scores_of_a_peer_are_those_of_the_run(name):
    run = read_upload(name, UNLABELLED[name])
    assert np.array_equal(run.logits, LOGITS) and run.labels is None


def test_what_was_read_under_another_name_is_said():
    run = read_upload("trainer.npz", LABELLED["trainer.npz"])
    assert noted(run, "'predictions' as scores", "'label_ids' as labels")
    assert noted(read_upload("a.pt", UNLABELLED["lightning.pt"]), "5 batches, put one after the other")
    assert noted(read_upload("a.jsonl", LABELLED["lists.jsonl"]), "Ignored: 'text'")


# scikit-learn: predict_proba of a multi-label model is a list with one array [notes, 2] a code

PAIRS = {
    "list.npz": npz(*pairs()),
    "float32.npz": npz(*pairs(np.float32)),
    "by code.npz": npz(**dict(zip(CODES, pairs(), strict=True))),
    "with labels.npz": npz(labels=LABELS, **dict(zip(CODES, pairs(), strict=True))),
    "predictions.npz": npz(predictions=np.array(pairs())),
    "probabilities.npz": npz(probabilities=np.array(pairs())),
    "stacked.npz": npz(np.array(pairs())),
    "a.npy": npy(np.array(pairs())),
    "list.pt": pt([torch.from_numpy(pair) for pair in pairs()]),
    "dict.pt": pt({code: torch.from_numpy(pair) for code, pair in zip(CODES, pairs(), strict=True)}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_columns_a_code_are_the_second_columns_probability(name):
    run = read_upload(name, PAIRS[name])
    assert np.allclose(expit(run.logits), PROBABILITIES, atol=1e-6)
    assert run.codes == (CODES if name in ("by code.npz", "with labels.npz", "dict.pt") else None)
    assert (run.labels is not None) == (name == "with labels.npz")
    assert noted(run, "predict_proba") and run.manifest.logits_from_probabilities


def test_arrays_that_numpy_numbered_are_taken_by_number_not_as_text():
    """`arr_10` stands before `arr_2` in an archive that was packed again."""
    named = {f"arr_{i}": pair for i, pair in sorted(enumerate(pairs()), key=lambda item: str(item[0]))}
    assert np.allclose(expit(read_upload("a.npz", npz(**named)).logits), PROBABILITIES, atol=1e-6)


def test_a_code_that_training_knew_one_class_of_is_named():
    columns = pairs()
    columns[3] = np.ones((NOTES, 1))
    with refused("code 3 has one column", "always 0 or always 1"):
        read_upload("a.npz", npz(*columns))


def test_batches_of_two_codes_are_no_pairs():
    two = LOGITS[:256, :2]
    run = read_upload("a.pt", pt([tensor(two[i : i + 64]) for i in range(0, 256, 64)]))
    assert np.array_equal(run.logits, two)


# JSON lines


def test_a_pipelines_lists_of_labels_and_scores_are_put_into_one_order():
    """`pipeline(..., top_k=None)` gives the best code first: another order for every note."""
    lines = [
        sorted(
            ({"label": code, "score": score} for code, score in zip(CODES, row, strict=True)),
            key=lambda one: -one["score"],
        )
        for row in PROBABILITIES.tolist()
    ]
    for content in (jsonl(lines), jsonl([line] for line in lines)):
        run = read_upload("a.jsonl", content)
        order = [run.codes.index(code) for code in CODES]
        assert np.array_equal(expit(run.logits)[:, order], PROBABILITIES)


@pytest.mark.parametrize("form", ["{}", "{}_prob", "prob_{}"])
def test_numbers_by_code_are_a_table(form):
    names = [form.format(code) for code in CODES]
    lines = [
        {"document_id": i, "note": "never read", **dict(zip(names, row, strict=True))}
        for i, row in zip(foreign.IDS, PROBABILITIES.tolist(), strict=True)
    ]
    run = read_upload("a.jsonl", jsonl(lines))
    assert run.codes == CODES and np.array_equal(expit(run.logits), PROBABILITIES)
    assert np.array_equal(run.document_ids, foreign.whole().document_ids)


def test_objects_by_code_and_blank_lines_and_line_separators_are_read():
    lines = [
        {"text": "one\u2028line", "logits": dict(zip(CODES, row, strict=True)), "document_id": i}
        for i, row in enumerate(LOGITS.tolist())
    ]
    content = b"\xef\xbb\xbf" + b"\r\n\r\n".join(
        json.dumps(line, ensure_ascii=False).encode() for line in lines
    )
    run = read_upload("a.JSONL", content)
    assert run.codes == CODES and np.array_equal(run.logits, LOGITS)
    assert run.document_ids.tolist() == list(range(NOTES))


def test_numbers_that_json_does_not_know_are_read_and_counted():
    assert read_upload("a.jsonl", b'{"logits": [NaN, 1.5]}\n{"logits": [-Infinity, -2]}\n').non_finite == 2


REFUSED = {
    "notes": (jsonl([{"text": "chest pain", "labels": [0, 1]}]), "A file of notes is no run"),
    "notes alone": (jsonl([{"note": "chest pain"}]), "A file of notes is no run"),
    "nothing": (b"\n\n", "holds no lines"),
    "no JSON": (b'{"logits": [1.5]}\nlogits\n', "line 2 is no JSON"),
    "an array": (b'[{"logits": [1.5]},\n {"logits": [2.5]}]\n', "line 1 is no JSON"),
    "a number": (b"3\n", "line 1 is a int; expected an object"),
    "another length": (
        b'{"logits": [1.5, 2]}\n{"logits": [1.5]}\n',
        "note 2 has 1 values under 'logits'; the first has 2",
    ),
    "a field missing": (b'{"logits": [1.5]}\n{"scores": [1.5]}\n', "note 2 has no list under 'logits'"),
    "null": (b'{"logits": [1.5, null]}\n', "note 1 holds something else than numbers"),
    "too large": (b'{"logits": [1' + b"0" * 400 + b"]}\n", "a number too large"),
    "other codes": (b'{"logits": {"A": 1.5}}\n{"logits": {"B": 1.5}}\n', "note 2 has other codes"),
    "no codes": (b'{"logits": {}}\n', "no field 'logits' or 'probabilities'"),
    "labels alone": (b'{"A": 1, "B": 0}\n{"A": 0, "B": 0}\n', "nothing but 0 and 1"),
    "ids": (
        b'{"document_id": true, "logits": [1.5]}\n',
        "not every line has a whole number or a text under 'document_id'",
    ),
    "ids with fractions": (b'{"document_id": 1.5, "logits": [1.5]}\n', "have fractions"),
    "deep": (b"[" * 100_000 + b"\n", "line 1 is no JSON"),
    "latin1": ('{"logits": [1.5], "größe": 1}\n'.encode("latin1"), "line 1 is no JSON in UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_lines_get_one_clear_line(case):
    content, says = REFUSED[case]
    with refused(says):
        read_upload("a.jsonl", content)


def test_very_large_lines_are_refused_unread(monkeypatch):
    monkeypatch.setattr(json_lines, "LARGEST_TEXT", 10)
    with refused("is larger than", "Save it as .safetensors"):
        read_foreign("a.jsonl", b'{"logits": [1.5, 2.5]}\n')


# What cannot be told is refused

AMBIGUOUS = {
    "two kinds of scores.npz": (
        npz(predictions=LOGITS, scores=LOGITS),
        "'predictions', 'scores'; which of them",
    ),
    "two kinds of labels.npz": (
        npz(logits=LOGITS, targets=LABELS, y_true=LABELS),
        "'targets', 'y_true'; which of them",
    ),
    "several loaders.pt": (pt([batches(LOGITS), batches(LOGITS)]), "of several data loaders, save one"),
    "other widths.pt": (
        pt([tensor(LOGITS[:8]), tensor(LOGITS[8:, :3])]),
        "batch 1 of scores has shape (292, 3), the first (8, 26)",
    ),
    "unequal rows.pt": (pt([tensor(LOGITS[0]), tensor(LOGITS[1, :3])]), "unequal length"),
    "an empty list.pt": (pt([]), "empty list"),
    "labels alone.pt": (pt({"label_ids": tensor(LABELS)}), "no array 'logits' or 'probabilities'"),
    "labels as scores.pt": (
        pt([tensor(LABELS[:8]).float(), tensor(LABELS[8:]).float()]),
        "nothing but 0 and 1",
    ),
    "three axes.npy": (npy(LOGITS[None]), "expected notes × codes"),
    "pairs that do not add up.npy": (npy(np.array(pairs()) / 2), "expected notes × codes"),
    "objects.npz": (
        npz(logits=LOGITS, codes=np.array([*CODES], object)),
        "save texts: array.astype(str)",
    ),  # case 29
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_cannot_be_told_is_refused_in_one_line(name):
    content, says = AMBIGUOUS[name]
    with refused(says):
        read_upload(name, content)


def test_case_47_tensors_from_the_gpu_are_read_wherever_they_lay(monkeypatch):
    """The file names a device that is not here; its tensors come to the CPU."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    content = pt({"logits": tensor(LOGITS)})
    monkeypatch.undo()
    assert b"cuda:0" in content
    assert np.array_equal(read_upload("a.pt", content).logits, LOGITS)
