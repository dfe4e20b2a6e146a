"""How large an upload may be, packed and unpacked: known before anything is allocated."""

from shifamind_core.errors import ShifamindError

LARGEST_ARRAYS = 512 << 20
"""Bytes that the arrays of one upload may take; 17,266 notes × 50 codes are 3.5 MB in float32."""

HARMLESS = 64 << 20
LARGEST_RATIO = 100  # above `HARMLESS` bytes; labels of int64 pack to about a hundredth


def require_size(name: str, packed: int, unpacked: int) -> None:
    """Refuse a file of `packed` bytes that claims to hold `unpacked` bytes of arrays, if that is out of proportion.

    Raises
    ------
    ShifamindError
        With both numbers.
    """
    if not 0 <= unpacked <= min(LARGEST_ARRAYS, max(HARMLESS, LARGEST_RATIO * packed)):
        raise ShifamindError(
            f"{name} has {packed:,} bytes and claims {unpacked:,} bytes of arrays; refused. "
            "Save fewer arrays, or a .safetensors run file."
        )
