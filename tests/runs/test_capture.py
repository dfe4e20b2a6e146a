"""The snippet, executed beside the seed's own loop as on a machine that has nothing of ours."""

import ast
import io
import json
import sys
import tokenize

import numpy as np
import pytest
import safetensors
import torch
from torch.utils.data import DataLoader, Dataset

from shifamind_core.artifacts.digests import text_digest
from shifamind_core.model.architectures import ARCHITECTURES
from shifamind_core.model.checkpoint import part_digests, untrained_parts, weights_digest
from shifamind_core.precision.observe import observe_environment
from shifamind_core.records import to_json
from shifamind_core.runs.capture import snippet
from shifamind_core.runs.manifest import CAPTURED, TRAINING_MODE
from shifamind_core.runs.run_file import read_run_file
from simulation.builders import CODES, tiny_checkpoint, tiny_model, tiny_notes, tiny_tokens, write_base_model
from tests.support.seed_loop import seed_loop

NOTES = tiny_notes(10)
SNIPPET_TEXT = snippet({one.name: one.marks for one in ARCHITECTURES})
LABELS = (np.arange(60).reshape(10, 6) % 3 == 0).astype(np.float32)


class Notes(Dataset):
    """As the public scripts': one dict a note, labels as floats."""

    def __init__(self, ids, mask, with_text=True):
        self.ids, self.mask, self.with_text = ids, mask, with_text

    def __len__(self):
        return len(NOTES)

    def __getitem__(self, row):
        text = {"text": NOTES[row]} if self.with_text else {}
        labels = torch.from_numpy(LABELS[row])
        return {"input_ids": self.ids[row], "attention_mask": self.mask[row], "labels": labels, **text}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return tiny_tokens(NOTES, write_base_model(tmp_path_factory.mktemp("base") / "base_model"))


def notebook():
    """A fresh namespace with the seed's loop and the snippet pasted below it."""

    def tqdm(batches, desc, leave):
        assert len(batches) == 3  # a progress bar asks how many there are
        return batches

    namespace = seed_loop(tqdm)
    exec(compile(SNIPPET_TEXT, "snippet", "exec"), namespace)
    return namespace


def captured(tmp_path, model, loader, *arguments, **options):
    """The run that the snippet saves from the seed's loop, what the loop returned, and what it returns alone."""
    cells = notebook()
    path = tmp_path / "run.safetensors"
    evaluate = cells["get_probs_from_model"]
    returned = cells["save_run"](str(path), evaluate, model, loader, *arguments, **options)
    return read_run_file(path), returned, evaluate(model, loader, *arguments)


def test_the_snippet_saves_what_the_seeds_own_loop_computes(tmp_path, tokens, capsys):
    model = tiny_model()
    model.train()  # the seed's loop calls eval() itself
    (tmp_path / "best.pt").write_bytes(b"the checkpoint's file")
    loader = DataLoader(Notes(*tokens), batch_size=4)
    run, (probabilities, labels), (alone, _) = captured(
        tmp_path,
        model,
        loader,
        checkpoint=tiny_checkpoint(model, CODES[:6], 5),
        checkpoint_path=tmp_path / "best.pt",
        split="test",
    )
    assert np.array_equal(probabilities, alone) and np.array_equal(labels, LABELS)
    with torch.no_grad():
        direct = [model(ids, mask) for ids, mask in zip(*(part.split(4) for part in tokens), strict=True)]
    assert run.logits.dtype == np.float32
    assert run.logits.tobytes() == torch.cat([out["logits"] for out in direct]).numpy().tobytes()
    assert np.array_equal(run.concept_scores, torch.cat([out["concept_scores"] for out in direct]).numpy())
    assert np.array_equal(run.labels, LABELS) and run.codes == tuple(CODES[:6])
    assert run.document_ids.tolist() == [text_digest(note.encode()) for note in NOTES]
    assert run.token_digests.tolist() == [
        text_digest(ids[mask.bool()].numpy().astype("<i4").tobytes())
        for ids, mask in zip(*tokens, strict=True)
    ]
    assert run.token_counts is None  # after truncation nobody knows
    assert capsys.readouterr().out == f"Saved {tmp_path / 'run.safetensors'}: 10 notes x 6 codes\n"


