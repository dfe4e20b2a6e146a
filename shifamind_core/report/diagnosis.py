"""A diagnosis and a replay as tables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from shifamind_core.artifacts.json_file import read_json_object
from shifamind_core.diagnosis.diagnose import Diagnosis
from shifamind_core.errors import ShifamindError
from shifamind_core.runs.manifest import flatten
from shifamind_core.runs.run import Run

AGREEMENTS = ("differs", "known of one only", "same")


def findings_table(diagnosis: Diagnosis) -> pd.DataFrame:
    """One row a cause, most likely first.

    Columns: `cause`, `status` (confirmed, likely, possible, ruled_out), `score` (0 to 1), `probability`, `share` (of the
    difference), `explanation`, `how_to_confirm`, `evidence` (its numbers as JSON).
    """
    rows = [finding.to_json() for finding in diagnosis.findings]
    columns = (
        "cause",
        "status",
        "score",
        "probability",
        "share",
        "explanation",
        "how_to_confirm",
        "evidence",
    )
    table = pd.DataFrame(rows, columns=list(columns))
    return table.assign(evidence=[json.dumps(row["evidence"], sort_keys=True) for row in rows])


def is_replay(content: Mapping[str, Any]) -> bool:
    """Whether it can be shown: the keys that `replay` prints, of the kinds that it prints."""

    def is_trial(one: Any) -> bool:
        numbers = ("explained", "max_abs_residual", "rms_residual", "notes")
        return (
            isinstance(one, dict)
            and isinstance(one.get("interventions"), list)
            and all(isinstance(one.get(name), int | float) for name in numbers)
        )

    texts = all(isinstance(content.get(name), str) for name in ("verdict", "sentence", "device"))
    trials = content.get("trials")
    best = is_trial(content.get("best")) and is_trial(content.get("base"))
    return texts and best and isinstance(trials, list) and all(map(is_trial, trials))


def read_replay(path: Path) -> dict[str, Any]:
    """The replay in a JSON file, as `replay --json` prints it.

    Raises
    ------
    ShifamindError
        No such file, or another content.
    """
    content = read_json_object(path)
    if not is_replay(content):
        raise ShifamindError(
            f"{path.name} holds no replay of a run; write what `replay --json` prints into it."
        )
    return content


def trials_table(replay: Mapping[str, Any]) -> pd.DataFrame:
    """One row a trial of a replay's JSON, best first.

    Columns: `interventions` (joined by " + "; "none" for the pipeline as it is), `distance` (from the reported scores, in
    sampling errors) and those scores where only scores were known, `explained` (share of the squared difference, 0 to
    1), `max_abs_residual` and `rms_residual` (logits) where the logits were, `notes`.
    """
    trials = replay.get("trials", [])
    scores = list(dict.fromkeys(name for trial in trials for name in trial.get("scores", {})))
    measures = ("explained", "max_abs_residual", "rms_residual")
    rows = [
        {
            "interventions": " + ".join(trial["interventions"]) or "none",
            "distance": trial.get("distance"),
            **{name: trial.get("scores", {}).get(name) for name in scores},
            **{name: trial.get(name) for name in measures},
            "notes": trial["notes"],
        }
        for trial in trials
    ]
    table = pd.DataFrame(rows, columns=["interventions", "distance", *scores, *measures, "notes"])
    return table.dropna(axis=1, how="all") if rows else table


def manifests_table(candidate: Run, reference: Run) -> pd.DataFrame:
    """One row a field that either manifest knows, those that differ first.

    Columns: `field` (dotted), `candidate`, `reference` (as text; empty where it is not known), `agreement`
    (one of `AGREEMENTS`).
    """
    ours, theirs = flatten(candidate.manifest), flatten(reference.manifest)
    rows = [
        (name, _text(ours.get(name)), _text(theirs.get(name)), _agreement(name, ours, theirs))
        for name in dict.fromkeys([*ours, *theirs])
    ]
    rows.sort(key=lambda row: AGREEMENTS.index(row[-1]))
    return pd.DataFrame(rows, columns=["field", "candidate", "reference", "agreement"])


def _agreement(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    if name not in ours or name not in theirs:
        return "known of one only"
    return "same" if ours[name] == theirs[name] else "differs"


def _text(value: object) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)
