"""The command-line contract: keys of the JSON, one error line, nothing else on standard output."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shifamind_core.cli import main, parser
from shifamind_core.commands import COMMANDS
from shifamind_core.errors import ShifamindError
from shifamind_core.options import chosen
from shifamind_core.records import from_json
from shifamind_core.runs.run import Run
from shifamind_core.runs.run_file import read_run_file, write_run_file
from simulation.builders import tiny_run_directory

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    return tiny_run_directory(tmp_path_factory.mktemp("cli"), "cls_fusion", notes=24)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SHIFAMIND_CACHE", str(tmp_path_factory.getbasetemp() / "cli-cache"))


@pytest.fixture
def command(capsys):
    """Run a command with --json; returns its one JSON document."""

    def run(*arguments):
        status = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        assert captured.out.count("\n") == 1
        return json.loads(captured.out)

    return run


@pytest.fixture
def refused(capsys):
    """Run a command that must fail; returns its one line."""

    def run(*arguments):
        status = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert status == 2 and captured.out == ""
        last = captured.err.split("\n")[-2]
        assert last.startswith("error: ") and "Traceback" not in captured.err
        return last

    return run


@pytest.fixture
def predicted(run_directory, command, tmp_path):
    def run(*options, name="run.safetensors"):
        result = command("predict", run_directory, "--output", tmp_path / name, "--max-length", 32, "--lowercase", "true",
                         "--device", "cpu", *options)  # fmt: skip
        return tmp_path / name, result

    return run


def test_inspect_says_what_the_contract_names(command, run_directory):
    result = command("inspect", run_directory)
    assert {"architecture", "parameters", "codes", "checks", "tokenizer", "environment"} <= result.keys()
    assert {check["status"] for check in result["checks"]} == {"ok"}
    assert {"lowercase", "source"} <= result["tokenizer"].keys()


def test_predict_writes_a_run_file_and_the_second_time_answers_from_the_cache(predicted):
    path, first = predicted("--split", "val")
    again, second = predicted("--split", "val", name="again.safetensors")
    assert (first["documents"], first["codes"], second["cached"]) == (24, 6, True)
    run = read_run_file(path)
    assert run.digest == read_run_file(again).digest and run.manifest == read_run_file(again).manifest
    assert run.manifest.tokenization.lowercase is True and run.manifest.policy.name == "fp32"


def test_evaluate_compare_and_bound_speak_the_contract(command, predicted):
    test, _ = predicted()
    validation, _ = predicted("--split", "val", name="val.safetensors")
    cased, _ = predicted("--lowercase", "false", name="cased.safetensors")
    evaluation = command("evaluate", test, "--validation", validation, "--grid", "clean")
    assert {"fixed", "tuned", "top_k", "macro_f1_of_means", "per_code"} <= evaluation.keys()
    for name in ("macro_f1", "micro_f1"):
        assert evaluation["ceiling"][name]["f1"] >= evaluation["fixed"][name]
    assert {"threshold", "validation_micro_f1", "macro_f1", "micro_f1", "plateau"} <= evaluation[
        "tuned"
    ].keys()
    comparison = command("compare", test, cased)
    keys = {"aligned_documents", "aligned_codes", "mean_difference", "max_abs_difference", "abs_percentiles",
            "decisions_flipped", "macro_f1", "micro_f1", "per_code"}  # fmt: skip
    assert keys <= comparison.keys() and comparison["abs_percentiles"].keys() == {"50", "90", "99"}
    assert command("compare", test, test)["max_abs_difference"] == 0
    bound = command("bound", test, "--epsilon", 0)
    score = evaluation["fixed"]["macro_f1"]
    assert bound["macro_f1"] == [score, score]
    assert command("bound", test, "--target-micro-f1", 0)["epsilon"] > 0
    assert command("bound", test, "--target-macro-f1", 1.0).keys() == {"epsilon", "macro_f1_over"}


def test_bitwise_runs_have_a_fingerprint_that_other_batches_and_padding_do_not_move(command, predicted):
    one, first = predicted("--policy", "bitwise", "--limit", 6, name="one.safetensors")
    other, second = predicted("--policy", "bitwise", "--limit", 6, "--batch-size", 4, "--padding", "longest",
                              name="other.safetensors")  # fmt: skip
    fp32, third = predicted("--limit", 6, name="fp32.safetensors")
    assert not second["cached"] and third["fingerprint"] is None
    assert len(first["fingerprint"]) == 64 and first["fingerprint"] == second["fingerprint"]
    same = command("compare", one, other)
    assert same["fingerprint"] == {
        "candidate": first["fingerprint"],
        "reference": first["fingerprint"],
        "equal": True,
    }
    assert any("equal in every bit" in remark for remark in same["remarks"])
    recased, fourth = predicted(
        "--policy", "bitwise", "--limit", 6, "--lowercase", "false", name="recased.safetensors"
    )
    assert fourth["fingerprint"] != first["fingerprint"]
    assert any("no GPU" in remark for remark in command("compare", one, recased)["remarks"])
    assert command("compare", one, fp32)["fingerprint"]["equal"] is None


def test_diagnose_and_replay_find_the_casing(command, predicted, run_directory):
    test, _ = predicted("--max-length", "512", name="a.safetensors")
    cased, _ = predicted("--max-length", "512", "--lowercase", "false", name="b.safetensors")
    diagnosis = command("diagnose", test, cased)
    assert {"cause", "status", "score", "evidence", "explanation", "how_to_confirm"} <= diagnosis["findings"][
        0
    ].keys()
    assert diagnosis["cause"] == diagnosis["findings"][0]["cause"] != "numerics"
    result = command("replay", run_directory, "--reference", cased, "--notes", 16, "--depth", 1, "--device", "cpu",
                     "--only", "lowercase=false", "--only", "max_length=128")  # fmt: skip
    assert result["best"]["interventions"] == ["lowercase=false"] and result["verdict"] == "confirmed"
    assert {"explained", "max_abs_residual"} <= result["best"].keys()
    assert result["trials"][0]["interventions"] == ["lowercase=false"]


def test_what_libraries_print_meanwhile_does_not_stand_in_the_document(monkeypatch, capfd):
    def noisy(asked, host):
        print("said by a library in Python")
        os.write(1, b"said by a library past Python\n")
        return {"answer": 1}

    monkeypatch.setitem(COMMANDS, "capture", replace(COMMANDS["capture"], run=noisy, document=dict))
    assert main(["capture", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"answer": 1}
    assert err.count("said by a library") == 2


def test_capture_prints_python(command, capsys):
    compile(command("capture")["snippet"], "snippet", "exec")
    assert main(["capture"]) == 0
    compile(capsys.readouterr().out, "snippet", "exec")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["predict", "{run}", "--policy", "fp8"], "no precision policy 'fp8'"),
        (["predict", "{run}", "--policy", "tf32", "--device", "cpu"], "compute capability"),
        (["predict", "{run}", "--limit", "0"], "at least 1"),
        (["predict", "{run}", "--batch-size", "0"], "at least 1"),
        (["predict", "{run}", "--split", "dev"], "no split"),
        (["predict", "{run}", "--base-model", "nowhere"], "nowhere"),
        (["evaluate", "nowhere.npz"], "nowhere.npz"),
        (["evaluate", "{text}"], "notes.txt"),
        (["bound", "{text}", "--epsilon", "-1"], ""),
        (["bound", "{text}"], "required"),
        (["replay", "{run}", "--reported", "f1=0.3"], "no score"),
        (["replay", "{run}", "--reported", "macro_f1@0.5=3"], "between 0 and 1"),
        (["frobnicate"], "invalid choice"),
        (["replay", "{run}", "--reported", "macro_f1@0.5=0.3", "--notes", "0"], "at least 1"),
        (["certify", "{run}", "--threshold", "1"], "strictly between 0 and 1"),
        (["certify", "{run}", "--limit", "-1"], "at least 1"),
        (["certify", "{run}", "--referee-notes", "0"], "at least 1"),
        (["predict", "{run}", "--limit", "-1"], "at least 1"),
        (["layers", "{run}", "--notes", "0"], "at least 1"),
        (["layers", "{run}", "--split", "nosuch"], "no split"),
        (["certify", "{run}", "--split", "nosuch"], "no split"),
        (["probe", "{run}/shared_data/top50_icd10_info.json"], "no checkpoint"),
        (["predict", "{run}", "--base-model", "{text}"], "does not exist"),
        (["replay", "{run}", "--reported", "macro_f1@0.5=0.3", "--depth", "0"], "at least 1"),
        (["demo", "{text}/below"], "notes.txt"),
        (["demo", "a" * 300], "cannot be written"),
        *((["evaluate", name], name) for name in ("folder.npz", "empty.npz")),
        *((["bound", name, "--epsilon", "1"], name) for name in ("folder.npz", "empty.npz")),
        *(
            ([name, "{good}", other], other)
            for name in ("compare", "diagnose")
            for other in ("folder.npz", "empty.npz", "nowhere.npz")
        ),
        *(
            ([name, "{run}", "--max-length", length], "at least 3" if int(length) < 3 else "512 positions")
            for name in ("predict", "layers", "certify")
            for length in ("-1", "0", "1", "2", "100000")
        ),
        *(
            (["bound", "{good}", "--epsilon", "0.1", "--threshold", threshold], "strictly between 0 and 1")
            for threshold in ("0", "1", "-0.5", "1.5", "nan")
        ),
        *(
            (["bound", "{good}", f"--target-{score}-f1", target], "between 0 and 1")
            for score in ("macro", "micro")
            for target in ("nan", "-0.1", "1.1")
        ),
        *((["bound", "{good}", "--epsilon", epsilon], epsilon) for epsilon in ("nan", "-1")),
        *(
            ([*command, "--device", device], "auto, cpu, cuda or cuda:N")
            for command in (
                ["predict", "{run}"],
                ["layers", "{run}"],
                ["probe", "{run}"],
                ["certify", "{run}"],
                ["replay", "{run}", "--reported", "macro_f1@0.5=0.3"],
            )
            for device in ("tpu", "quantum")
        ),
    ],
)
def test_bad_input_gives_one_line_and_status_2(
    refused, run_directory, tmp_path, monkeypatch, arguments, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no run")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "empty.npz").touch()
    write_run_file(
        Run(np.eye(2, dtype=np.float32), codes=("A", "B"), labels=np.eye(2, dtype=np.uint8)),
        tmp_path / "good.safetensors",
    )
    places = {"run": run_directory, "text": "notes.txt", "good": "good.safetensors"}
    assert says in refused(*(a.format(**places) for a in arguments))


def test_an_error_ends_an_unfinished_progress_line(run_directory, monkeypatch, capsys):
    def breaks_off(spec, cache, progress):
        progress("Scoring", 0, 24)
        raise ShifamindError("No memory.")

    monkeypatch.setattr("shifamind_core.tasks.run_predict", breaks_off)
    assert main(["predict", str(run_directory)]) == 2
    assert capsys.readouterr().err == "\rScoring: 0 of 24\nerror: No memory.\n"


def test_a_length_beyond_the_positions_is_refused_before_any_note_is_read(
    refused, run_directory, monkeypatch
):
    monkeypatch.setattr("shifamind_core.inference.pipeline.tokenize", None)
    monkeypatch.setattr("shifamind_core.artifacts.run_directory.read_split", None)
    for name in ("predict", "layers", "certify"):
        assert "512 positions" in refused(name, run_directory, "--max-length", 513, "--device", "cpu")


def test_runs_of_another_length_are_refused_in_one_line(refused, tmp_path):
    for documents in (3, 4):
        write_run_file(
            Run(np.zeros((documents, 2), np.float32), codes=("A", "B")), tmp_path / f"{documents}.safetensors"
        )
    assert (
        "3" in (line := refused("compare", tmp_path / "3.safetensors", tmp_path / "4.safetensors"))
        and "4" in line
    )


def test_a_run_with_nan_is_refused_by_evaluate_and_counted_by_compare(command, refused, tmp_path):
    logits = np.array([[0.5, np.nan], [1.0, -1.0]], np.float32)
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    write_run_file(Run(logits, codes=("A", "B"), labels=labels), tmp_path / "nan.safetensors")
    write_run_file(Run(np.nan_to_num(logits), codes=("A", "B"), labels=labels), tmp_path / "ok.safetensors")
    assert "1" in refused("evaluate", tmp_path / "nan.safetensors")
    assert (
        command("compare", tmp_path / "nan.safetensors", tmp_path / "ok.safetensors")["max_abs_difference"]
        == 0
    )


@pytest.mark.parametrize("before", ["", "import sklearn; "])
def test_models_are_loaded_without_what_nothing_here_needs_and_it_can_be_had_afterwards(before, tmp_path):
    for name in ("sklearn", "torchvision"):  # each says that it was imported
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"print('{name} was imported')\n")
    code = (
        f"import sys; {before}from shifamind_core.commands import import_transformers; import_transformers();"
        "print('loaded', 'transformers.models.bert.modeling_bert' in sys.modules); import sklearn, torchvision"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    said = done.stdout.splitlines()
    first = ["sklearn was imported"] if before else []
    rest = ["torchvision was imported"] if before else ["sklearn was imported", "torchvision was imported"]
    assert said == [*first, "loaded True", *rest]


def test_evaluate_waits_for_neither_torch_nor_streamlit(tmp_path):
    write_run_file(
        Run(np.zeros((2, 2), np.float32), codes=("A", "B"), labels=np.eye(2, dtype=np.uint8)),
        tmp_path / "r.safetensors",
    )
    code = (
        "import sys; from shifamind_core.cli import main; status = main(['evaluate', sys.argv[1], '--json']);"
        "print({'torch', 'streamlit'} & set(sys.modules), file=sys.stderr); sys.exit(status)"
    )
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r.safetensors")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0 and done.stderr.strip() == "set()"


def test_every_command_has_help():
    text = parser().format_help()
    for name in (
        "demo",
        "ladder",
        "inspect",
        "predict",
        "evaluate",
        "compare",
        "bound",
        "diagnose",
        "replay",
        "capture",
    ):
        assert name in text


def test_a_ladder_that_was_written_is_read_by_diagnose(command, refused, predicted, run_directory, tmp_path):
    file = tmp_path / "ladder.json"
    ladder = command(
        "ladder", run_directory, "--limit", 4, "--max-length", 32, "--device", "cpu", "--output", file
    )
    assert json.loads(file.read_text()) == ladder
    assert {"fp64", "fp32", "bf16"} <= {rung["policy"] for rung in ladder["rungs"]}
    run, _ = predicted()
    assert command("diagnose", run, run, "--ladder", file)["cause"] == "identical"
    file.write_text('{"rungs": 3}')
    assert "ladder.json" in refused("diagnose", run, run, "--ladder", file)
    assert "nowhere.json" in refused("diagnose", run, run, "--ladder", tmp_path / "nowhere.json")
    assert "no score" in refused("diagnose", run, run, "--reported", "f1=0.3")


def test_a_job_is_asked_for_in_the_words_of_the_command_line():
    """What a page sends as JSON and what a person types come to one record."""
    typed = [
        "layers",
        "here",
        "--policy",
        "tf32",
        "--policy",
        "bf16",
        "--against-attention",
        "eager",
        "--notes",
        "4",
    ]
    sent = {
        "run_directory": "here",
        "policies": ["tf32", "bf16"],
        "against_attention": "eager",
        "notes": 4,
    }
    layers = COMMANDS["layers"]
    assert chosen(layers.spec, parser().parse_args(typed)) == from_json(layers.spec, sent)
    with pytest.raises(ShifamindError, match="not allowed with"):
        parser().parse_args(["bound", "run", "--epsilon", "1", "--target-macro-f1", "0.5"])


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["layers", "--notes", 2, "--max-length", 32, "--against", "fp64"], {"layers", "first_divergence"}),
        (["probe", "--notes", 2], {"probes"}),
        (
            ["certify", "--limit", 3, "--referee-notes", 2, "--max-length", 32],
            {"epsilon", "at_risk", "fingerprint"},
        ),
        (["rounding", "--limit", 3, "--max-length", 32], {"decisions_flipped", "fingerprint", "explanation"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_measurements_print_one_document(command, run_directory, arguments, keys):
    name, *options = arguments
    result = command(name, run_directory, "--device", "cpu", *options)
    assert keys <= result.keys(), result.keys()