def test_the_manifest_says_what_our_own_would(tmp_path, tokens):
    model = tiny_model()
    run, *_ = captured(
        tmp_path,
        model,
        DataLoader(Notes(*tokens), batch_size=4),
        checkpoint=tiny_checkpoint(model, CODES[:6], 5),
    )
    manifest = run.manifest
    assert manifest.environment == observe_environment(torch.device("cpu"))
    assert manifest.checkpoint.weights_digest == weights_digest(model.state_dict())
    assert manifest.checkpoint.part_digests == part_digests(model.state_dict()) != {}
    assert manifest.checkpoint.untrained_parts == untrained_parts(model.state_dict()) != ()
    assert (manifest.checkpoint.architecture, manifest.checkpoint.epoch) == ("cls_fusion", 15)
    assert manifest.checkpoint.stored_macro_f1 == 0.2797
    assert (manifest.tokenization.padding, manifest.tokenization.max_length) == ("max_length", 512)
    assert manifest.flags.weights == "float32" and manifest.flags.autocast is None
    assert manifest.flags.float32_matmul_precision == "highest" and manifest.flags.attention == "sdpa"
    assert manifest.batch_size == 4 and manifest.split is None and manifest.policy is None
    assert manifest.notes == ()


def test_every_field_of_the_snippet_is_a_field_of_the_manifest(tmp_path, tokens):
    captured(tmp_path, tiny_model("concept_attention"), DataLoader(Notes(*tokens), batch_size=4), split="val")
    with safetensors.safe_open(tmp_path / "run.safetensors", framework="numpy") as file:
        written = json.loads(file.metadata()["manifest"])
    assert written == to_json(read_run_file(tmp_path / "run.safetensors").manifest)


def test_texts_may_be_given_where_batches_have_none(tmp_path, tokens):
    loader = DataLoader(Notes(*tokens, with_text=False), batch_size=4)
    assert captured(tmp_path, tiny_model(), loader)[0].document_ids is None
    run, *_ = captured(tmp_path, tiny_model(), loader, texts=NOTES)
    assert run.document_ids.tolist() == [text_digest(note.encode()) for note in NOTES]


def test_the_loops_own_arguments_reach_it(tmp_path, tokens):
    model = tiny_model("concept_attention")
    loader = DataLoader(Notes(*tokens), batch_size=4)
    external = torch.randn(5, 32, generator=torch.Generator().manual_seed(3))
    run, *_ = captured(tmp_path, model, loader, True, external)
    with torch.no_grad():
        expected = model(tokens[0][:4], tokens[1][:4], external)["logits"]
    assert np.array_equal(run.logits[:4], expected.numpy())
    assert run.manifest.checkpoint.architecture == "concept_attention"


def test_autocast_and_padding_to_the_longest_are_seen(tmp_path, tokens):
    def cut(batch):
        """Pad to the longest of the batch."""
        width = max(int(item["attention_mask"].sum()) for item in batch)
        joined = torch.utils.data.default_collate(batch)
        return joined | {key: joined[key][:, :width] for key in ("input_ids", "attention_mask")}

    def loop(model, loader):
        """Not the seed's: its `.numpy()` refuses BF16."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return [model(batch["input_ids"], batch["attention_mask"])["logits"] for batch in loader]

    loader = DataLoader(Notes(*tokens), batch_size=4, collate_fn=cut)
    returned = notebook()["save_run"](tmp_path / "run.safetensors", loop, tiny_model(), loader)
    run = read_run_file(tmp_path / "run.safetensors")
    assert returned[0].dtype == torch.bfloat16 and np.array_equal(
        run.logits, torch.cat(returned).float().numpy()
    )
    assert run.manifest.flags.autocast == "bfloat16" and run.manifest.tokenization.padding == "longest"
    assert run.manifest.tokenization.max_length is None and run.logits.dtype == np.float32


def test_dropout_left_on_is_noted(tmp_path, tokens):
    cells = notebook()
    model = tiny_model().train()
    loop = cells["get_probs_from_model"]
    model.eval = lambda: model  # a loop that forgets it
    path = tmp_path / "run.safetensors"
    cells["save_run"](path, loop, model, DataLoader(Notes(*tokens), batch_size=4))
    manifest = read_run_file(path).manifest
    assert manifest.notes == (TRAINING_MODE,) and str(manifest.producer).startswith(CAPTURED)


def test_the_hook_is_gone_even_after_an_error(tmp_path, tokens):
    cells, model = notebook(), tiny_model()

    def broken(model, loader):
        next(iter(loader))
        raise KeyError("labels")

    with pytest.raises(KeyError, match="labels"):
        cells["save_run"](
            tmp_path / "run.safetensors", broken, model, DataLoader(Notes(*tokens), batch_size=4)
        )
    assert not model._forward_hooks and list(tmp_path.iterdir()) == []


def test_the_snippet_needs_nothing_but_torch_numpy_and_safetensors():
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SNIPPET_TEXT))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module])
    }
    assert imported - set(sys.stdlib_module_names) == {"torch", "numpy", "safetensors"}


def test_the_snippet_survives_pasting():
    """Plain ASCII, no tabs, lines that fit a notebook cell."""
    text = SNIPPET_TEXT
    assert text.isascii() and "\t" not in text and max(map(len, text.splitlines())) <= 120
    assert list(tokenize.generate_tokens(io.StringIO(text).readline))
