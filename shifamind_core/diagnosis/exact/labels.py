"""Same logits, other score: labels that differ, and definitions of the metric that differ."""

import numpy as np
from scipy.stats import mannwhitneyu

from shifamind_core.analysis.counts import counts_of_logits
from shifamind_core.analysis.neighbours import LEVEL
from shifamind_core.analysis.row_matching import mostly_in_place, row_keys
from shifamind_core.analysis.scores import macro_f1, micro_f1
from shifamind_core.arrays import Labels, Logits
from shifamind_core.diagnosis.examination import Examination
from shifamind_core.diagnosis.findings import Finding, ruled_out
from shifamind_core.diagnosis.views import EvidenceTable


def f1_at(logits: Logits, labels: Labels, threshold: float = 0.5) -> dict[str, float]:
    """Macro and micro F1 at a threshold: decision >, all codes averaged, 0/0 = 0."""
    counts = counts_of_logits(logits, labels, np.array([threshold]))
    return {"macro_f1": float(macro_f1(counts)[0]), "micro_f1": float(micro_f1(counts)[0])}


def different_labels(examination: Examination) -> Examination:
    """Labels of the same notes that differ, wherever the order of the rows was found to have left them."""
    aligned = examination.evidence.aligned
    candidate, reference = aligned.candidate.labels, aligned.reference.labels
    if candidate is None or reference is None or aligned.labels_taken_from is not None:
        return examination
    mine, theirs = _nearest_labels(examination, candidate, reference)
    conflicts = mine != theirs
    cells = int(conflicts.sum())
    if not cells:
        return examination.noted(ruled_out("different_labels", f"All {mine.size:,} labels are equal."))
    per_code, rows = conflicts.sum(axis=0), int(conflicts.any(axis=1).sum())
    codes = int((per_code > 0).sum())
    permuted = rows > 1 and bool(np.array_equal(np.sort(row_keys(mine)), np.sort(row_keys(theirs))))
    kind = " They are the same rows of labels in another order." if permuted else ""
    names = aligned.candidate.codes
    worst = np.argsort(-per_code, kind="stable")[: min(10, codes)]
    where = f"in {rows:,} note{'s' * (rows != 1)} and {codes} code{'s' * (codes != 1)}"
    told = f"{cells:,} of {mine.size:,} labels differ{'s' * (cells == 1)}, {where}.{kind}"
    strangers = _each_fits_its_own(aligned.candidate.logits, aligned.reference.logits, candidate, reference)
    known = not strangers and _same_notes(examination, rows)
    if strangers:
        told += " Where they differ, each run's scores fit its own labels, so it may be that these notes are others under the same names."
    elif not known:
        told += " Or these notes are others: nothing shows for certain that they are the same."
    return examination.noted(
        Finding(
            "different_labels",
            "confirmed" if known else "likely",
            1.0 if known else 0.5,  # other labels or other notes
            _share_of_gap(aligned.candidate.logits, aligned.reference.logits, candidate, reference),
            told,
            evidence={"cells": cells, "documents": rows, "codes": codes, "rows_permuted": permuted},
            view=EvidenceTable(
                "Labels that differ, by code",
                ("code", "labels that differ"),
                tuple((names[code] if names else str(code), int(per_code[code])) for code in worst),
            ),
        )
    )


def _same_notes(examination: Examination, rows: int) -> bool:
    """Are the notes with other labels known to be the same? Of partners that are only near, one in a hundred may be false."""
    documents, pair = examination.evidence.aligned.documents, examination.logits
    if not documents.exact:
        return rows > LEVEL * documents.matched
    if not documents.assumed or examination.partner is not None:
        return True
    return examination.explained or mostly_in_place(pair.candidate, pair.reference)


def _each_fits_its_own(candidate: Logits, reference: Logits, mine: Labels, theirs: Labels) -> bool:
    """Where labels differ, does each run score what its own labels assign higher (Mann and Whitney, once in a hundred by chance)?

    Scores of the same notes cannot fit both: there, what one run's labels assign the other's do not.
    """
    apart = mine != theirs
    for logits, labels in ((candidate, mine), (reference, theirs)):
        scores, assigns = logits[apart], labels[apart] == 1
        assigned, not_assigned = scores[assigns], scores[~assigns]
        if not len(assigned) or not len(not_assigned):
            return False
        if not mannwhitneyu(assigned, not_assigned, alternative="greater").pvalue <= LEVEL:
            return False
    return True


def _nearest_labels(examination: Examination, mine: Labels, theirs: Labels) -> tuple[Labels, Labels]:
    """Both runs' labels note by note: as they were aligned, as the rows moved, or left where they stood in the files."""
    pairs = [(mine, theirs)]
    partner = examination.partner
    if partner is not None and len(partner) == len(mine):
        rows = np.flatnonzero(partner >= 0)
        pairs.append((mine[rows], theirs[partner[rows]]))
    documents = examination.evidence.aligned.documents
    if documents.by in ("content", "token_digest"):  # labels may have stayed behind when the scores moved
        first = np.argsort(np.argsort(documents.candidate)), np.argsort(np.argsort(documents.reference))
        back = tuple(labels[np.argsort(place)] for labels, place in zip((mine, theirs), first, strict=True))
        pairs.append((back[0], back[1]))
    return min(pairs, key=lambda pair: float((pair[0] != pair[1]).mean()))


def _share_of_gap(candidate: Logits, reference: Logits, mine: Labels, theirs: Labels) -> float:
    """What the labels move of micro F1 at 0.5, against what the scores move: |labels| ⁄ (|labels| + |scores|)."""
    if np.array_equal(candidate, reference):
        return 1.0
    usual = f1_at(reference, theirs)["micro_f1"]
    labels = abs(f1_at(reference, mine)["micro_f1"] - usual)
    scores = abs(f1_at(candidate, theirs)["micro_f1"] - usual)
    return labels / (labels + scores) if labels else 0.0
