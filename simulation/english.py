"""Encoders trained on masked words of real English: families of the fit that behave as really pretrained ones do.

    python -m simulation.english pack DIR                    (where packages with documentation are)
    python -m simulation.english train DIR --device cuda     (some minutes on a GPU)

The text is what Python and the installed packages say of themselves in docstrings, and synthetic notes that no model is
run on. `pack` makes two vocabularies of it, one of them lower-cased, and writes `english-NAME.npz`: the text and the
synthetic notes as tokens in both casings. `train` writes an encoder for every entry of `ENCODERS`, as `simulation.encoders`
reads it.
"""

import argparse
import ast
import json
import multiprocessing
import random
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertModel

from shifamind_core.demo.notes import write_note
from shifamind_core.inference.tokenization import Tokenization, tokenize
from shifamind_core.inference.tokenizer import load_tokenizer
from simulation.fleet import trained_in_bf16

CHARACTERS = 16_000_000  # of docstrings
OWN_NOTES = 1500  # synthetic ones among the text
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARIES = {"uncased": (True, 8000), "cased": (False, 10000)}  # lower-cased, words
LENGTH, AT_ONCE = 320, 96  # tokens a sequence, sequences a step
MASKED = 0.15


@dataclass(frozen=True)
class Encoder:
    """A shape, and the vocabulary that it reads."""

    name: str
    vocabulary: str
    hidden: int
    layers: int
    heads: int
    steps: int = 2500
    rate: float = 1e-3


ENCODERS = (
    Encoder("english-mini", "uncased", 384, 6, 12, rate=6e-4),
    Encoder("english-cased", "cased", 256, 4, 4),
    Encoder("english-deep", "cased", 192, 8, 6, rate=8e-4),
    Encoder("english-wide", "uncased", 320, 5, 4, rate=6e-4),
    Encoder("english-flat", "cased", 384, 3, 12),
    Encoder("english-tiny", "uncased", 128, 2, 2, steps=4000),
)


def docstrings() -> Iterator[str]:
    """What modules, classes and functions of Python and of installed packages say of themselves, each once."""
    seen: set[str] = set()
    for folder in ("stdlib", "purelib"):
        root = Path(sysconfig.get_paths()[folder])
        for path in sorted(root.rglob("*.py")):
            if folder == "stdlib" and "site-packages" in path.parts:
                continue
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, RecursionError):  # files that test the parser
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    said = ast.get_docstring(node)
                    if said and len(said) > 80 and said.isascii() and said not in seen:
                        seen.add(said)
                        yield said


def text() -> list[str]:
    """Docstrings in a fixed order, and synthetic notes among them."""
    said = list(docstrings())
    random.Random(0).shuffle(said)
    length, kept = 0, []
    for one in said:
        length += len(one)
        if length > CHARACTERS:
            break
        kept.append(one)
    kept += [write_note("english", index).text for index in range(OWN_NOTES)]
    random.Random(1).shuffle(kept)
    return kept


