"""A diagnosis as a terminal shows it: the answer, what it means, what to do, then the numbers; what hardly anything speaks for
is counted, not told."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.findings import LISTED, percent

WIDTH = 100
VERDICTS = {"ruled_out": "ruled out"}


def diagnosis_text(document: Mapping[str, Any]) -> str:
    """`Diagnosis.to_json` in lines for people."""
    findings = document["findings"]
    refuted = [one for one in findings if one["status"] == "ruled_out"]
    faint = [one for one in findings if one["status"] == "possible" and one["probability"] < LISTED]
    lines = [document["answer"]]
    for finding in findings:
        if finding not in refuted and finding not in faint:
            lines += ["", *_finding(finding)]
    lines.append("")
    if faint:
        rest = (
            f"{_count(len(faint), 'cause')} less than {percent(LISTED)} likely, not listed: {_titles(faint)}."
        )
        lines += _wrapped(rest)
    if refuted:
        lines += _wrapped(f"{_count(len(refuted), 'cause')} ruled out: {_titles(refuted)}.")
    if faint or refuted:
        lines.append("The numbers on each are in the JSON (--json).")
    lines += [*_settings(document["differences"]), *_gpu(document["hypotheses"])]
    if document["remarks"]:
        lines += ["", *(line for remark in document["remarks"] for line in _wrapped(remark))]
    return "\n".join(lines)


def _finding(finding: Mapping[str, Any]) -> Iterator[str]:
    part = f", {percent(finding['share'])} of the difference" if finding["share"] < 0.995 else ""
    yield f"{CAUSES[finding['cause']].title} ({finding['cause']}{part})"
    yield from _wrapped(finding["meaning"], "  ")
    yield from _wrapped(f"What to do: {finding['how_to_confirm']}", "  ")
    numbers = finding["explanation"].removeprefix(finding["meaning"]).strip()
    if numbers:
        yield from _wrapped(f"Numbers: {numbers}", "  ")


def _settings(differences: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What both runs record, and otherwise."""
    if not differences:
        return
    yield "\nWhat both runs record otherwise (candidate | reference)"
    for weight, told in (("decides", "decides what is scored"), ("may", "may matter")):
        for one in differences:
            if one["weight"] == weight:
                both = f"{_short(one['candidate'])} | {_short(one['reference'])}"
                yield from _wrapped(f"{one['title']}: {both} ({told})", "  ")
    without = [one["title"] for one in differences if one["weight"] == "cannot"]
    if without:
        yield from _wrapped(f"Without effect on a score: {', '.join(without)}.", "  ")


def _gpu(hypotheses: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if hypotheses:
        yield "\nCould the GPU have done it?"
    for one in hypotheses:
        verdict = VERDICTS.get(one["verdict"], one["verdict"])
        yield from _wrapped(f"{one['title']}: {verdict}. {one['explanation']}", "  ")


def _titles(findings: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(CAUSES[one["cause"]].title.lower() for one in findings)


def _count(number: int, word: str) -> str:
    return f"1 {word}" if number == 1 else f"{number} {word}s"


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  " if indent else ""
    )
