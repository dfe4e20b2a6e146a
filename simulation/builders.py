"""Run directories small enough for a test, in the layout of the public scripts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig

from shifamind_core.model.shifamind import ClsFusion, ConceptAttention

WORDS = [
    "admitted",
    "patient",
    "history",
    "chest",
    "pain",
    "denies",
    "fever",
    "chills",
    "hypertension",
    "diabetes",
    "mellitus",
    "type",
    "chronic",
    "kidney",
    "disease",
    "stage",
    "heart",
    "failure",
    "atrial",
    "fibrillation",
    "warfarin",
    "insulin",
    "aspirin",
    "discharge",
    "follow",
    "up",
    "daily",
    "mg",
    "tablet",
    "stable",
    "improved",
    "nausea",
    "vomiting",
    "dyspnea",
    "edema",
    "anemia",
    "pneumonia",
    "sepsis",
    "fall",
    "hip",
    "fracture",
    "surgery",
    "status",
    "post",
    "allergies",
    "no",
    "known",
    "drug",
    "left",
    "right",
    "bilateral",
    "lower",
    "extremity",
    "with",
    "and",
    "without",
    "of",
    "the",
    "on",
    "in",
    "to",
    "was",
    "is",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CODES = ["E785", "I10", "Z87891", "K219", "F329", "I2510", "N179", "F419", "Z7901", "Z794", "E039", "E119"]


def tiny_vocabulary() -> list[str]:
    """A cased vocabulary: every word in small letters, every second one capitalised too, and pieces for the rest."""
    letters = [chr(i) for i in (*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1))]
    others = [*"0123456789.,:;-/()"]
    return [
        *SPECIAL,
        *others,
        *letters,
        *(f"##{letter}" for letter in letters),
        *WORDS,
        *(word.capitalize() for word in WORDS[::2]),
    ]


def tiny_config(layers: int = 4, heads: int = 4) -> BertConfig:
    """A BERT of hidden size 32 that takes 512 tokens; the weights vary enough for notes to differ."""
    return BertConfig(
        vocab_size=len(tiny_vocabulary()),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=64,
        max_position_embeddings=512,
        initializer_range=0.3,
    )


def tiny_model(
    architecture: str = "cls_fusion",
    codes: int = 6,
    concepts: int = 5,
    seed: int = 0,
    attention: str = "sdpa",
    heads: int = 4,
) -> ClsFusion | ConceptAttention:
    """A model of either architecture with random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = tiny_config(heads=heads)
        config._attn_implementation = attention  # transformers 4.57 cannot change it later
        if architecture == "cls_fusion":
            return ClsFusion(config, codes, concepts).eval()
        model = ConceptAttention(config, codes, concepts, fusion_layers=(1, 3))
        torch.nn.init.normal_(model.concept_embeddings)
        for parameter in model.fusion_modules.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()


def tiny_notes(count: int, seed: int = 0) -> list[str]:
    """Notes of mixed case, 5 to about 700 words long, so that some exceed 512 tokens."""
    random = np.random.default_rng(seed)
    notes = []
    for length in np.geomspace(5, 700, count).astype(int)[random.permutation(count)]:
        weights = random.dirichlet(np.full(len(WORDS), 0.1))
        words = random.choice(WORDS, size=length, p=weights)
        cased = [
            word.capitalize() if u < 0.25 else word.upper() if u < 0.3 else word
            for word, u in zip(words, random.random(length), strict=True)
        ]
        notes.append("Admission Date: " + " ".join(cased) + ".")
    return notes


