"""The built-in run directory: synthetic, stable for years, and a real gap by casing."""

import hashlib
import json
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shifamind_core.analysis.counts import counts_of_logits
from shifamind_core.analysis.rungs import read_ladder
from shifamind_core.analysis.scores import macro_f1, micro_f1
from shifamind_core.analysis.thresholds import evaluate
from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.demo import notes, write_demo
from shifamind_core.demo.concepts import CONCEPTS, concepts_in
from shifamind_core.demo.evidence import EVIDENCE, PATIENTS_DENY, RELATIVES_HAVE
from shifamind_core.demo.labels import ADMISSIONS, CODES, COUNTS, LINKS, PREVALENCE, TRAITS, draw_codes
from shifamind_core.demo.notes import write_note
from shifamind_core.demo.record import REFERENCES
from shifamind_core.demo.stream import Stream
from shifamind_core.demo.train import Training, bert_config, checkpoint, train
from shifamind_core.demo.writer import DATA, DOCUMENTS
from shifamind_core.errors import ShifamindError
from shifamind_core.inference.tokenization import Tokenization, tokenize
from shifamind_core.inference.tokenizer import load_tokenizer
from shifamind_core.model.checkpoint import read_checkpoint
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file
from shifamind_core.specs import PredictSpec
from shifamind_core.tasks import run_predict

WHOLE = Tokenization(max_length=1_000_000, special_tokens=False)
FP64 = Path(__file__).parents[1] / "data" / "demo-h200-fp64-test.safetensors"
LAYOUT = {
    "README.md",
    "checkpoints/phase1/phase1_best.pt",
    "base_model/config.json",
    "base_model/vocab.txt",
    "results/ladder.json",
    "results/replay-cased.json",
    *(f"references/h200-{name}-{split}.safetensors" for name in REFERENCES for split in ("test", "val")),
    *(f"shared_data/{split}_{what}" for split in DOCUMENTS for what in ("split.pkl", "concept_labels.npy")),
    *(
        f"shared_data/{name}"
        for name in (
            "top50_icd10_info.json",
            "concept_list.json",
            "split_info.json",
            "concept_embeddings.npy",
        )
    ),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, written where nothing can be fetched."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the demo asked for the network"))
        write_demo(folder)
    return folder


@pytest.fixture(scope="module")
def directory(demo: Path) -> RunDirectory:
    return RunDirectory(demo)


def reference(name: str, split: str = "test") -> Run:
    return read_run_file(DATA / "references" / f"h200-{name}-{split}.safetensors")


# The folder


def test_the_layout_is_the_seeds(demo: Path) -> None:
    assert {str(file.relative_to(demo)) for file in demo.rglob("*") if file.is_file()} == LAYOUT


def test_what_git_carries_is_small() -> None:
    assert sum(file.stat().st_size for file in DATA.rglob("*")) < 12_000_000


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ShifamindError, match="not empty"):
        write_demo(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("shifamind_core.demo.writer.write_shared_data", fail)
    with pytest.raises(ShifamindError, match="cannot be written: disk full"):
        write_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shifamind_core.demo.writer.write_shared_data", lambda *_: None)
    write_demo(tmp_path)
    assert (tmp_path / "README.md").is_file()


def test_splits_are_dataframes_as_the_public_scripts_pickle_them(demo: Path) -> None:
    for split, count in DOCUMENTS.items():
        table = pd.read_pickle(demo / "shared_data" / f"{split}_split.pkl")
        assert list(table.columns) == ["text", "labels", *CODES]
        assert len(table) == count
        assert table["labels"].tolist() == table[list(CODES)].to_numpy().tolist()


def test_splits_pass_the_allow_list(directory: RunDirectory) -> None:
    for split, count in DOCUMENTS.items():
        found = directory.read_split(split)
        assert (len(found), found.codes) == (count, CODES)
        assert all(check.status == "ok" for check in found.checks)


def test_concept_labels_belong_to_the_notes(directory: RunDirectory, demo: Path) -> None:
    labels = np.load(demo / "shared_data" / "val_concept_labels.npy")
    assert labels.shape == (DOCUMENTS["val"], 113)
    assert labels[:20].tolist() == [concepts_in(text) for text in directory.read_split("val").texts[:20]]


def test_code_and_concept_tables_agree(directory: RunDirectory) -> None:
    info = directory.code_info
    assert info is not None
    assert (info.codes, info.counts, info.valid_admissions) == (CODES, COUNTS, ADMISSIONS)
    assert directory.concept_names == tuple(CONCEPTS)
    assert len(CONCEPTS) == 113


# The notes


def test_every_note_says_that_it_is_synthetic(directory: RunDirectory) -> None:
    assert all(text.startswith(notes.BANNER) for text in directory.read_split("test").texts)


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        ("train", "125aa797eafbe8148d251521c6fd68dd810cd2e5604340f5ac97ff10c04d8b21"),
        ("val", "7f94895c51dfa6397b13db0851f61cc1c78fd9f012c57200176be9c29cff4df3"),
        ("test", "20227752c7aa1ce76460c53bd65634ad318bbfa1ca413d5f2d55c3ce513936d1"),
    ],
)
def test_notes_are_the_same_on_every_machine_and_for_years(split: str, digest: str) -> None:
    assert hashlib.sha256(write_note(split, 0).text.encode()).hexdigest() == digest


