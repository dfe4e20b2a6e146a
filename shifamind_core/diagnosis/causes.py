"""Every cause that a diagnosis can name: one record each, from which pages, JSON and `docs/diagnosis.md` take their words.

A new cause is one record here, one function that finds it (an exact matcher, or a class of the cause model) and one
fault in `simulation`.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fact = Literal[
    "weights of the file",
    "weights of the model",
    "tokens",
    "limit",
    "padding",
    "mode",
    "mask",
    "loading",
    "scores",
]
SAME, OTHER, EITHER = ("same",), ("other",), ("same", "other")
# Where weights differ, as `evidence.weight_parts` tells.
OTHER_PARTS = ("head", "encoder", "part of the encoder", "both")
# What two runs can record of a fact (`evidence.facts`), and what every cause expects that says nothing else.
OUTCOMES: Mapping[Fact, tuple[str, ...]] = {
    "weights of the file": EITHER,
    "weights of the model": ("same", *OTHER_PARTS),
    "tokens": ("same", "few", "most"),
    "limit": EITHER,
    "padding": EITHER,
    "mode": EITHER,
    "mask": EITHER,
    "loading": EITHER,
    "scores": EITHER,
}
# Tokens tell already whether another limit cut notes: it counts among causes that change tokens alone.
EXPECTED: Mapping[Fact, tuple[str, ...]] = {**dict.fromkeys(OUTCOMES, SAME), "limit": EITHER}
OUTCOME_SAID = {
    "same": "the same",
    "other": "other",
    "few": "other in a minority of the notes",
    "most": "other in most notes",
    "head": "other in the head alone",
    "encoder": "other in every layer of the encoder and not in the head",
    "part of the encoder": "other in some layers of the encoder and not in the head",
    "both": "other in encoder and head",
}


@dataclass(frozen=True)
class Cause:
    """What a cause is, in words.

    Attributes
    ----------
    name : as the command line prints it
    title : for a heading
    subject : what it was, to follow "It was"; empty where nothing was
    meaning : what happened, one sentence for a reader who knows F1
    action : what to do about it, or the one experiment that decides
    shown_by : what in the two runs shows it
    general : the name that logits alone allow, where manifests or token digests give this one; else empty
    confused_with : causes that can leave the same trace
    predicts : of the facts beside the logits those that need not be the same in both runs, with the outcomes to be expected
    """

    name: str
    title: str
    subject: str
    meaning: str
    action: str
    shown_by: str
    general: str = ""
    confused_with: tuple[str, ...] = ()
    predicts: Mapping[Fact, tuple[str, ...]] = field(default_factory=dict)


GROUPS: Mapping[str, tuple[Cause, ...]] = {
    "Nothing, or arithmetic": (
        Cause(
            "identical",
            "The runs are identical",
            "",
            "Both runs hold the same scores: neither the model nor the machine made a difference.",
            "If reported F1 values differ all the same, compare the labels, the threshold and the definition of F1.",
            "Every logit is equal bit by bit, or as far as stored probabilities can tell.",
        ),
        Cause(
            "numerics",
            "Rounding: precision or kernels",
            "rounding: precision or kernels",
            "The difference is rounding: the same model computed in another precision, or added in another order.",
            "Measure the precision ladder on this model; predict both runs under the policy fp32.",
            "Equal tokens and weights under another arithmetic; or noise no larger than the ladder measured on this model; "
            "or, without a ladder, noise of the size and shape that rounding had on models measured before.",
            confused_with=("dropout_active", "weights_changed"),
        ),
        Cause(
            "stored_precision",
            "Scores rounded when saved",
            "rounding when scores were saved",
            "One file holds the other run's scores, rounded: how it was saved is enough to make the difference.",
            "Save scores as float32 without rounding, and compare again.",
            "Rounding one run to the other's decimals, or to half precision, gives the other cell by cell.",
        ),
        Cause(
            "non_finite",
            "Scores that are not numbers",
            "scores that are not numbers",
            "Some scores are NaN, infinite or too large for FP32, so their decisions mean nothing.",
            "Predict these notes again under fp32: FP16 overflows beyond 65,504.",
            "Cells that are NaN, infinite or beyond FP32, counted by run, note and code.",
        ),
    ),
    "Which rows and columns": (
        Cause(
            "document_order",
            "Order of notes",
            "the order of the notes",
            "Both runs hold the same notes in another order, so a comparison row by row compares different notes.",
            "Export document ids with the scores, or predict in one process without shuffling.",
            "Rows of one run are found elsewhere in the other: equal, or nearest by far. The kind of order is named.",
            confused_with=("different_documents",),
        ),
        Cause(
            "document_ids",
            "The same notes under other ids",
            "the document ids alone",
            "Both runs hold the same notes; only their document ids differ.",
            "Make ids from the same text. Line ends, spaces and rounded numbers change an id without changing a note.",
            "No id is shared, yet rows are equal (or token digests are).",
        ),
        Cause(
            "repeated_documents",
            "Notes that stand there twice",
            "notes that stand there twice",
            "Some notes stand in one run more than once, and each copy counts in its scores.",
            "Score every note once. A distributed sampler repeats notes to fill its last batch; windows repeat them by design.",
            "Rows that equal other rows of the same run, or share their ids; counted and placed.",
        ),
        Cause(
            "missing_documents",
            "Notes left out",
            "notes left out",
            "One run leaves notes out; the notes that both hold are the same.",
            "Predict the notes that are missing: drop_last, a limit or a crashed process leaves some out.",
            "All of one run's notes are found in the other, which holds more.",
        ),
        Cause(
            "different_documents",
            "Different notes",
            "other notes",
            "The runs were made on different notes.",
            "Predict both on the same split. Ids made by this product, or by capture, are digests of the text and show which notes both hold; ids of your own may stand for other notes.",
            "Ids that do not meet while contents differ too; or, without ids, rows that are found nowhere.",
            confused_with=("document_order",),
            predicts={"tokens": ("most",)},
        ),
        Cause(
            "code_order",
            "Order of codes",
            "the order of the codes",
            "The columns of the two runs belong to different codes.",
            "Compare the two code lists, and export the codes' names with the scores.",
            "Columns equal another column, in all notes or in those that nothing else changed, or correlate with it as right ones do; the moved ones exchange places.",
            confused_with=("few_codes_changed",),
        ),
        Cause(
            "different_codes",
            "Different codes",
            "other codes",
            "The runs score different codes, so an average over codes is not the same average.",
            "Export both runs with one code list.",
            "Code names that only one run has.",
            confused_with=("code_order",),
        ),
        Cause(
            "different_labels",
            "Different labels",
            "other labels",
            "The same notes carry other labels in the two runs.",
            "Score both runs with one set of labels.",
            "Labels of the same notes that differ, counted by note and code.",
        ),
    ),
    "How scores are written and counted": (
        Cause(
            "probabilities_as_logits",
            "Probabilities saved as logits",
            "probabilities saved as logits",
            "One run holds probabilities where the other holds logits; scoring it applies a second sigmoid.",
            "Save the model's raw outputs, before any sigmoid.",
            "All values lie between 0 and 1, and undoing one sigmoid gives the other run.",
            confused_with=("double_sigmoid",),
        ),
        Cause(
            "double_sigmoid",
            "Sigmoid applied twice",
            "a sigmoid applied twice",
            "The sigmoid was applied twice before the scores were saved.",
            "Find the second sigmoid: often one stands in the model and one in the evaluation.",
            "All values lie between 0.5 and 0.731, where only a sigmoid of a probability lies; undoing two gives the other run.",
            confused_with=("probabilities_as_logits",),
        ),
        Cause(
            "score_map",
            "Scores converted",
            "a conversion of the scores",
            "One run's scores are an exact function of the other's: the scores were converted, the model is the same.",
            "Save raw logits in both places.",
            "One formula (per run, per code or per note) gives every score of one run from the other's: percent, softmax, "
            "log-probabilities, a temperature, a number added to every score of a note.",
            confused_with=("calibration_shift",),
        ),
        Cause(
            "calibration_shift",
            "Calibration shifted, ranking kept",
            "a shift in calibration",
            "Scores are shifted or stretched, but within every code the notes keep their ranking: thresholds move, ranking does not.",
            "Tune the threshold on each run's own validation scores: the gap should close.",
            "A shift, a factor, or either a code, or one increasing curve explains nearly all of the difference.",
            confused_with=("weights_changed",),
            predicts={"scores": OTHER},
        ),
        Cause(
            "metric_definition",
            "Another definition of F1",
            "another definition of F1",
            "The scores agree; F1 was computed in another way.",
            "Score both runs with one definition: decision >, all codes averaged, 0/0 = 0.",
            "One definition found in the field gives the reported values to the last digit.",
        ),
    ),
    "Where the change sits": (
        Cause(
            "few_codes_changed",
            "A few codes changed",
            "a few codes",
            "Only some codes changed; the others are as they were.",
            "Compare the head's rows of these codes in the two checkpoints.",
            "The other codes' logits are equal, or differ by rounding.",
            confused_with=("code_order",),
            # Their rows of the head are others, or somebody changed their scores.
            predicts={"weights of the file": EITHER, "weights of the model": ("head",)},
        ),
        Cause(
            "few_documents_changed",
            "A few notes changed",
            "a few notes",
            "Only some notes changed; the others are as they were.",
            "Compare the texts and token ids of these notes, and predict them again alone. If they are the longest, one run cut notes "
            "earlier or at their other end; if they are the shortest, it padded them or ignored the mask.",
            "The other notes' logits are equal, or differ by rounding.",
            confused_with=("input_changed",),
            predicts={"tokens": ("few",)},
        ),
    ),
    "What the model read": (
        Cause(
            "input_changed",
            "The model read other input",
            "other input to the model",
            "The same notes reached the model as other tokens.",
            "Compare the token digests of both runs; replay tries casing, length and special tokens.",
            "Notes change as if they were other notes, and similar notes change alike; or token digests differ.",
            confused_with=("weights_changed", "dropout_active"),
            predicts={"tokens": ("few", "most"), "limit": SAME},
        ),
        Cause(
            "tokenizer_casing",
            "Casing of the tokenizer",
            "the tokenizer's casing",
            "One run lower-cased the notes and the other did not.",
            "Predict with lower-casing on, then off: one of the two gives the other run.",
            "The manifests' casing differs, or one run was made under a library version that changes the default.",
            general="input_changed",
            predicts={"tokens": ("few", "most"), "limit": SAME},
        ),
        Cause(
            "max_length",
            "Maximum length",
            "the maximum length",
            "One run cut long notes earlier than the other.",
            "Predict again with the other run's maximum length.",
            "The manifests' lengths differ; or exactly the notes longer than some number of tokens changed.",
            general="input_changed",
            confused_with=("truncation_side",),
            predicts={"tokens": ("few", "most"), "limit": OTHER},
        ),
        Cause(
            "truncation_side",
            "Long notes cut at the other end",
            "which end of long notes is cut",
            "One run keeps the beginning of a long note and the other its end.",
            "Predict with truncation_side=left.",
            "The manifests' sides differ; or only notes longer than the limit changed though the limits agree.",
            general="input_changed",
            confused_with=("max_length",),
            predicts={"tokens": ("few", "most"), "limit": OTHER},
        ),
        Cause(
            "padding",
            "Padding",
            "padding",
            "Short notes were filled up to another length, and this model's scores depend on it.",
            "Predict again with padding=longest and with padding=max_length.",
            "The manifests' padding differs and short notes changed; or only notes below the limit changed.",
            general="input_changed",
            confused_with=("attention_mask_ignored",),
            predicts={"padding": OTHER},
        ),
        Cause(
            "attention_mask_ignored",
            "Attention mask ignored",
            "an ignored attention mask",
            "The model read the padding as if it were text.",
            "Pass the attention mask to the model; replay attention_mask=ignored.",
            "Only notes below the limit changed, in an architecture that does not read padding otherwise.",
            general="input_changed",
            confused_with=("padding",),
            predicts={"mask": OTHER},
        ),
        Cause(
            "dropout_active",
            "Dropout left on",
            "dropout left on",
            "Dropout was left on, so the scores hold random noise.",
            "Call model.eval() before predicting. Predict twice: with dropout on, two runs differ.",
            "Noise in every note that neither other codes nor similar notes share.",
            confused_with=("input_changed", "numerics"),
            predicts={"mode": OTHER},
        ),
    ),
    "Which weights": (
        Cause(
            "weights_changed",
            "Other weights",
            "other weights",
            "The scores come from other weights.",
            "Compare the weights digests of both checkpoints.",
            "The change is a law that acts alike on every note: the other codes' scores predict it.",
            confused_with=("input_changed", "calibration_shift"),
            # Another file, or a part of the same that was not loaded.
            predicts={"weights of the file": EITHER, "weights of the model": OTHER_PARTS},
        ),
        Cause(
            "other_checkpoint",
            "Another checkpoint",
            "another checkpoint",
            "The runs used two different checkpoints.",
            "Predict with the other checkpoint: it should give the other run.",
            "The manifests' weights digests differ.",
            general="weights_changed",
            predicts={"weights of the file": OTHER, "weights of the model": OTHER_PARTS},
        ),
        Cause(
            "head_not_loaded",
            "Head not loaded",
            "a head that was not loaded",
            "The output layer was not loaded: the encoder works, but random weights read it.",
            "Load the checkpoint with strict=True and list missing and unexpected keys.",
            "No code correlates with itself, yet all codes together predict the other run.",
            general="weights_changed",
            predicts={"weights of the model": ("head",), "loading": OTHER},
        ),
        Cause(
            "encoder_not_loaded",
            "Encoder not loaded",
            "an encoder that was not loaded",
            "The encoder was not loaded: the scores hardly depend on the notes.",
            "Load the checkpoint with strict=True and list missing and unexpected keys.",
            "Scores that vary little over the notes and predict nothing of the other run.",
            general="weights_changed",
            predicts={"weights of the model": ("encoder",), "loading": OTHER},
        ),
    ),
    "Otherwise": (
        Cause(
            "unknown",
            "Nothing known explains it",
            "",
            "The difference looks like none of the causes known here.",
            "Replay the pipeline with one change at a time, and compare layers.",
            "No matcher explains it, and it lies outside what the cause model was fitted on.",
        ),
    ),
}
CAUSES: Mapping[str, Cause] = {cause.name: cause for group in GROUPS.values() for cause in group}


def as_markdown() -> str:
    """The records as a section of `docs/diagnosis.md`: a table of groups, then a cause a heading."""
    lines = ["| question | causes |", "|---|---|"]
    for group, causes in GROUPS.items():
        names = ", ".join(f"`{cause.name}` ({cause.title[0].lower()}{cause.title[1:]})" for cause in causes)
        lines.append(f"| {group} | {names} |")
    for cause in CAUSES.values():
        lines += ["", f"### `{cause.name}`", "", f"{cause.meaning}", "", f"- **Shown by.** {cause.shown_by}"]
        lines.append(f"- **What to do.** {cause.action}")
        if cause.general:
            lines.append(f"- **From logits alone** its name is `{cause.general}`.")
        if cause.predicts:
            told = (f"{fact} {_outcomes_said(fact, said)}" for fact, said in cause.predicts.items())
            lines.append(f"- **Where recorded:** {'; '.join(told)}.")
        if cause.confused_with:
            lines.append(f"- **Can look like** {', '.join(f'`{name}`' for name in cause.confused_with)}.")
    return "\n".join(lines)


def _outcomes_said(fact: Fact, outcomes: tuple[str, ...]) -> str:
    anything_else = outcomes == OUTCOMES[fact][1:]
    return OUTCOME_SAID["other"] if anything_else else " or ".join(map(OUTCOME_SAID.__getitem__, outcomes))


BEGIN, END = "<!-- causes: begin -->", "<!-- causes: end -->"


def into(document: str) -> str:
    """The document with the causes between its markers written anew."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{as_markdown()}\n{END}{after}"


if __name__ == "__main__":  # python -m shifamind_core.diagnosis.causes docs/diagnosis.md
    path = Path(sys.argv[1])
    path.write_text(into(path.read_text()))