def tiny_tokens(
    notes: list[str], base_model: Path, lowercase: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask [notes, 512], lower-cased and padded to the maximum as in the seed."""
    tokenizer = BertWordPieceTokenizer(str(base_model / "vocab.txt"), lowercase=lowercase)
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding(length=512)
    encoded = tokenizer.encode_batch(notes)
    return torch.tensor([e.ids for e in encoded]), torch.tensor([e.attention_mask for e in encoded])


def split_table(notes: list[str], labels: np.ndarray, codes: list[str]) -> pd.DataFrame:
    """The split as the public scripts pickle it: `text`, `labels`, one integer column a code."""
    table = pd.DataFrame({"text": notes, "labels": labels.astype(int).tolist()})
    return table.assign(**{code: labels[:, i].astype(int) for i, code in enumerate(codes)})


def write_base_model(folder: Path, config: BertConfig | None = None) -> Path:
    """A vocabulary-only base model: `config.json` and `vocab.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps({**(config or tiny_config()).to_dict(), "model_type": "bert"})
    )
    (folder / "vocab.txt").write_text("\n".join(tiny_vocabulary()) + "\n")
    return folder


def spread_logits(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, spread: float = 2.0) -> None:
    """Scale the diagnosis head so that every code's logits have this standard deviation over the notes."""
    head = model.diagnosis_classifier if isinstance(model, ClsFusion) else model.diagnosis_head
    with torch.no_grad():
        logits = model(ids, mask)["logits"]
        scale = spread / logits.std(dim=0)
        head.weight *= scale[:, None]
        head.bias.copy_((head.bias - logits.mean(dim=0)) * scale - 0.7)


def tiny_checkpoint(model: torch.nn.Module, codes: list[str], concepts: int) -> dict[str, Any]:
    """A checkpoint's content with the keys of the public training script; scores are NumPy scalars as there."""
    return {
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "macro_f1": np.float64(0.2797),
        "micro_f1": np.float64(0.3957),
        "epoch": 15,
        "num_concepts": concepts,
        "config": {
            "top_50_codes": codes,
            "timestamp": "20260102_203225",
            "lambda_dx": 1.0,
            "num_concepts": concepts,
            "num_classes": len(codes),
        },
    }


def tiny_run_directory(
    folder: Path,
    architecture: str = "cls_fusion",
    notes: int = 24,
    codes: int = 6,
    concepts: int = 5,
    seed: int = 0,
    heads: int = 4,
) -> Path:
    """Write a run directory in the seed's layout with a tiny BERT; labels are drawn from its own scores.

    Returns `folder`. Trained "lower-cased" on a cased vocabulary, as in the case: the labels follow the
    logits of the lower-cased notes. The same arguments write the same weights, notes and labels.
    """
    names = CODES[:codes]
    base_model = write_base_model(folder / "base_model", tiny_config(heads=heads))
    shared = folder / "shared_data"
    shared.mkdir(parents=True)
    model = tiny_model(architecture, codes, concepts, seed, heads=heads)
    texts = {split: tiny_notes(notes, 10 * seed + i) for i, split in enumerate(("train", "val", "test"))}
    spread_logits(model, *tiny_tokens(texts["train"], base_model))
    random = np.random.default_rng(seed)
    for split, written in texts.items():
        ids, mask = tiny_tokens(written, base_model)
        with torch.no_grad():
            scores = torch.sigmoid(model(ids, mask)["logits"]).numpy()
        labels = (random.random(scores.shape) < scores).astype(np.uint8)
        split_table(written, labels, names).to_pickle(shared / f"{split}_split.pkl")
    (folder / "checkpoints" / "phase1").mkdir(parents=True)
    torch.save(tiny_checkpoint(model, names, concepts), folder / "checkpoints" / "phase1" / "phase1_best.pt")
    embeddings = random.normal(size=(concepts, 32)).astype(np.float32)
    if isinstance(model, ConceptAttention):
        embeddings = model.concept_embeddings.detach().numpy()
    np.save(shared / "concept_embeddings.npy", embeddings)
    counts = {code: 1000 - 10 * i for i, code in enumerate(names)}
    info = {
        "timestamp": "20260102_203225",
        "top_50_codes": names,
        "top_50_counts": counts,
        "valid_admissions": 2500,
    }
    (shared / "top50_icd10_info.json").write_text(json.dumps(info))
    return folder