def test_notes_do_not_depend_on_the_hash_seed() -> None:
    """Sets and frozensets are iterated in an order that changes from process to process."""
    command = "from shifamind_core.demo.notes import write_note; print([write_note('test', i).text for i in range(30)])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(DATA.parents[2])},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_casing_habits_change_no_lower_cased_note(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [write_note("test", index).text for index in range(40)]
    for name in ("LIST_CASING", "DRUG_CASING", "COURSE_CASING"):
        monkeypatch.setattr(notes, name, {"plain": 0.1, "title": 0.4, "caps": 0.5})
    monkeypatch.setattr(notes, "SHOUTED", 0.9)
    after = [write_note("test", index).text for index in range(40)]
    assert [text.lower() for text in after] == [text.lower() for text in before]
    assert after != before


def test_most_notes_outrun_512_tokens(directory: RunDirectory) -> None:
    tokens = tokenize(directory.read_split("test").texts[:300], load_tokenizer(directory.base_model(), True))
    assert 0.70 < float((np.diff(tokens.offsets) + 2 > 512).mean()) < 0.90


def test_the_vocabulary_is_cased_comes_alone_and_knows_every_character(directory: RunDirectory) -> None:
    base_model = directory.base_model()
    assert {file.name for file in base_model.iterdir()} == {"config.json", "vocab.txt"}
    words = (base_model / "vocab.txt").read_text().splitlines()
    assert words[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(words)) == len(words)
    for lowercase in (True, False):
        tokens = tokenize(directory.read_split("val").texts, load_tokenizer(base_model, lowercase))
        assert not (tokens.flat == words.index("[UNK]")).any()


def test_wrong_casing_changes_many_tokens_and_lengthens_notes(directory: RunDirectory) -> None:
    texts = directory.read_split("test").texts[:200]
    right, wrong = (tokenize(texts, load_tokenizer(directory.base_model(), lower)) for lower in (True, False))
    kept = sum(
        (Counter(right.note(row, WHOLE).tolist()) & Counter(wrong.note(row, WHOLE).tolist())).total()
        for row in range(len(texts))
    )
    assert 0.20 < 1 - kept / len(right.flat) < 0.50
    assert 1.04 < len(wrong.flat) / len(right.flat) < 1.12


# The codes


def test_links_name_every_code_once_and_parents_first() -> None:
    drawn: list[str] = list(TRAITS)
    for link in LINKS:
        assert set(link.parent) <= set(drawn)
        drawn += link.codes
    assert sorted(drawn) == sorted([*CODES, *TRAITS])


