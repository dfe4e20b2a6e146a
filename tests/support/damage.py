"""Ways in which a small JSON file of ours can be something else."""

import os
from pathlib import Path

from shifamind_core.jobs.state import MOST_STATE_BYTES


def damage(path: Path, how: str) -> None:
    """Put something else in the place of a record."""
    path.unlink(missing_ok=True)
    match how:
        case "missing":
            pass
        case "a directory":
            path.mkdir()
        case "a link":
            path.symlink_to("/etc/passwd")
        case "a loop":
            path.symlink_to(path)
        case "a pipe":
            os.mkfifo(path)
        case "huge":
            with path.open("wb") as file:
                file.truncate(MOST_STATE_BYTES + 1)
        case "deep":
            path.write_text("[" * 100_000)
        case "deep in a field":
            path.write_text('{"id": "x", "spec": ' + '{"a":' * 900 + "1" + "}" * 900 + "}")
        case text:
            path.write_bytes(text.encode("utf-8", "surrogateescape"))


DAMAGES = (
    "missing", "a directory", "a link", "a loop", "a pipe", "huge", "deep", "deep in a field", "", "{", "[]", "null", "1",
    '"text"', "\udcff\udcfe", '{"pid": -1}', '{"pid": "x"}', '{"pid": 1e99}', '{"pid": [1]}', '{"pid": true}', '{"pid": 0}',
    '{"id": 1, "checksum": []}', '{"id": "\\ud800", "kind": "probe", "spec": {}, "status": "running", "created_at_utc": "now"}',
)  # fmt: skip
