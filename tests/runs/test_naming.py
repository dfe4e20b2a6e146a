"""Runs are named by what distinguishes them, and their differing settings are listed."""

from dataclasses import replace
from itertools import permutations

from shifamind_core.precision.environment import Environment
from shifamind_core.precision.policy import NumericFlags
from shifamind_core.runs.manifest import Manifest, PolicyRecord, TokenizationRecord
from shifamind_core.runs.naming import Shown, differing, short_names

H100 = Environment(gpu="NVIDIA H100 80GB HBM3", torch="2.9.0")


def shown(digest: str = "a" * 12, documents: int = 64, policy: str = "default", **fields: object) -> Shown:
    manifest = Manifest(policy=PolicyRecord(policy), split="test", environment=H100)
    return Shown(digest, replace(manifest, **fields), documents)


def test_a_name_says_what_distinguishes_and_nothing_else() -> None:
    cased, lowered = (TokenizationRecord(lowercase=lower, max_length=512) for lower in (False, True))
    runs = [shown(), shown(policy="fp32")]
    assert short_names(runs) == ["default, H100", "fp32, H100"]
    runs = [shown(tokenization=cased), shown(tokenization=lowered)]
    assert short_names(runs) == ["default, cased, H100", "default, lower-cased, H100"]
    runs = [shown(flags=NumericFlags(attention=kind)) for kind in ("sdpa", "eager")]
    assert short_names(runs) == ["default, sdpa, H100", "default, eager, H100"]
    runs = [shown(environment=replace(H100, torch=version)) for version in ("2.9.0", "2.13.0")]
    assert short_names(runs) == ["default, torch 2.9.0, H100", "default, torch 2.13.0, H100"]


def test_names_are_unique_and_do_not_depend_on_the_order() -> None:
    runs = [
        shown(),
        shown(documents=9),
        shown(policy="fp32"),
        shown("b" * 12),
        replace(shown(), own_name="h100.csv"),
    ]
    expected = dict(zip(map(id, runs), short_names(runs), strict=True))
    assert len(set(expected.values())) == len(runs)
    assert "default, 64 notes, H100 · bbbbbb" in expected.values()
    for order in permutations(runs):
        assert dict(zip(map(id, order), short_names(order), strict=True)) == expected


def test_runs_alike_in_all_are_numbered() -> None:
    assert short_names([shown(), shown()]) == ["default, H100 · aaaaaa", "default, H100 · aaaaaa (2)"]
    assert short_names([Shown("c" * 12, Manifest(), 4)]) == ["run"]


def test_only_what_differs_is_listed_and_the_unknown_is_said_to_be_unknown() -> None:
    assert differing({"one": shown(), "other": shown()}) == []
    rows = differing({"one": shown(documents=9), "other": Shown("", Manifest(split="test"), 9)})
    assert {"Setting": "Policy", "one": "default", "other": "not recorded"} in rows
    assert {"Split", "Notes"}.isdisjoint(row["Setting"] for row in rows)
