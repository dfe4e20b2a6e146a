"""The base model's own weights, where they lie beside its configuration: what an encoder holds that was never loaded."""

from pathlib import Path

from shifamind_core.artifacts.weight_parts import ENCODER
from shifamind_core.errors import ShifamindError
from shifamind_core.model.checkpoint import part_digests
from shifamind_core.model.checkpoint_file import read_file
from shifamind_core.model.state_dict import with_today_names

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def base_model_digests(folder: Path, checkpoint: Path) -> dict[str, str] | None:
    """Digests of the parts of the base model's encoder; `None` where its weights are not at hand, or cannot be read.

    Nothing needs them, so that a file that cannot be read is none. What lies beside the checkpoint is a classifier's own, and no base model.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None or folder.samefile(checkpoint.parent):
        return None
    try:
        content, _ = read_file(path)
        digests = part_digests(with_today_names(content))
    except ShifamindError:
        return None
    return {part: digest for part, digest in digests.items() if part.startswith(ENCODER)} or None
