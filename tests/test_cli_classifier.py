"""A stranger's classifier through every command: what `save_pretrained` wrote, and a table of notes."""

import json

import numpy as np
import pytest
import torch

from shifamind_core.cli import main
from shifamind_core.runs.run_file import read_run_file
from simulation.builders import CODES, tiny_run_directory
from simulation.classifiers import classifier_run_directory

FAMILIES = ["bert", "roberta", "distilbert"]


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """One of each family, with a cache that all tests here share."""
    place = tmp_path_factory.mktemp("classifiers")
    found = {kind: classifier_run_directory(place / kind / "run", kind, notes=10) for kind in FAMILIES}
    return found | {"cache": place / "cache"}


@pytest.fixture
def command(capsys, monkeypatch, directories):
    """Run a command with --json; returns its one JSON document."""
    monkeypatch.setenv("SHIFAMIND_CACHE", str(directories["cache"]))

    def run(*arguments):
        status = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return json.loads(captured.out)

    return run


@pytest.fixture
def runs(command, directories, tmp_path):
    """Both splits of the BERT classifier, and its test split cut at 128 tokens."""
    files = {name: tmp_path / f"{name}.safetensors" for name in ("test", "val", "short")}
    for name, options in (("test", []), ("val", ["--split", "val"]), ("short", ["--max-length", 128])):
        command("predict", directories["bert"], "--device", "cpu", *options, "--output", files[name])
    return files


@pytest.mark.parametrize("kind", FAMILIES)
def test_inspect_says_which_kind_it_found(command, directories, kind):
    found = command("inspect", directories[kind])
    assert found["architecture"] == "sequence_classification"
    assert found["model_class"].endswith("ForSequenceClassification")
    assert found["splits"] == {"val": 10, "test": 10} and found["codes"] == CODES[:6]
    assert {check["status"] for check in found["checks"]} == {"ok"}


@pytest.mark.parametrize("kind", FAMILIES)
def test_replay_finds_a_length_that_was_planted(command, directories, tmp_path, kind):
    reference = tmp_path / "other.safetensors"
    command("predict", directories[kind], "--device", "cpu", "--max-length", 256, "--output", reference)
    found = command("replay", directories[kind], "--reference", reference, "--device", "cpu", "--depth", 1)
    assert found["best"]["interventions"] == ["max_length=256"] and found["best"]["explained"] > 0.99
    assert found["verdict"] == "confirmed"
    tried = {name for trial in found["trials"] for name in trial["interventions"]}
    assert "attention_mask=ignored" in tried and not any(
        name.startswith(("pooling", "fusion")) for name in tried
    )
    assert not any("could not be tried" in remark for remark in found["remarks"])


def test_replay_finds_that_a_script_lower_cased_for_a_cased_tokenizer(command, directories, tmp_path):
    """RoBERTa's tokenizer keeps case; `text.lower()` in a loader does not."""
    reference = tmp_path / "other.safetensors"
    command(
        "predict", directories["roberta"], "--device", "cpu", "--lowercase", "true", "--output", reference
    )
    found = command(
        "replay", directories["roberta"], "--reference", reference, "--device", "cpu", "--depth", 1
    )
    assert found["best"]["interventions"] == ["lowercase=true"] and found["verdict"] == "confirmed"


def test_scores_are_evaluated_compared_bounded_and_diagnosed(command, runs):
    found = command("evaluate", runs["test"], "--validation", runs["val"])
    assert len(found["per_code"]) == 6 and found["tuned"]["macro_f1"] > 0
    compared = command("compare", runs["short"], runs["test"])
    assert compared["aligned_documents"] == 10 and compared["max_abs_difference"] > 0
    low, high = command("bound", runs["test"], "--epsilon", 0.01)["macro_f1"]
    assert low <= high
    causes = [finding["cause"] for finding in command("diagnose", runs["short"], runs["test"])["findings"]]
    assert "max_length" in causes or "input_changed" in causes


