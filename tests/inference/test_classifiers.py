"""Other people's models: a folder of `save_pretrained` with a table of notes, through inspect and every policy."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from shifamind_core.artifacts.run_directory import RunDirectory
from shifamind_core.inference.inspection import inspect
from shifamind_core.inference.pipeline import Pipeline, Setting
from shifamind_core.inference.tokenization import Tokenization
from shifamind_core.inference.tokenizer import load_tokenizer
from shifamind_core.precision.policy import POLICIES
from simulation.builders import CODES
from simulation.classifiers import classifier_run_directory, scores_of
from tests.support.refused import refused

FAMILIES = ["bert", "roberta", "distilbert", "deberta", "electra", "longformer", "mpnet", "albert"]
SHORT = Setting(tokenization=Tokenization(max_length=48), device="cpu")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One of each family, written once."""
    return {
        kind: classifier_run_directory(tmp_path_factory.mktemp(kind) / "run", kind, 6) for kind in FAMILIES
    }


@pytest.fixture
def folder(written, tmp_path):
    """A BERT classifier to change."""
    return shutil.copytree(written["bert"], tmp_path / "run")


def settings(folder, **changes):
    """Change its config.json."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_are_the_librarys_own_bit_for_bit(written, kind):
    pipeline = Pipeline(RunDirectory(written[kind]))
    run = pipeline.score("test", Setting(device="cpu")).run
    library = AutoModelForSequenceClassification.from_pretrained(written[kind]).eval()
    np.testing.assert_array_equal(run.logits, scores_of(library, list(pipeline.split("test").texts), kind))
    assert run.codes == tuple(CODES[:6]) and run.concept_scores is None
    assert run.labels is not None and 0 < run.labels.mean() < 1


@pytest.mark.parametrize("kind", FAMILIES)
def test_inspect_says_what_it_is_and_finds_nothing_wrong(written, kind):
    found = inspect(Pipeline(RunDirectory(written[kind])))
    assert found["architecture"] == "sequence_classification"
    assert found["model_class"].lower() == f"{kind}ForSequenceClassification".lower()
    assert [check for check in found["checks"] if check["status"] != "ok"] == []
    assert found["tokenizer"]["lowercase"] is (kind in ("bert", "distilbert", "electra", "albert"))
    assert found["concepts"] == 0 and found["codes"] == CODES[:6]


@pytest.mark.parametrize("policy", ["default", "fp64", "bf16", "bf16-autocast", "portable", "emulated-tf32"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_every_policy_runs_and_stays_near_the_referee(written, kind, policy):
    pipeline = Pipeline(RunDirectory(written[kind]))
    referee = pipeline.score("test", Setting(POLICIES["fp64"], SHORT.tokenization, device="cpu")).run
    run = pipeline.score("test", Setting(POLICIES[policy], SHORT.tokenization, device="cpu")).run
    assert np.abs(run.logits - referee.logits).max() <= 0.3 * referee.logits.std()
    assert run.manifest.checkpoint.architecture == "sequence_classification"


def test_bitwise_covers_plain_bert_and_says_why_not_the_others(written):
    bitwise = Setting(POLICIES["bitwise"], SHORT.tokenization, device="cpu")
    pipeline = Pipeline(RunDirectory(written["bert"]))
    exact, usual = (pipeline.score("test", setting).run for setting in (bitwise, SHORT))
    assert 0 < np.abs(exact.logits - usual.logits).max() < 1e-4
    with refused("bitwise does not cover this model", "BertForSequenceClassification", "this is Roberta"):
        Pipeline(RunDirectory(written["roberta"])).score("test", bitwise)


def test_a_model_with_one_attention_of_its_own_says_which_ran(written):
    """DeBERTa has no fused attention: asked for or not, its own runs and is recorded."""
    flags = Pipeline(RunDirectory(written["deberta"])).score("test", SHORT).run.manifest.flags
    assert flags.attention == "eager"


def test_roberta_takes_as_many_tokens_as_it_has_positions(written):
    pipeline = Pipeline(RunDirectory(written["roberta"]))
    assert pipeline.positions == 512  # of 514 rows
    with refused("513 tokens", "512 positions"):
        pipeline.score("test", Setting(tokenization=Tokenization(max_length=513), device="cpu"))


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl", "pkl"])
@pytest.mark.parametrize("lists", [False, True], ids=["columns", "lists"])
def test_every_kind_of_table_holds_the_same_split(tmp_path, ending, lists):
    folder = classifier_run_directory(
        tmp_path / "run", "distilbert", 4, ending=ending, lists=lists, text="note"
    )
    other = classifier_run_directory(tmp_path / "other", "distilbert", 4)
    split, same = (Pipeline(RunDirectory(one)).split("test") for one in (folder, other))
    assert split.texts == same.texts and split.codes == same.codes
    np.testing.assert_array_equal(split.labels, same.labels)


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_the_model_may_lie_in_a_folder_of_its_own_in_either_format(written, tmp_path, safe):
    folder = classifier_run_directory(tmp_path / "run", "bert", 6, place="model", safe=safe)
    directory = RunDirectory(folder)
    assert directory.checkpoint.parent == folder / "model" and directory.splits == ("train", "val", "test")
    runs = [Pipeline(one).score("test", SHORT).run for one in (directory, RunDirectory(written["bert"]))]
    np.testing.assert_array_equal(runs[0].logits, runs[1].logits)
    assert RunDirectory(directory.checkpoint).path == folder  # its weights alone name the run


def test_columns_in_another_order_than_the_labels_of_the_model_are_put_right(folder):
    plain = Pipeline(RunDirectory(folder)).split("test")
    table = pd.read_csv(folder / "test.csv")
    table[["text", *reversed(CODES[:6])]].assign(subject_id=range(6)).to_csv(folder / "test.csv", index=False)
    split = Pipeline(RunDirectory(folder)).split("test")
    assert split.codes == tuple(CODES[:6])
    np.testing.assert_array_equal(split.labels, plain.labels)


def test_labels_that_nobody_named_take_the_names_of_the_columns(folder):
    settings(folder, id2label=None, label2id=None, num_labels=6)
    run = Pipeline(RunDirectory(folder)).score("test", SHORT).run
    assert run.codes == tuple(CODES[:6])


def test_validation_may_be_called_so(folder):
    (folder / "val.csv").rename(folder / "validation.csv")
    assert RunDirectory(folder).splits == ("train", "val", "test")


@pytest.mark.parametrize("kind", ["single_label_classification", "regression"])
def test_a_model_that_chooses_one_label_is_refused_in_one_sentence(folder, kind):
    settings(folder, problem_type=kind)
    with refused("problem_type", kind, "multi-label"):
        Pipeline(RunDirectory(folder)).score("test", SHORT)
    errors = [
        check for check in inspect(Pipeline(RunDirectory(folder)))["checks"] if check["status"] == "error"
    ]
    assert any("multi-label" in check["message"] for check in errors)


def test_one_label_a_note_throughout_is_taken_for_softmax_unless_the_model_says_otherwise(folder):
    for name in ("train", "val", "test"):
        table = pd.read_csv(folder / f"{name}.csv")
        table[CODES[:6]] = np.eye(6, dtype=int)
        table.to_csv(folder / f"{name}.csv", index=False)
    assert Pipeline(RunDirectory(folder)).score("test", SHORT).run.documents == 6
    settings(folder, problem_type=None)
    with refused("exactly one label", "problem_type", "multi_label_classification"):
        Pipeline(RunDirectory(folder)).score("test", SHORT)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": None}, ["model_type"]),
        ({"model_type": "no_such_model"}, ["no_such_model", "no model that this library knows"]),
        ({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}, ["code of its own", "never run"]),
        ({"is_decoder": True}, ["decoder"]),
        ({"num_hidden_layers": 10**9}, ["num_hidden_layers 1,000,000,000"]),
        ({"num_hidden_layers": 4}, ["missing", "bert.encoder.layer.3"]),
        ({"hidden_size": 48}, ["another shape"]),
        ({"pad_token_id": 10**9}, ["no classifier"]),
        ({"num_attention_heads": 5}, ["no classifier"]),
        ({"id2label": {"0": "A", "1": "B"}}, ["names 2 labels", "scores 6"]),
        ({"id2label": {str(i): "A" for i in range(6)}}, ["'A' more than once"]),
        ({"id2label": {"0": "A", "2": "B"}}, ["positions 0 to 1"]),
    ],
)
def test_a_configuration_that_does_not_fit_gets_one_line(folder, changes, words):
    settings(folder, **changes)
    with refused(*words):
        Pipeline(RunDirectory(folder)).score("test", SHORT)


def test_what_is_no_model_yet_is_refused_with_what_to_do(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    with refused("several files", "max_shard_size"):
        _ = RunDirectory(folder).checkpoint
    (folder / "adapter_config.json").write_text("{}")
    with refused("PEFT adapter", "merge_and_unload"):
        _ = RunDirectory(folder).checkpoint
    for file in folder.glob("model*"):
        file.unlink()
    (folder / "adapter_config.json").unlink()
    torch.save({"state_dict": weights}, folder / "epoch=3.ckpt")
    assert Pipeline(RunDirectory(folder)).checkpoint.architecture == "sequence_classification"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("test.csv", b"text,I10\n\xff\xfe,1\n", ["no UTF-8"]),
        ("test.csv", b'text,I10\n"a,1\n', ["no comma-separated table"]),
        ("test.csv", b"text,I10\na,2\n", ["neither a column 'labels'"]),
        ("test.csv", b"words,I10\na,1\n", ["no column 'text' (or 'note')"]),
        ("test.csv", b'text,labels\na,"[0, 1"\n', ["'labels' in row 1"]),
        ("test.jsonl", b'{"text": "a", "labels": [0, 1]}\n{"text": \n', ["line 2 is no JSON"]),
        ("test.jsonl", b"[1]\n", ["line 1 is a JSON list"]),
        ("test.jsonl", b'{"text": "a", "I10": 1}\n{"text": "b"}\n', ["I10"]),
    ],
)
def test_a_table_that_cannot_be_read_gets_one_line(folder, name, content, words):
    (folder / "test.csv").unlink()
    (folder / name).write_bytes(content)
    settings(folder, id2label=None, label2id=None)
    with refused(*words):
        RunDirectory(folder).read_split("test")


def test_a_table_of_the_texts_as_they_stand(folder):
    """Notes that read like missing values or numbers are notes; line breaks within quotes stay."""
    texts = ["nan", "", "1", 'two "quoted"\nlines\r\nhere', "NULL", " padded "]
    table = pd.read_csv(folder / "test.csv").assign(text=texts)
    table.to_csv(folder / "test.csv", index=False)
    assert RunDirectory(folder).read_split("test").texts == tuple(texts)


def test_what_a_configuration_asks_for_beside_the_model_changes_no_logit(written, folder):
    """Half precision, another attention (which might be fetched from the network), tuples instead of records."""
    usual = Pipeline(RunDirectory(written["bert"])).score("test", SHORT).run
    settings(
        folder,
        dtype="bfloat16",
        torch_dtype="float16",
        attn_implementation="someone/their-kernel",
        _attn_implementation="someone/their-kernel",
        return_dict=False,
        output_hidden_states=True,
    )
    run = Pipeline(RunDirectory(folder)).score("test", SHORT).run
    np.testing.assert_array_equal(run.logits, usual.logits)


def test_a_model_saved_in_half_is_computed_in_float32_and_said(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder).to(torch.bfloat16)
    model.save_pretrained(folder)
    pipeline = Pipeline(RunDirectory(folder))
    run = pipeline.score("test", Setting(device="cpu")).run
    wide = scores_of(model.float().eval(), list(pipeline.split("test").texts), "bert")
    np.testing.assert_array_equal(run.logits, wide)
    assert any("stored as bfloat16" in check["message"] for check in inspect(pipeline)["checks"])


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_tokenizer_of_plain_files_gives_the_same_ids(written, tmp_path, kind):
    """`vocab.txt`, or `vocab.json` with `merges.txt`, as older folders have them; no `tokenizer.json`."""
    folder = shutil.copytree(written[kind], tmp_path / "run")
    state = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True} if kind == "bert" else {})
    )
    words = sorted(state["vocab"], key=state["vocab"].__getitem__)
    if kind == "bert":
        (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    else:
        (folder / "vocab.json").write_text(json.dumps(state["vocab"]))
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in state["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    runs = [Pipeline(RunDirectory(one)).score("test", SHORT).run for one in (folder, written[kind])]
    np.testing.assert_array_equal(runs[0].token_digests, runs[1].token_digests)
    np.testing.assert_array_equal(runs[0].logits, runs[1].logits)


def test_a_configuration_that_does_not_say_what_its_logits_are_for_is_remarked_on(folder):
    settings(folder, problem_type=None)
    checks = {check["name"]: check["status"] for check in inspect(Pipeline(RunDirectory(folder)))["checks"]}
    assert checks["problem_type"] == "warning" and "error" not in checks.values()


def test_a_configuration_that_the_library_refuses_is_one_line_from_the_tokenizer_too(folder):
    settings(folder, hidden_size="wide")
    with refused("config.json"):
        Pipeline(RunDirectory(folder)).score("test", SHORT)
    with refused("No tokenizer could be loaded"):
        load_tokenizer(folder)


def test_a_tokenizer_that_frames_notes_otherwise_is_refused(folder):
    """As XLNet's, which puts both special tokens after a note."""
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text())
    for kind in ("single", "pair"):
        parts = state["post_processor"][kind]
        state["post_processor"][kind] = [part for part in parts if "Sequence" in part] + [
            part for part in parts if "SpecialToken" in part
        ]
    path.write_text(json.dumps(state))
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(special | {"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    with refused("does not put one token before and one after a note"):
        Pipeline(RunDirectory(folder)).score("test", SHORT)
