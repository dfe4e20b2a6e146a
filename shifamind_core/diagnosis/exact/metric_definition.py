"""The same scores, another F1: which definition of it gives the values that were reported."""

from collections.abc import Mapping

from shifamind_core.analysis.metric_definitions import Definition, Match, distance, match, tuned_on_itself
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, confirmed, judged
from shifamind_core.diagnosis.views import EvidenceTable
from shifamind_core.runs.run import Run

LISTED = 12  # definitions in the table


def metric_definition(examination: Examination) -> Examination:
    """Say which definition of F1 gives the reported values on the reference's own scores and labels.

    Expects `evidence.reported`; leaves the scores as they are. Says nothing where the usual definition gives the values,
    and where the reference has no labels or holds scores that are no numbers.
    """
    reported, run = examination.evidence.reported, examination.evidence.whole[1]
    if not reported or run.labels is None or run.non_finite:
        return examination
    found = match(run.logits, run.labels, reported)
    if found is not None and not found.is_usual:
        return examination.noted(_finding(found, reported, run))
    tuned = tuned_on_itself(run.logits, run.labels, reported)
    return examination if tuned is None else examination.noted(_tuned(tuned, reported))


def _finding(found: Match, reported: Mapping[str, float], run: Run) -> Finding:
    told = _told({name: reported[name] for name in found.usual.values})
    numbers = (
        f"Reported for the reference: {told}. Its own scores and labels give {_told(found.usual.values)}."
    )
    evidence = {
        "reported": dict(reported),
        "recomputed": dict(found.usual.values),
        "definition": None if found.found is None else found.found.name,
        "nearest": found.nearest.name,
        "distance": distance(found.nearest, {name: reported[name] for name in found.usual.values}),
        "tried": found.tried,
        "accident": found.accident,
        "digits": found.digits,
    }
    table = _table(found)
    if found.found is None:
        numbers += (
            f" None of {found.tried} definitions gives that; “{found.nearest.words}” comes nearest, "
            f"{evidence['distance']:.4f} off."
        )
        meaning = f"The reported values are not those of {run.name} under any definition of F1 known here."
        laplace = 1 / (found.tried + 2)  # none of so many was it
        return judged(
            "metric_definition",
            laplace,
            numbers,
            meaning=meaning,
            evidence=evidence,
            view=table,
        )
    numbers += f" “{found.found.words}” gives the reported values to the last digit. {found.accident_words}"
    meaning = f"The scores are the reference's; F1 was computed in another way: {found.found.words}."
    if found.shown:
        return confirmed("metric_definition", numbers, meaning=meaning, evidence=evidence, view=table)
    return judged(
        "metric_definition", 1 - found.accident, numbers, meaning=meaning, evidence=evidence, view=table
    )


def _tuned(found: Definition, reported: Mapping[str, float]) -> Finding:
    values = {name: value for name, value in found.values.items() if name in reported}
    numbers = f"Reported for the reference: {_told({name: reported[name] for name in values})}. A {found.words} gives all of that."
    evidence = {"reported": dict(reported), "recomputed": values, "definition": found.name}
    meaning = "The threshold was tuned on the very notes that are scored, so the scores are too good."
    return confirmed("metric_definition", numbers, meaning=meaning, evidence=evidence)


def _told(values: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name.replace('_f1', ' F1').replace('_', ' ')} {value:.4f}" for name, value in values.items()
    )


def _table(found: Match) -> EvidenceTable:
    names = tuple(found.usual.values)
    shown = [found.usual, *([found.found] if found.found else []), found.nearest, *found.all]
    rows = {one.words: (one.words, *(one.values[name] for name in names)) for one in shown}
    return EvidenceTable("F1 under other definitions", ("definition", *names), tuple(rows.values())[:LISTED])