def vocabulary(texts: list[str], lowercase: bool, size: int, folder: Path) -> Path:
    """WordPiece, learned from the text; a folder as a base model has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False)
    )
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words))
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "vocab_size": len(words), "do_lower_case": lowercase})
    )
    return folder


def pack(folder: Path) -> None:
    """Text and notes as tokens of each vocabulary."""
    from simulation.encoders import NOTES, labels, tokenized

    folder.mkdir(parents=True, exist_ok=True)
    texts = text()
    made = [write_note("simulation", index) for index in range(NOTES)]
    for name, (lowercase, size) in VOCABULARIES.items():
        with tempfile.TemporaryDirectory() as place:
            base = vocabulary(texts, lowercase, size, Path(place) / "base")
            words = tokenized(base, [note.text for note in made])
            tokens = tokenize(texts, load_tokenizer(base, lowercase))
            whole = Tokenization(max_length=1_000_000)
            flat = np.concatenate([tokens.note(row, whole) for row in range(len(texts))]).astype(np.uint16)
            count = len((base / "vocab.txt").read_text().splitlines())
        np.savez_compressed(
            folder / f"english-{name}.npz", text=flat, words=count, labels=labels(made), **words
        )
        print(f"{name}: {count} words, {len(flat):,} tokens of text", flush=True)


def train(encoder: Encoder, folder: Path, device: str, steps: int | None = None) -> None:
    """Masked words, from random weights; writes the encoder in half precision."""
    steps = steps or encoder.steps
    started = time.time()
    with np.load(folder / f"english-{encoder.vocabulary}.npz") as file:
        flat, count = torch.from_numpy(file["text"].astype(np.int32)).to(device), int(file["words"])
    config = BertConfig(
        vocab_size=count,
        hidden_size=encoder.hidden,
        num_hidden_layers=encoder.layers,
        num_attention_heads=encoder.heads,
        intermediate_size=4 * encoder.hidden,
        max_position_embeddings=LENGTH + 2,
    )
    torch.manual_seed(len(encoder.name))
    model = BertModel(config, add_pooling_layer=True).to(device).train()
    head = nn.Sequential(
        nn.Linear(encoder.hidden, encoder.hidden), nn.GELU(), nn.LayerNorm(encoder.hidden)
    ).to(device)
    bias = nn.Parameter(torch.zeros(count, device=device))
    learned = [*model.parameters(), *head.parameters(), bias]
    optimizer = torch.optim.AdamW(learned, encoder.rate, weight_decay=0.01, fused=device != "cpu")
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, 10 * (step + 1) / steps) * (1 - step / (steps + 1))
    )
    place = torch.arange(LENGTH, device=device)
    mask_id, cls_id = SPECIAL.index("[MASK]"), SPECIAL.index("[CLS]")
    masked = int(MASKED * LENGTH)
    last = 0.0
    for step in range(steps):
        first = torch.randint(len(flat) - LENGTH, (AT_ONCE, 1), device=device)
        ids = flat[first + place].long()
        ids[:, 0] = cls_id
        asked = 1 + torch.rand(AT_ONCE, LENGTH - 1, device=device).argsort(dim=1)[:, :masked]
        truth = ids.gather(1, asked)
        read = ids.scatter(1, asked, mask_id)
        with trained_in_bf16(torch.device(device)):
            states = model(input_ids=read).last_hidden_state
            states = head(states.gather(1, asked[..., None].expand(-1, -1, encoder.hidden)))
            scores = states @ model.embeddings.word_embeddings.weight.T + bias
        loss = F.cross_entropy(scores.float().flatten(0, 1), truth.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        schedule.step()
        if step == steps - 1:
            last = loss.item()
    state = {name: tensor.half().contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(state, folder / f"{encoder.name}.safetensors")
    lowercase = VOCABULARIES[encoder.vocabulary][0]
    content = config.to_dict() | {"words": f"english-{encoder.vocabulary}", "lowercase": lowercase}
    (folder / f"{encoder.name}.json").write_text(json.dumps(content))
    print(
        f"{encoder.name}: {steps} steps, loss {last:.2f} (chance {np.log(count):.2f}), {time.time() - started:.0f} s",
        flush=True,
    )


def main() -> None:
    """Pack or train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("pack", "train"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, help="for trying out")
    options = parser.parse_args()
    if options.what == "pack":
        pack(options.folder)
        return
    # Side by side: none of them alone keeps a GPU busy.
    context = multiprocessing.get_context("spawn")
    with context.Pool(6 if options.device == "cuda" else 1) as pool:
        gpus = torch.cuda.device_count()
        devices = [f"cuda:{i % gpus}" if options.device == "cuda" else "cpu" for i in range(len(ENCODERS))]
        told = [
            (one, options.folder, device, options.steps)
            for one, device in zip(ENCODERS, devices, strict=True)
        ]
        pool.starmap(train, told, chunksize=1)


if __name__ == "__main__":
    main()
