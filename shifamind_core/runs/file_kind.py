"""What a file is by its first bytes, whatever its extension says."""

import re
from dataclasses import dataclass

from shifamind_core.errors import ShifamindError


@dataclass(frozen=True)
class Kind:
    """A kind of file: how it starts, what a person calls it, what to do if it is in the wrong place."""

    start: bytes  # a regular expression
    description: str
    advice: str
    extensions: tuple[str, ...] = ()


# The length of its JSON header, in eight bytes that may look like another kind's (1,152 is \x80\x04), and the header's brace.
SAFETENSORS = rb"(?s).{7}\0\{"

KINDS = (
    Kind(rb"\x93NUMPY", "a NumPy array", "Rename it to .npy.", (".npy",)),
    Kind(
        rb"PK\x03\x04",
        "a zip archive",
        "Rename it to what it was saved as (.npz, .pt); export a spreadsheet as .csv.",
        (".npz", ".pt"),
    ),
    Kind(rb"PAR1", "a Parquet file", "Rename it to .parquet.", (".parquet",)),
    Kind(
        rb"\x80[\x02-\x05]",
        "a pickle",
        "Pickles can run code and are never read here; save arrays with numpy.savez.",
        (".pt",),  # torch's format before 1.6, read weights-only
    ),
    Kind(rb"\x1f\x8b", "packed with gzip", "Unpack it first."),
    Kind(rb"\x89HDF", "an HDF5 file", "Save its arrays with numpy.savez."),
    Kind(rb"%PDF", "a PDF", "Upload the data behind it."),
    Kind(
        rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype|html|head|script|\?xml|!--)",
        "a web page",
        "Download the file itself, not the page that shows it.",
    ),
)


def require_kind(name: str, extension: str, content: bytes) -> None:
    """Refuse a file that is evidently something else than its extension says.

    Raises
    ------
    ShifamindError
        What it is, and what to do.
    """
    if extension == ".safetensors" and re.match(SAFETENSORS, content[:1024]):
        return
    kind = next((kind for kind in KINDS if re.match(kind.start, content[:1024])), None)
    if kind is not None and extension not in kind.extensions:
        raise ShifamindError(f"{name} is {kind.description}, whatever its extension says. {kind.advice}")
