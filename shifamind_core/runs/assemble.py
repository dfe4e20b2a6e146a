"""Plain arrays, from whatever file, to a `Run`: every check that does not depend on the file's format."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from shifamind_core.artifacts._limited import is_sentence
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.manifest import Manifest
from shifamind_core.runs.run import LOGIT_DTYPES, Run

ARRAYS = ("logits", "labels", "document_ids", "token_digests", "token_counts", "concept_scores")
"""Names of the arrays of a run, in files as in `Run`."""

BY_NOTE = ("document_ids", "token_digests", "token_counts", "concept_scores")  # whatever the codes
FILL = -100  # what Hugging Face's Trainer and accelerate pad gathered batches with
LONGEST_CODE = 200
LONGEST_NAME = 120


def assemble(
    name: str,
    arrays: Mapping[str, np.ndarray],
    codes: Sequence[str] | None = None,
    manifest: Manifest | None = None,
    notes: Sequence[str] = (),
) -> Run:
    """The run that these arrays (named as in `ARRAYS`; `logits` is required) make.

    Labels of any numeric dtype become uint8, ids int64, token counts int32, all without loss; `notes` are
    added to the manifest's.

    Raises
    ------
    ShifamindError
        What does not fit, where, and what to do.
    """
    logits = floats(name, "logits", arrays["logits"])
    _require_upright(name, logits.shape, arrays, codes)
    documents = len(logits)
    given = {part: array for part, array in arrays.items() if part != "logits"}
    converted = {part: CONVERSIONS[part](name, part, array) for part, array in given.items()}
    for part, array in converted.items():
        if len(array) != documents:
            raise ShifamindError(
                f"{name}: {part} has {len(array):,} rows, logits have {documents:,}. Both have one row a note."
            )
    if "labels" in converted and converted["labels"].shape != logits.shape:
        raise ShifamindError(
            f"{name}: labels have {converted['labels'].shape[1]:,} columns, logits {logits.shape[1]:,}. "
            "Both have one column a code."
        )
    manifest = manifest or Manifest()
    return Run(
        logits=logits,
        name=name,
        codes=None if codes is None else tuple(code.strip() for code in checked_codes(name, codes)),
        manifest=replace(manifest, notes=(*manifest.notes, *notes)),
        **converted,
    )


def _require_upright(
    name: str, shape: tuple[int, ...], arrays: Mapping[str, np.ndarray], codes: Sequence[str] | None
) -> None:
    """Refuse arrays of codes × notes, where something else in the file says how many of either there are."""
    rows, columns = shape
    if rows == columns:
        return
    notes = {len(arrays[part]) for part in BY_NOTE if part in arrays and arrays[part].ndim}
    named = set() if codes is None else {len(codes)}
    labels = arrays["labels"].shape if "labels" in arrays else None
    if (notes or named) and notes <= {columns} and named <= {rows}:
        lying = "logits and labels lie on their side" if labels == shape else "logits lie on their side"
    elif labels == (columns, rows):
        lying = "labels lie on their side" if notes or named else "logits or labels lie on their side"
    else:
        return
    sizes = {
        "logits": shape,
        "labels": labels,
        "code names": tuple(named),
        "rows of other arrays": tuple(notes),
    }
    listing = ", ".join(
        f"{' × '.join(f'{n:,}' for n in size)} {part}" for part, size in sizes.items() if size
    )
    raise ShifamindError(
        f"{name}: {lying} ({listing}). Save one row a note and one column a code: the transpose (.T)."
    )


def checked_codes(name: str, codes: Sequence[object]) -> list[str]:
    """The code names, each a short printable string.

    Names are shown on pages and in errors of one line, so control characters and lone surrogates are refused.
    """
    for column, code in enumerate(codes):
        if not isinstance(code, str) or not code.isprintable() or not 0 < len(code.strip()) <= LONGEST_CODE:
            raise ShifamindError(
                f"{name}: the name of code {column} is {shown(code)}; "
                f"expected a printable string of at most {LONGEST_CODE} characters."
            )
    return [str(code) for code in codes]


def shown(value: object, longest: int = 60) -> str:
    """A foreign name for an error message: quoted, on one line, and short; of a sentence, which may be a note's, its length.

    >>> shown("a" * 100, longest=10)
    "'aaaaaaaa…"
    """
    if isinstance(value, str) and is_sentence(value):
        return f"a text of {len(value):,} characters"
    if isinstance(value, str):
        return shortened(repr(value) if value.isprintable() else ascii(value), longest)
    if value is None or isinstance(value, int | float):
        return shortened(repr(value), longest)
    return f"a {type(value).__name__}"  # its text may be long, or nested too deeply to be told


def shortened(text: str, longest: int = 300) -> str:
    """A foreign text for an error message: on one line, and short."""
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Foreign names for an error message: sorted, quoted, the first few.

    >>> listed("cab", most=2)
    "'a', 'b' and 1 more"
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in sorted(names)[:most]) + more


def display_name(name: str) -> str:
    """A foreign file name as a run's name: its last part, printable and short.

    >>> display_name("../runs/a100\\n.npz")
    'a100?.npz'
    """
    last = re.split(r"[/\\]", name)[-1]
    return "".join(c if c.isprintable() else "?" for c in last)[-LONGEST_NAME:] or "run"


def floats(name: str, part: str, array: np.ndarray) -> np.ndarray:
    """The array if it has two axes and a dtype of logits, in this machine's byte order.

    Raises
    ------
    ShifamindError
        Another shape or dtype.
    """
    _two_axes(name, part, array)
    if array.dtype.newbyteorder("=") not in LOGIT_DTYPES:
        raise ShifamindError(
            f"{name}: {part} are {array.dtype}; expected float16, float32 or float64. "
            "Store the scores as the model gave them."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _labels(name: str, part: str, array: np.ndarray) -> np.ndarray:
    _two_axes(name, part, array)
    if array.dtype.kind not in "biuf":
        raise ShifamindError(f"{name}: {part} are {array.dtype}; expected numbers, each 0 or 1.")
    if array.dtype == np.uint8 and array.max(initial=0) <= 1:
        return array  # as a run file holds them: nothing is copied of what may be a memory map
    wrong = ~((array == 0) | (array == 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        fill = (array == FILL).all(axis=1)
        if fill.any() and not wrong[~fill].any():
            raise ShifamindError(
                f"{name}: {int(fill.sum()):,} of {len(array):,} rows of labels are {FILL} throughout, the first at note {row}: "
                f"fill with which batches are padded, and no notes. Leave those rows out of every array."
            )
        raise ShifamindError(
            f"{name}: {int(wrong.sum()):,} of {wrong.size:,} labels are neither 0 nor 1, the first at note {row}, "
            f"code {column}: {array[row, column]}. Labels are 0 or 1; scores belong under 'logits'."
        )
    return array.astype(np.uint8)


def whole_ids(name: str, values: np.ndarray) -> np.ndarray:
    """Ids that went through floats, as the integers they were: 1.0 is 1.

    Raises
    ------
    ShifamindError
        Some are none, or so large that floats no longer tell neighbours apart.
    """
    most = 2.0 ** np.finfo(values.dtype).nmant
    if not (np.abs(values) <= most).all() or (values != np.rint(values)).any():
        raise ShifamindError(
            f"{name}: document_ids are {values.dtype}, and some are missing, have fractions or lie beyond {most:,.0f}, where such "
            "numbers no longer tell neighbours apart. Save integers or text."
        )
    return values.astype(np.int64)


def _ids(name: str, part: str, array: np.ndarray) -> np.ndarray:
    _one_axis(name, part, array)
    if array.dtype.kind == "f" and part == "document_ids":
        return whole_ids(name, array)
    if array.dtype.kind not in "iu":
        raise ShifamindError(f"{name}: {part} are {array.dtype}; expected int64, one number a note.")
    return array.astype(np.int64)  # uint64 keeps its 8 bytes: the same id, read unsigned


def _counts(name: str, part: str, array: np.ndarray) -> np.ndarray:
    _one_axis(name, part, array)
    if array.dtype.kind not in "iu" or (array < 0).any() or (array > np.iinfo(np.int32).max).any():
        raise ShifamindError(f"{name}: {part} are not all whole numbers from 0 to 2,147,483,647 (int32).")
    return array.astype(np.int32)


def _one_axis(name: str, part: str, array: np.ndarray) -> None:
    if array.ndim != 1:
        raise ShifamindError(f"{name}: {part} has shape {array.shape}; expected one value a note.")


def _two_axes(name: str, part: str, array: np.ndarray) -> None:
    if array.ndim != 2:
        second = "concepts" if part == "concept_scores" else "codes"
        raise ShifamindError(f"{name}: {part} has shape {array.shape}; expected notes × {second}, two axes.")


CONVERSIONS = {
    "labels": _labels,
    "document_ids": _ids,
    "token_digests": _ids,
    "token_counts": _counts,
    "concept_scores": floats,
}
