"""The answer in a sentence."""

from dataclasses import replace

import pytest

from shifamind_core.diagnosis.answer import CAUSE_OF_INTERVENTION, CAUSE_OF_OUTPUT, answer
from shifamind_core.diagnosis.causes import CAUSES
from shifamind_core.diagnosis.findings import confirmed, judged
from shifamind_core.diagnosis.hypotheses import KINDS, Hypothesis

CASING = judged("tokenizer_casing", 0.99, "")


def gpu(verdict: str) -> tuple[Hypothesis, ...]:
    return tuple(Hypothesis(kind.name, kind.title, verdict, "") for kind in KINDS)  # type: ignore[arg-type]


def replayed(verdict: str, *names: str) -> dict:
    return {"verdict": verdict, "sentence": "What was found.", "best": {"interventions": list(names)}}


@pytest.mark.parametrize(
    ("verdict", "end"),
    [
        ("ruled_out", ", not the GPU."),
        ("unlikely", "; the GPU is unlikely."),
        ("possible", "; the GPU is not ruled out yet."),
    ],
)
def test_what_is_said_of_the_gpu_is_what_its_hypotheses_say(verdict: str, end: str) -> None:
    said = answer([CASING], gpu(verdict), None)
    assert said.sentence == f"Most likely it was the tokenizer's casing{end}"
    assert (said.shown, said.cause) == ("likely", "tokenizer_casing")


def test_one_open_hypothesis_keeps_the_gpu_open() -> None:
    mixed = (*gpu("ruled_out")[:-1], replace(gpu("ruled_out")[-1], verdict="possible"))
    assert answer([CASING], mixed, None).sentence.endswith("the GPU is not ruled out yet.")


def test_a_reproduction_comes_before_what_logits_look_like() -> None:
    said = answer(
        [judged("dropout_active", 0.8, "")], gpu("possible"), replayed("confirmed", "lowercase=false")
    )
    assert said.sentence == "It was the tokenizer's casing, not the GPU."
    assert said.support == "What was found." and said.shown == "confirmed"
    assert said.meaning == CAUSES["tokenizer_casing"].meaning, "dropout, as the logits look, was not it"


def test_what_is_not_shown_is_not_stated() -> None:
    possible = judged("dropout_active", 0.3, "")
    assert answer([possible], gpu("possible"), None).meaning == possible.sentence != possible.meaning
    likely = answer([CASING], gpu("possible"), replayed("likely", "lowercase=false"))
    assert likely.meaning == f"Likely: {CASING.meaning}"


def test_a_likely_replay_proves_nothing_of_the_gpu() -> None:
    said = answer([CASING], gpu("possible"), replayed("likely", "max_length=128", "lowercase=false"))
    assert (
        said.sentence
        == "Most likely it was the maximum length and the tokenizer's casing; the GPU is not ruled out yet."
    )
    assert said.cause is None


def test_a_replay_that_found_nothing_changes_nothing() -> None:
    assert answer([CASING], (), replayed("unexplained")) == answer([CASING], (), None)


def test_rounding_is_called_rounding() -> None:
    assert answer([confirmed("numerics", "")], gpu("confirmed"), None).sentence.startswith("It was rounding")
    assert answer([CASING], (), replayed("numerics")).sentence == "It was rounding."
    assert "not the GPU" not in answer([CASING], (), replayed("confirmed", "policy=bf16")).sentence


def test_nothing_known_is_said_to_be_open() -> None:
    said = answer([judged("unknown", 0.5, "")], gpu("possible"), None)
    assert said.shown == "open" and said.cause is None and said.sentence.startswith("Nothing known")
    assert said.meaning == f"Possibly (50 %): {CAUSES['unknown'].meaning}"
    others = [judged("numerics", 0.28, ""), judged("few_codes_changed", 0.002, "")]
    told = answer([judged("unknown", 0.5, ""), *others], gpu("possible"), None).meaning
    assert told.endswith("Not ruled out: rounding: precision or kernels (28 %).")


def test_every_cause_that_can_be_found_can_follow_it_was() -> None:
    assert {name for name, cause in CAUSES.items() if not cause.subject} == {"identical", "unknown"}
    assert {*CAUSE_OF_INTERVENTION.values(), *CAUSE_OF_OUTPUT.values()} <= set(CAUSES)
