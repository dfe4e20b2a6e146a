"""The base model's configuration and vocabulary: a folder, or the hub's local cache. Never its weights, never the network."""

from pathlib import Path

import huggingface_hub

from shifamind_core.artifacts.classifier_folder import find_classifier
from shifamind_core.artifacts.digests import file_sha256
from shifamind_core.artifacts.regular_file import read_regular
from shifamind_core.errors import ShifamindError

REPOSITORY = "emilyalsentzer/Bio_ClinicalBERT"
VOCABULARIES = (
    "vocab.txt",
    "tokenizer.json",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
)
BYTE_ORDER_MARK = "\ufeff"
LARGEST_BYTES = 32 << 20  # of a vocabulary


def find_base_model(run_directory: Path, override: Path | None = None) -> Path:
    """A folder with `config.json` and the files of a tokenizer.

    Looked for in this order: `override`, `base_model/` in the run directory, the model itself where `save_pretrained` wrote
    it, the hub's local cache of `emilyalsentzer/Bio_ClinicalBERT`.

    Raises
    ------
    ShifamindError
        The folder named lacks a file, or there is none; the message says what to do.
    """
    if override is not None:
        return _checked(Path(override).expanduser())
    inside = run_directory / "base_model"
    if inside.is_dir():
        return _checked(inside)
    classifier = find_classifier(run_directory)
    if classifier is not None:
        return _checked(classifier, "the model's own")
    cached = huggingface_hub.try_to_load_from_cache(REPOSITORY, "config.json")
    if isinstance(cached, str):
        return _checked(Path(cached).parent)
    raise ShifamindError(
        f"No base model: {run_directory.name} has no base_model/ and the hub's cache does not hold {REPOSITORY}. Put its config.json "
        f"and vocab.txt into {inside}, or name a folder that has them: under Run directory on a page, by --base-model on the command line, by BASE_MODEL for make run."
    )


def _checked(folder: Path, source: str = REPOSITORY) -> Path:
    if not folder.is_dir():
        raise ShifamindError(f"The base model's folder {folder} does not exist.")
    if not (folder / "config.json").is_file():
        raise ShifamindError(f"The base model in {folder} has no config.json; copy it from {source}.")
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ShifamindError(
            f"The base model in {folder} has no vocab.txt or other tokenizer; copy it from {source}."
        )
    return folder.resolve()


def vocabulary_path(base_model: Path) -> Path:
    """`vocab.txt`, or `tokenizer.json` where there is no such file."""
    return next(base_model / name for name in VOCABULARIES if (base_model / name).is_file())


def vocabulary_sha256(base_model: Path) -> str:
    """SHA-256 of the vocabulary's file."""
    return file_sha256(vocabulary_path(base_model))


def read_vocabulary(base_model: Path) -> list[str] | None:
    """The lines of `vocab.txt`, without the byte order mark that some editors put first; `None` without the file.

    Raises
    ------
    ShifamindError
        The file is no UTF-8 text, or empty.
    """
    path = base_model / "vocab.txt"
    if not path.is_file():
        return None
    try:
        content = read_regular(path, LARGEST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ShifamindError(f"{path} is no UTF-8 text; copy it again.") from error
    if not content.strip():
        raise ShifamindError(f"{path} is empty; copy it again.")
    return content.removesuffix("\n").split("\n")


def vocabulary_marked(base_model: Path) -> bool:
    """Whether `vocab.txt` begins with a byte order mark, which would become part of its first token."""
    path = base_model / "vocab.txt"
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(3) == BYTE_ORDER_MARK.encode()
