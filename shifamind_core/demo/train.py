"""Train the demo's checkpoint: `python -m shifamind_core.demo.train --output DIR [--device cuda]`.

Makes a whole run directory without references (`record.py` adds those). As in the case, the vocabulary is cased
and comes alone, and the notes are lower-cased on the way in. Loss: binary cross-entropy of the 50 codes, plus
0.3 times that of the 113 concepts. The epoch with the best macro F1 at 0.5 on the validation split is kept.

The shipped checkpoint took two and a half minutes on an H200 (BF16 autocast), notes written included. Seeds are fixed,
yet training in BF16 is not bitwise repeatable on other hardware: a new checkpoint is another one, and needs new
references. To renew the demo: train, `python -m shifamind_core.demo.record DIR` on the GPU, and copy `checkpoints/`,
`base_model/`, `references/` and `shared_data/concept_embeddings.npy` to `shifamind_core/demo/data/`.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from shifamind_core.analysis.counts import counts_at_thresholds, counts_of_logits
from shifamind_core.analysis.scores import macro_f1, micro_f1
from shifamind_core.demo.concepts import CONCEPTS, concepts_in
from shifamind_core.demo.labels import CODES
from shifamind_core.demo.notes import write_note
from shifamind_core.demo.vocabulary import write_vocabulary
from shifamind_core.demo.writer import DATA, DOCUMENTS, TIMESTAMP, TRAINING_NOTES, write_shared_data
from shifamind_core.inference.tokenization import Tokenization, tokenize
from shifamind_core.inference.tokenizer import NoteTokenizer, load_tokenizer
from shifamind_core.model.shifamind import ClsFusion
from shifamind_core.settings import processors

CHUNK = 512  # notes a worker writes and tokenizes at a time
LAMBDA_CONCEPT = 0.3


@dataclass(frozen=True)
class Training:
    """One training; the defaults made the shipped checkpoint."""

    notes: int = TRAINING_NOTES
    epochs: int = 8
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: float = 0.06
    weight_decay: float = 0.01
    hidden: int = 128
    layers: int = 4
    seed: int = 20260102


@dataclass(frozen=True)
class Examples:
    """Notes as the model sees them: ids int16 [notes, 512], codes and concepts uint8 [notes, ...]."""

    ids: Tensor
    codes: Tensor
    concepts: Tensor

    def to(self, device: torch.device) -> "Examples":
        return Examples(self.ids.to(device), self.codes.to(device), self.concepts.to(device))


def bert_config(training: Training, vocabulary: int) -> BertConfig:
    """A BERT of the seed's shape, made small."""
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=training.hidden,
        num_hidden_layers=training.layers,
        num_attention_heads=4,
        intermediate_size=4 * training.hidden,
        max_position_embeddings=512,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
    )


