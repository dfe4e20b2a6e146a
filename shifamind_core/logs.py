"""What a server or a worker may write to its log: what kind of thing went wrong and where, never what it was about.

A library's message may quote what it was reading, and the name of a file may be a patient's.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any

from shifamind_core.errors import stack_of

_numbers = (int, float, type(None))


def write_places_only() -> None:
    """From now on whatever this process logs, warns of or dies from is written without the values in it."""
    logging.setLogRecordFactory(_record)
    sys.excepthook = lambda _kind, error, _trace: _say(error)
    threading.excepthook = lambda ended: _say(ended.exc_value)
    sys.unraisablehook = lambda failed: _say(failed.exc_value)
    warnings.showwarning = _show_warning


def _record(
    name: str,
    level: int,
    pathname: str,
    line: int,
    message: object,
    arguments: Any,
    exc_info: Any,
    func: str | None = None,
    sinfo: str | None = None,
    **_: Any,
) -> logging.LogRecord:
    """A record whose error is where it arose; whose message is what the program's text says, with its numbers."""
    said = without_values(message, arguments)
    record = logging.LogRecord(name, level, pathname, line, said, (), None, func, sinfo)
    if exc_info and exc_info[1] is not None:
        record.exc_text = stack_of(exc_info[1])
    return record


def without_values(message: object, arguments: Any) -> str:
    """The first line of a log message, numbers filled in and everything else left out.

    >>> without_values("%d rows of %s are damaged", (3, "mueller.csv"))
    '3 rows of <str> are damaged'
    >>> without_values("Task failed\\nfuture: ValueError('a note')", ())
    'Task failed'
    """
    text = message.partition("\n")[0] if isinstance(message, str) else f"<{type(message).__name__}>"
    if len(arguments or ()) == 1 and isinstance(arguments[0], Mapping):
        arguments = arguments[0]  # as `logging` takes it
    if isinstance(arguments, Mapping):
        shown: Any = {name: _shown(value) for name, value in arguments.items()}
    else:
        shown = tuple(map(_shown, arguments or ()))
    try:
        return text % shown if shown else text
    except (TypeError, ValueError, KeyError):  # `%d` of what is no number, or fewer values than places
        return text


def _shown(value: object) -> object:
    return value if isinstance(value, _numbers) else f"<{type(value).__name__}>"


def _show_warning(
    _message: Warning | str,
    category: type[Warning],
    filename: str,
    line: int,
    file: Any = None,
    _line: Any = None,
) -> None:
    print(f"{category.__name__} at {filename}:{line}", file=file or sys.stderr)


def _say(error: BaseException | None) -> None:
    if error is not None and sys.stderr is not None:
        print(stack_of(error), file=sys.stderr, flush=True)