def test_a_run_has_no_concept_scores(runs):
    run = read_run_file(runs["test"])
    assert run.concept_scores is None and run.manifest.checkpoint.architecture == "sequence_classification"


def test_bitwise_runs_have_a_fingerprint(command, directories, tmp_path):
    asked = ["--device", "cpu", "--policy", "bitwise", "--limit", 4, "--max-length", 64]
    found = command("predict", directories["bert"], *asked, "--output", tmp_path / "b.safetensors")
    assert len(found["fingerprint"]) >= 64


def test_the_ladder_leads_from_fp64(command, directories):
    found = command("ladder", directories["bert"], "--device", "cpu", "--limit", 3, "--max-length", 48)
    rungs = {rung["policy"]: rung for rung in found["rungs"]}
    assert rungs["fp64"]["max_abs"] == 0 < rungs["fp32"]["max_abs"] < rungs["bf16"]["max_abs"]


@pytest.mark.parametrize("kind", FAMILIES)
def test_layers_part_where_a_policy_rounds(command, directories, kind):
    asked = ["--policy", "bf16", "--against", "fp64", "--notes", 2, "--max-length", 48, "--device", "cpu"]
    found = command("layers", directories[kind], *asked)
    names = [layer["name"] for layer in found["layers"]]
    assert any(name.startswith(f"{kind}.embeddings") for name in names) and names[-1].startswith("classifier")
    assert all(np.isfinite(layer["relative_error"]) for layer in found["layers"])
    assert found["layers"][-1]["relative_error"] > 0


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_probes_find_a_sound_model(command, directories, kind):
    probes = {
        one["name"]: one
        for one in command("probe", directories[kind], "--device", "cpu", "--notes", 2)["probes"]
    }
    assert {name: probes[name]["status"] for name in ("strict_load", "parameters_in_memory", "eval_mode", "padding")} == {
        "strict_load": "ok", "parameters_in_memory": "ok", "eval_mode": "ok", "padding": "ok",
    }  # fmt: skip
    assert {one["status"] for one in probes.values()} <= {"ok", "warning", "skipped", "failed"}
    assert not any("Error" in one["message"] for one in probes.values())
    assert probes["two_processes"]["status"] in ("ok", "warning")


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_certificate_is_given_with_a_fingerprint_where_bitwise_covers_the_model(command, directories, kind):
    asked = ["--device", "cpu", "--limit", 6, "--referee-notes", 2, "--max-length", 64]
    found = command("certify", directories[kind], *asked)
    assert found["documents"] == 6 and (found["fingerprint"] is not None) == (kind == "bert")


def test_rounding_is_measured_where_bitwise_covers_the_model(command, directories, capsys):
    asked = ["--device", "cpu", "--limit", 3, "--max-length", 48]
    assert command("rounding", directories["bert"], *asked)["split"] == "test"
    assert main(["rounding", str(directories["distilbert"]), *map(str, asked), "--json"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: bitwise does not cover") and "DistilBertForSequenceClassification" in said


def test_case_26_replay_finds_the_other_weights_in_the_file(command, tmp_path, monkeypatch):
    """The reference is of an average of the weights that lies in the same checkpoint."""
    run = tiny_run_directory(tmp_path / "run_1", notes=24)
    path = run / "checkpoints" / "phase1" / "phase1_best.pt"
    content = torch.load(path, weights_only=False)
    content["ema_state_dict"] = {key: tensor * 0.97 for key, tensor in content["model_state_dict"].items()}
    torch.save(content, path)
    reference = tmp_path / "ema.safetensors"
    asked = ["--device", "cpu", "--lowercase", "true"]
    command("predict", run, *asked, "--weights", "ema_state_dict", "--output", reference)
    assert read_run_file(reference).manifest.checkpoint.state_dict == "ema_state_dict"
    found = command("replay", run, "--reference", reference, "--device", "cpu", "--depth", 2)
    assert "weights=ema_state_dict" in found["best"]["interventions"] and found["verdict"] == "confirmed"
    assert found["best"]["explained"] > 0.99