def examples(split: str, count: int, base_model: Path, workers: int) -> Examples:
    """The first notes of a split, written and tokenized lower-cased."""
    starts = range(0, count, CHUNK)
    stops = [min(start + CHUNK, count) for start in starts]
    tasks = (repeat(split), starts, stops, repeat(base_model))
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_some_examples, *tasks))
    else:
        parts = list(map(_some_examples, *tasks))
    ids, codes, concepts = (torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
    return Examples(ids, codes, concepts)


def _some_examples(split: str, start: int, stop: int, base_model: Path) -> tuple[np.ndarray, ...]:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    notes = [write_note(split, index) for index in range(start, stop)]
    tokens = tokenize([note.text for note in notes], _tokenizer(base_model)).prepare(
        Tokenization(lowercase=True)
    )
    codes = np.array([note.labels for note in notes], np.uint8)
    concepts = np.array([concepts_in(note.text) for note in notes], np.uint8)
    return tokens.ids.astype(np.int16), codes, concepts


def _tokenizer(base_model: Path) -> NoteTokenizer:
    return load_tokenizer(base_model, lowercase=True)


def batches(count: int, training: Training, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers of one epoch, shuffled; a last, smaller batch is left out."""
    order = torch.randperm(count, generator=generator)
    yield from order[: count - count % training.batch_size].split(training.batch_size)


def loss_of(model: nn.Module, ids: Tensor, codes: Tensor, concepts: Tensor, autocast: Any) -> Tensor:
    """The training loss of one batch."""
    with autocast():
        outputs = model(ids, (ids != 0).long())
    diagnosis = F.binary_cross_entropy_with_logits(outputs["logits"].float(), codes.float())
    concept = F.binary_cross_entropy(outputs["concept_scores"].float(), concepts.float())
    return diagnosis + LAMBDA_CONCEPT * concept


@torch.inference_mode()
def scores(model: nn.Module, notes: Examples) -> dict[str, float]:
    """F1 at 0.5 in FP32: macro and micro over the codes, macro over the concepts."""
    model.eval()
    outputs = [model(ids.long(), (ids != 0).long()) for ids in notes.ids.split(128)]
    logits, concepts = (
        torch.cat([output[name] for output in outputs]).cpu().numpy() for name in ("logits", "concept_scores")
    )
    threshold = np.array([0.5])
    codes = counts_of_logits(logits, notes.codes.cpu().numpy(), threshold)
    found = counts_at_thresholds(concepts, notes.concepts.cpu().numpy(), threshold)
    return {
        "macro_f1": float(macro_f1(codes)[0]),
        "micro_f1": float(micro_f1(codes)[0]),
        "concept_f1": float(macro_f1(found)[0]),
    }


def train(training: Training, base_model: Path, device: torch.device, workers: int) -> dict[str, Any]:
    """The checkpoint of the best epoch, with the keys of the public training script."""
    started = time.perf_counter()
    notes = examples("train", training.notes, base_model, workers)
    validation = examples("val", DOCUMENTS["val"], base_model, workers).to(device)
    print(f"{len(notes.ids):,} notes after {time.perf_counter() - started:.0f} s", flush=True)
    notes = notes.to(device)
    torch.manual_seed(training.seed)
    shuffle = torch.Generator().manual_seed(training.seed)
    config = BertConfig.from_pretrained(base_model)
    model = ClsFusion(config, len(CODES), len(CONCEPTS)).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), training.learning_rate, betas=(0.9, 0.98), weight_decay=training.weight_decay
    )
    steps = training.epochs * (len(notes.ids) // training.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=steps, pct_start=training.warmup, cycle_momentum=False
    )
    autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=device.type == "cuda")
    best: dict[str, Any] = {"macro_f1": -1.0}
    for epoch in range(1, training.epochs + 1):
        model.train()
        total = torch.zeros((), device=device)
        for rows in batches(len(notes.ids), training, shuffle):
            rows = rows.to(device)
            loss = loss_of(model, notes.ids[rows].long(), notes.codes[rows], notes.concepts[rows], autocast)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach()
        found = scores(model, validation)
        print(
            f"epoch {epoch}: loss {total.item() * training.epochs / steps:.4f}, validation macro F1 {found['macro_f1']:.4f}, "
            f"micro F1 {found['micro_f1']:.4f}, concept F1 {found['concept_f1']:.4f}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        if found["macro_f1"] > best["macro_f1"]:
            state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
            best = {"model_state_dict": state, "epoch": epoch, **found}
    return best


def checkpoint(best: dict[str, Any], tokenizer: NoteTokenizer) -> dict[str, Any]:
    """What the public training script stores beside the weights; no optimizer state, which would double the file."""
    words = best["model_state_dict"]["base_model.embeddings.word_embeddings.weight"]
    embeddings = torch.stack(
        [words[tokenizer.backend.encode(name, add_special_tokens=False).ids].mean(0) for name in CONCEPTS]
    )
    return {
        "model_state_dict": best["model_state_dict"],
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "macro_f1": best["macro_f1"],
        "micro_f1": best["micro_f1"],
        "concept_f1": best["concept_f1"],
        "epoch": best["epoch"],
        "concept_embeddings": embeddings,
        "num_concepts": len(CONCEPTS),
        "config": {
            "top_50_codes": list(CODES),
            "timestamp": TIMESTAMP,
            "lambda_dx": 1.0,
            "lambda_align": 0.0,
            "lambda_concept": LAMBDA_CONCEPT,
            "num_concepts": len(CONCEPTS),
            "num_classes": len(CODES),
        },
    }


def main() -> None:
    """Parse the command line, train, write the run directory."""
    parser = argparse.ArgumentParser(description="Train the demo's checkpoint.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="run directory to write")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=processors())
    parser.add_argument("--new-vocabulary", action="store_true", help="make the vocabulary again, too")
    for name in ("notes", "epochs", "batch_size", "layers", "hidden"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Training, name))
    parser.add_argument("--learning-rate", type=float, default=Training.learning_rate)
    options = parser.parse_args()
    training = Training(
        **{
            name: getattr(options, name)
            for name in ("notes", "epochs", "batch_size", "layers", "hidden", "learning_rate")
        }
    )
    base_model = options.output / "base_model"
    base_model.mkdir(parents=True, exist_ok=True)
    if options.new_vocabulary:
        write_vocabulary(base_model / "vocab.txt")
    else:
        (base_model / "vocab.txt").write_bytes((DATA / "base_model" / "vocab.txt").read_bytes())
    vocabulary = len((base_model / "vocab.txt").read_text(encoding="utf-8").splitlines())
    (base_model / "config.json").write_text(
        json.dumps(bert_config(training, vocabulary).to_diff_dict() | {"model_type": "bert"}, indent=2) + "\n"
    )
    device = torch.device(options.device)
    best = train(training, base_model, device, options.workers)
    content = checkpoint(best, _tokenizer(base_model))
    file = options.output / "checkpoints" / "phase1" / "phase1_best.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    write_shared_data(options.output / "shared_data", trained_on=training.notes)
    np.save(options.output / "shared_data" / "concept_embeddings.npy", content["concept_embeddings"].numpy())
    print(f"kept epoch {best['epoch']}: macro F1 {best['macro_f1']:.4f} on the validation split", flush=True)


if __name__ == "__main__":
    main()
