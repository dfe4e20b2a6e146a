"""Known errors: what is wrong, where, and what to do, in one line for the person; of others, only where they arose."""

import traceback


class ShifamindError(Exception):
    """Bad input or an impossible request. Its text is one line, written for the person who caused it.

    Anything else that is raised is a defect of this program and surfaces as such.
    """


class PolicyRefused(ShifamindError):
    """A precision policy that this device cannot honour; the text says why."""


class DoneElsewhere(Exception):
    """This process has done its part of what several do together, or ends because of another one. `line` is what is left to say."""

    def __init__(self, line: str = "", status: int = 0) -> None:
        super().__init__(line)
        self.line, self.status = line, status


def stack_of(error: BaseException) -> str:
    """Where an unforeseen error arose: types and places of it and of its causes, innermost last.

    Never its message: a library's message may quote what it was reading, and notes are read here.

    >>> try:
    ...     int("a patient's name")
    ... except ValueError as error:
    ...     print(stack_of(error).splitlines()[0])
    ValueError
    """
    lines: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        lines.append(f"{'because of ' if lines else ''}{type(link).__name__}")
        frames = traceback.extract_tb(link.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        link = link.__cause__ or link.__context__
    return "\n".join(lines) + "\n"
