"""The demo's vocabulary: cased WordPiece, made from the synthetic notes.

It was made once and is kept with the checkpoint that was trained over it: the trainer breaks ties by chance, and the
notes had more capitals then.
"""

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from shifamind_core.demo.notes import write_note

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SIZE = 4_400
NOTES = 5_000
CASED_SHARE = 7  # per cent


def write_vocabulary(path: Path) -> None:
    """Train and write `vocab.txt`, one token a line.

    A general cased vocabulary, such as BERT's, knows most words in lower case only, so capitals fall apart into
    pieces. The same comes about here: only a few of the notes are shown cased, the others lower-cased.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    vocabulary = tokenizer.get_vocab()
    path.write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n", encoding="utf-8")


def _texts() -> Iterator[str]:
    for index in range(NOTES):
        text = write_note("vocabulary", index).text
        yield text if index % 100 < CASED_SHARE else text.lower()