def test_prevalences_are_the_published_ones_by_construction() -> None:
    for link in LINKS:
        share = sum(TRAITS.get(name, PREVALENCE.get(name, 0.0)) for name in link.parent)
        with_parent, without = link.probabilities(True), link.probabilities(False)
        assert sum(with_parent) <= 1 and sum(without) <= 1
        for code, present, absent in zip(link.codes, with_parent, without, strict=True):
            assert min(present, absent) >= 0
            assert share * present + (1 - share) * absent == pytest.approx(PREVALENCE[code], abs=1e-12)


def test_drawn_prevalences_lie_within_sampling_error() -> None:
    count, found = 20_000, Counter()
    for index in range(count):
        stream = Stream("prevalence", index)
        found.update(
            draw_codes(stream, frozenset(name for name, share in TRAITS.items() if stream.chance(share)))
        )
    for code, share in PREVALENCE.items():
        # 4.5 standard deviations: one false alarm in 3,000 such tests of 50 codes; the stream is fixed anyway.
        assert abs(found[code] - count * share) < 4.5 * (count * share * (1 - share)) ** 0.5, code


def test_a_code_keeps_plausible_company(directory: RunDirectory) -> None:
    labels = directory.read_split("test").labels
    column = {code: labels[:, place].astype(bool) for place, code in enumerate(CODES)}
    assert not (column["I10"] & (column["I129"] | column["I130"] | column["I110"])).any()
    assert not (column["E119"] & column["E1122"]).any()
    kidney = column["N189"] | column["N183"]
    assert kidney[column["E1122"]].mean() > 2 * kidney.mean()


def test_every_code_has_evidence_and_every_doubt_a_code() -> None:
    assert tuple(EVIDENCE) == CODES
    assert set(RELATIVES_HAVE) | set(PATIENTS_DENY) <= set(CODES)


# The checkpoint and its references


def test_the_checkpoint_has_the_public_scripts_keys() -> None:
    file = DATA / "checkpoints" / "phase1" / "phase1_best.pt"
    content = torch.load(file, weights_only=True)
    assert set(content) == {
        "model_state_dict", "optimizer_state_dict", "macro_f1", "micro_f1", "concept_f1", "epoch",
        "concept_embeddings", "num_concepts", "config",
    }  # fmt: skip
    assert set(content["config"]) == {
        "top_50_codes", "timestamp", "lambda_dx", "lambda_align", "lambda_concept", "num_concepts", "num_classes",
    }  # fmt: skip
    assert content["config"]["top_50_codes"] == list(CODES)


def test_stored_scores_are_those_of_the_validation_reference() -> None:
    stored = read_checkpoint(DATA / "checkpoints" / "phase1" / "phase1_best.pt")
    counts = counts_of_logits(
        reference("fp32", "val").logits, reference("fp32", "val").labels, np.array([0.5])
    )
    assert stored.scores["macro_f1"] == pytest.approx(float(macro_f1(counts)[0]), abs=1e-6)
    assert stored.scores["micro_f1"] == pytest.approx(float(micro_f1(counts)[0]), abs=1e-6)


@pytest.mark.parametrize("split", ["test", "val"])
@pytest.mark.parametrize("name", REFERENCES)
def test_references_are_of_these_notes_and_this_checkpoint(
    name: str, split: str, directory: RunDirectory
) -> None:
    run, notes_of = reference(name, split), directory.read_split(split)
    assert run.codes == CODES
    assert run.document_ids is not None and run.labels is not None
    assert run.document_ids.tolist() == notes_of.document_ids.tolist()
    assert run.labels.tolist() == notes_of.labels.tolist()
    record = read_checkpoint(directory.checkpoint).record
    # Recorded before manifests held the digests of rounded weights and of parts.
    later = dict.fromkeys(("weights_digest_fp16", "weights_digest_bf16", "part_digests", "untrained_parts"))
    assert run.manifest.checkpoint == replace(record, **later)
    policy, flags, environment = run.manifest.policy, run.manifest.flags, run.manifest.environment
    assert policy is not None and flags is not None and environment is not None
    assert (policy.name, environment.gpu) == (REFERENCES[name][0], "NVIDIA H200")
    assert flags.tf32_measured is (name == "tf32")
    assert run.manifest.tokenization is not None
    assert run.manifest.tokenization.lowercase is (name != "cased")


