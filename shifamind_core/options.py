"""Options of a command: fields of a dataclass, each with what a person is told of it.

One description serves all who ask: argparse's arguments are made from it here, the worker reads it from JSON
(`records.from_json`).
"""

import argparse
import dataclasses
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def option(
    default: Any = dataclasses.MISSING,
    help: str = "",
    *,
    metavar: str | None = None,
    flag: str | None = None,
    either: str | None = None,
) -> Any:
    """A field that can be given on the command line; other fields are for those who write JSON.

    Parameters
    ----------
    default : Any
        Without one the argument is positional, and must be given.
    help, metavar : str
        For `--help`.
    flag : str
        Where it is not the field's name.
    either : str
        Of all options with the same word here, exactly one must be given.
    """
    told = {"help": help, "metavar": metavar, "flag": flag, "either": either}
    return dataclasses.field(default=default, metadata=told)


def add_options(parser: argparse.ArgumentParser, kind: type) -> None:
    """Add the options of dataclass `kind`. The field's type says how an argument is read.

    A `bool` is a switch, a `Literal` a choice, a tuple may be given several times.

    >>> @dataclasses.dataclass
    ... class Spec:
    ...     file: str = option()
    ...     notes: int = option(8, "how many")
    >>> parser = argparse.ArgumentParser()
    >>> add_options(parser, Spec)
    >>> chosen(Spec, parser.parse_args(["run.npz", "--notes", "3"]))
    Spec(file='run.npz', notes=3)
    """
    hints = get_type_hints(kind)
    groups: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if "help" not in item.metadata:
            continue
        target: Any = parser
        if (word := item.metadata["either"]) is not None:
            if word not in groups:
                groups[word] = parser.add_mutually_exclusive_group(required=True)
            target = groups[word]
        how = _how(hints[item.name], item)
        if item.default is dataclasses.MISSING:
            target.add_argument(item.name, **how)
        else:
            flag = item.metadata["flag"] or f"--{item.name.replace('_', '-')}"
            target.add_argument(flag, dest=item.name, **how)


def chosen(kind: type[T], given: argparse.Namespace) -> T:
    """The record of what was given; of the rest the dataclass has the defaults."""
    names = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = {name: value for name, value in vars(given).items() if name in names}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def _how(hint: Any, item: "dataclasses.Field[Any]") -> dict[str, Any]:
    """Argparse's words for a field of this type."""
    parts = get_args(hint)
    (kind,) = [part for part in parts if part is not type(None)] if type(None) in parts else [hint]
    how: dict[str, Any] = {"help": _help(item), "default": argparse.SUPPRESS}
    if kind is bool:
        return how | {"action": "store_const", "const": True}
    how["metavar"] = item.metadata["metavar"]
    if get_origin(kind) is Literal:
        return how | {"choices": get_args(kind)}
    if get_origin(kind) is tuple:
        return how | {"action": "append"}
    return how | {"type": kind}


def _help(item: "dataclasses.Field[Any]") -> str:
    default = ", ".join(item.default) if isinstance(item.default, tuple) else item.default
    known = default not in (dataclasses.MISSING, None, "")
    return f"{item.metadata['help']} (default: {default})".strip() if known else item.metadata["help"]
