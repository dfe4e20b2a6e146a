"""Run directories of other people's models: small Hugging Face classifiers as `save_pretrained` writes them, with notes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertTokenizerFast,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaTokenizerFast,
)

from simulation.builders import CODES, tiny_notes, tiny_vocabulary

MULTI_LABEL = "multi_label_classification"
SIZES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
    "longformer": {"attention_window": [8, 8, 8]},
    "electra": {"embedding_size": 32},
    "albert": {"embedding_size": 16},
}
OF_ROBERTA = (
    "roberta",
    "longformer",
    "camembert",
    "xlm-roberta",
    "mpnet",
    "deberta",
)  # byte-level BPE, padding first


def classifier_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """WordPiece that lower-cases for BERT and its like, byte-level BPE that keeps case for RoBERTa and its."""
    if kind not in OF_ROBERTA:
        vocabulary = {word: place for place, word in enumerate(tiny_vocabulary())}
        return BertTokenizerFast(vocab=vocabulary, do_lower_case=True)
    learned = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned.train_from_iterator(
        tiny_notes(40, 7), vocab_size=400, special_tokens=special, show_progress=False
    )
    return RobertaTokenizerFast(tokenizer_object=learned._tokenizer, add_prefix_space=False)


def tiny_classifier(kind: str = "bert", codes: int = 6, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A classifier of that `model_type` with random weights that vary enough for notes to differ, in evaluation mode."""
    tokenizer = classifier_tokenizer(kind)
    positions = 514 if kind in OF_ROBERTA and kind != "deberta" else 512
    config = AutoConfig.for_model(
        kind,
        **{
            **SIZES["bert" if kind not in ("distilbert",) else "distilbert"],
            **SIZES.get(kind, {}),
            "vocab_size": len(tokenizer),
            "max_position_embeddings": positions,
            "initializer_range": 0.3,
            "pad_token_id": tokenizer.pad_token_id,
            "problem_type": MULTI_LABEL,
            "id2label": dict(enumerate(CODES[:codes])),
            "label2id": {code: place for place, code in enumerate(CODES[:codes])},
            **changes,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_config(config).eval()


def scores_of(model: PreTrainedModel, texts: list[str], kind: str) -> np.ndarray:
    """Its logits [notes, codes] by the library's own words alone: tokenizer, padding to 512, one forward pass."""
    tokenizer = classifier_tokenizer(kind)
    encoded = tokenizer(texts, truncation=True, max_length=512, padding="max_length", return_tensors="pt")
    with torch.inference_mode():
        return model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits.numpy()


def classifier_run_directory(
    folder: Path,
    kind: str = "bert",
    notes: int = 16,
    codes: int = 6,
    seed: int = 0,
    ending: str = "csv",
    place: str = ".",
    lists: bool = False,
    text: str = "text",
    safe: bool = True,
    **changes: Any,
) -> Path:
    """Write one: model and tokenizer in `place`, the three splits beside it as `.csv`, `.parquet`, `.jsonl` or `.pkl`.

    Labels follow the model's own scores. `lists` writes them as one column `labels`, else one 0/1 column a code.
    """
    model = tiny_classifier(kind, codes, seed, **changes)
    (folder / place).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number, split in enumerate(("train", "val", "test")):
        texts = tiny_notes(notes, 10 * seed + number)
        logits = scores_of(model, texts, kind)
        logits = logits - np.median(logits, axis=0)
        if split == "train":
            with torch.no_grad():  # so that decisions fall on both sides of 0.5
                _bias_of(model).sub_(torch.from_numpy(np.median(scores_of(model, texts, kind), axis=0)))
        labels = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(int)
        _write_table(folder / f"{split}.{ending}", split_of(texts, labels, CODES[:codes], lists, text))
    model.save_pretrained(folder / place, safe_serialization=safe) if safe else _save_bin(
        model, folder / place
    )
    classifier_tokenizer(kind).save_pretrained(folder / place)
    return folder


def split_of(texts: list[str], labels: np.ndarray, codes: list[str], lists: bool, text: str) -> pd.DataFrame:
    """A table of notes with their labels."""
    table = pd.DataFrame({text: texts})
    if lists:
        return table.assign(labels=labels.tolist())
    return table.assign(**{code: labels[:, place] for place, code in enumerate(codes)})


def _bias_of(model: PreTrainedModel) -> torch.Tensor:
    head: Any = getattr(model, "classifier")  # noqa: B009
    return getattr(head, "out_proj", head).bias


def _save_bin(model: PreTrainedModel, folder: Path) -> None:
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


def _write_table(path: Path, table: pd.DataFrame) -> None:
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_pickle(path)