def test_the_task_is_learnable_and_hard() -> None:
    scored = evaluate(reference("fp32"), reference("fp32", "val"), "seed")
    assert 0.25 < scored.fixed.macro_f1 < 0.60
    assert scored.tuned is not None and scored.tuned.micro_f1 > scored.fixed.micro_f1


def test_wrong_casing_costs_a_quarter_to_a_third_and_tuning_does_not_mend_it() -> None:
    right, wrong = (evaluate(reference(name), reference(name, "val"), "seed") for name in ("fp32", "cased"))
    assert 0.25 < 1 - wrong.fixed.macro_f1 / right.fixed.macro_f1 < 0.33
    assert right.tuned is not None and wrong.tuned is not None
    assert right.tuned.micro_f1 - wrong.tuned.micro_f1 > 0.05


def test_precision_policies_are_ordered_and_far_from_the_gap() -> None:
    exact = read_run_file(FP64).logits
    error = {name: float(np.abs(reference(name).logits - exact).max()) for name in REFERENCES}
    assert error["fp32"] < 2e-5 < error["tf32"] < 1e-2 < error["bf16-autocast"] < 0.2 < error["cased"]


@pytest.mark.parametrize(("name", "lowercase"), [("fp32", "true"), ("cased", "false")])
def test_this_machine_finds_the_h200s_logits_again(
    name: str, lowercase: str, demo: Path, tmp_path: Path
) -> None:
    spec = PredictSpec(str(demo), lowercase=lowercase, device="cpu", limit=32)  # type: ignore[arg-type]
    run, recorded = run_predict(spec, tmp_path).run, reference(name)
    assert run.token_digests is not None and recorded.token_digests is not None
    assert run.token_digests.tolist() == recorded.token_digests[:32].tolist()
    assert np.abs(run.logits - recorded.logits[:32]).max() < 5e-5


# Training


@pytest.fixture(scope="module")
def small_base_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    training = Training(notes=8, epochs=1, batch_size=4, hidden=16)
    folder = tmp_path_factory.mktemp("base_model")
    (folder / "vocab.txt").write_bytes((DATA / "base_model" / "vocab.txt").read_bytes())
    vocabulary = len((folder / "vocab.txt").read_text().splitlines())
    bert_config(training, vocabulary).save_pretrained(folder)
    return training, folder


def test_a_training_makes_a_checkpoint_that_loads_and_is_the_same_again(
    small_base_model: tuple[Training, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, base_model = small_base_model
    monkeypatch.setitem(DOCUMENTS, "val", 4)
    first, second = (train(training, base_model, torch.device("cpu"), workers=1) for _ in range(2))
    assert all(
        torch.equal(tensor, second["model_state_dict"][name])
        for name, tensor in first["model_state_dict"].items()
    )
    torch.save(checkpoint(first, load_tokenizer(base_model, True)), tmp_path / "phase1_best.pt")
    found = read_checkpoint(tmp_path / "phase1_best.pt")
    assert (found.architecture, found.codes, found.concept_count) == ("cls_fusion", CODES, 113)
    assert found.concept_embeddings is not None and found.concept_embeddings.shape == (113, 16)


def test_recorded_results_are_about_the_shipped_checkpoint_and_reference(directory: RunDirectory) -> None:
    (ladder,), (replay,) = (directory.results(kind) for kind in ("ladder", "replay"))
    cased = read_run_file(DATA / "references" / "h200-cased-test.safetensors")
    assert cased.manifest.checkpoint is not None
    measured = read_ladder(ladder)
    assert measured.checkpoint == cased.manifest.checkpoint.weights_digest
    assert measured.measured()["fp32"] < 1e-4 < measured.measured()["bf16"]
    found = json.loads(replay.read_text())
    assert found["about"] == {"split": "test", "reference": cased.digest, "reported": None}
    assert found["best"]["interventions"] == ["lowercase=false"] and found["verdict"] == "confirmed"
    assert found["best"]["max_abs_residual"] < 1e-4
