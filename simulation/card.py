"""The model card, docs/cause-model.md: what the cause model learned from, and how it does where it never looked."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shifamind_core.diagnosis.evidence.levels import LEVELS
from simulation.judged import CAUSES, Score, collapsed, reliability, score, weights

MOST_CALIBRATION_ERROR, MOST_NUMERICS = 0.05, 1e-3
TWINS: tuple[tuple[str, str, str], ...] = (
    ("max_length", "truncation side, head and tail", "All change the notes beyond a limit, and no others; one class, `max_length`."),
    ("padding", "mask ignored", "Both change notes by what they lack to the full length; one class, `padding`, where lengths are known."),
    ("few_documents_changed", "input_changed", "Another input in some notes *is* that some notes changed; by name up to a quarter of them, both from there to three quarters."),
    ("input_changed", "weights_changed", "Special tokens left out of every note, or segments of ones, act alike on every note, as other weights do."),
    ("weights_changed", "encoder_not_loaded", "One layer of the encoder that was not loaded, or the base model's encoder under a fine-tuned head, is both."),
    ("calibration_shift", "weights_changed", "Other biases of the head are both."),
    ("numerics", "weights_changed", "Weights that were rounded to half precision, and nothing else, are both."),
    ("numerics", "any fault that is drowned", "Where rounding that came on top is as loud as the fault, both are at work."),
    ("different_documents", "input_changed, dropout_active", "Where codes do not correlate with themselves (less than three standard errors), no note is linked with itself: other notes, wholly other tokens and dropout that leaves nothing look alike."),
    ("encoder_not_loaded", "other weights that leave nothing", "Where, besides, neither run can be read off the other."),
)  # fmt: skip


NOT_COVERED = (
    "- Several faults at once, beyond rounding or storage on top of one.",
    "- Models that tell no notes apart, and encoders larger than MiniLM: the fleet's are narrow, and its notes are made up.",
    "- FP8, INT8 and other quantised arithmetic.",
    "- Faults that nobody planted: where features lie beyond what was seen, the diagnosis says `unknown`; an unknown fault within that "
    "range gets the name of what it looks like.",
    '- Rounding in the fit is emulated. That a GPU\'s own is named alike is measured in the row "recorded on a GPU", and tested on the '
    "demo's runs of an H200, TF32 and BF16 (`tests/diagnosis/test_recorded_runs.py`).",
)


RECORDED = {
    "tf32": "tf32, recorded",
    "fp16 autocast": "fp16-autocast, recorded",
    "bf16 autocast": "bf16-autocast, recorded",
    "fp16 throughout": "fp16, recorded",
    "bf16 throughout": "bf16, recorded",
}  # by the emulation that stands for it


def groups(held: pd.DataFrame) -> dict[str, pd.Series]:
    """Parts of the held-out rows, each judged on its own."""
    told = ~held["smaller"] & ~held["drowned"]
    own = held["held_out"] & ~held["recorded"]
    alone = held["tokens_known"] == 0
    return {
        "held-out families, logits alone": own & told & alone,
        "held-out families, logits and lengths": own & told & ~alone,
        "recorded on a GPU": held["recorded"] & told,
        "held-out, smaller than rounding": own & held["smaller"] & ~held["drowned"],
        "held-out, drowned by rounding on top": own & held["drowned"],
    } | {
        f"family {name}, logits alone": own & told & alone & (held["family"] == name)
        for name in sorted(held[own]["family"].unique())
    }


def text(
    corpus: pd.DataFrame,
    learned: pd.DataFrame,
    held: pd.DataFrame,
    found: np.ndarray,
    in_turn: np.ndarray,
    told: tuple[pd.DataFrame, np.ndarray],
    boosted: np.ndarray,
    content: Mapping[str, Any],
    chosen: Mapping[str, Sequence[tuple[float, float]]],
    end_to_end: Mapping[str, Any] | None,
) -> str:
    """The whole card.

    Parameters
    ----------
    found, boosted : probabilities [held-out rows, causes] of the model and of the ceiling
    in_turn : probabilities [learned rows, causes], each from a fit to the other families
    told : of these the whole cases, and their probabilities with all that manifests and digests tell
    content : what `cause_model.json` holds
    chosen : cross-validated log-loss by number of `features`, and by `penalty`
    end_to_end : what `simulation.evaluate` wrote, if it ran
    """
    parts = groups(held)
    scores = {name: score(held[mask], found[mask.to_numpy()]) for name, mask in parts.items() if mask.any()}
    ceiling = {
        name: score(held[mask], boosted[mask.to_numpy()]) for name, mask in parts.items() if mask.any()
    }
    main = next(iter(parts.values())).to_numpy()
    blocks = (
        ("", _introduction()),
        ("Data", _data(corpus, learned, held, content)),
        ("Models", _models(corpus)),
        ("Emulated and recorded", _recorded(corpus)),
        ("Twins", _twins(held)),
        ("How it does", [*_table(scores, ceiling), "", *_bars(scores, end_to_end)]),
        ("Every family left out in turn", _in_turn(learned, in_turn, told)),
        ("End to end", _end_to_end(end_to_end, content)),
        ("Calibration", _calibration(held[main], found[main])),
        ("What is called what", _confusion(held[main], found[main])),
        ("Every time rounding came first for another fault", _wrong(held, found)),
        ("Outside of what was seen", _outside(held, found, content)),
        ("What a ladder adds", _ladder(content)),
        ("Which precision", _levels(corpus, content, end_to_end)),
        ("How features and penalty were chosen", _choices(content, chosen)),
        ("Features", _features(content)),
        ("What it does not cover", NOT_COVERED),
    )
    lines: list[str] = []
    for heading, block in blocks:
        lines += [f"## {heading}", ""] * bool(heading) + [*block, ""]
    return "\n".join(lines)


def _introduction() -> list[str]:
    return [
        "# The cause model",
        "",
        'Written by `python -m simulation.fit`, which measures every number below but those under "End to end": these come from '
        "`python -m simulation.evaluate`. Probabilities that the diagnosis gives for what no exact match explains come from here.",
    ]


def _data(
    corpus: pd.DataFrame, learned: pd.DataFrame, held: pd.DataFrame, content: Mapping[str, Any]
) -> list[str]:
    families = ", ".join(f"`{name}`" for name in sorted(corpus[corpus["held_out"]]["family"].unique()))
    gone = collapsed(corpus)
    return [
        f"{len(corpus):,} cases of {corpus['model'].nunique()} models (`simulation/corpus.parquet`, made by `python -m "
        f"simulation.corpus`; `simulation/corpus.json` says on what); {len(learned):,} rows of {learned['model'].nunique()} models "
        "were learned from, each case as it looks with note lengths and without. Never used in fitting or in choosing features, "
        f"penalty and temperature: the families {families}, and everything recorded in a GPU's own half precision or TF32. "
        "Rounding in the fit is emulated.",
        "",
        f"Left out altogether: {len(gone)} models whose training collapsed, so that rounding to half precision moves their logits "
        f"further than the notes do ({', '.join(f'`{name}`' for name in gone) or 'none'}). Of the held-out families "
        f"{', '.join(f'`{name}`' for name in sorted(held[held['held_out']]['model'].unique()))} remain.",
        "",
        "| cause | learned from | held out |",
        "|---|---|---|",
        *(
            f"| `{cause}` | {(learned['truth'] == cause).sum():,} | {(held['truth'] == cause).sum():,} |"
            for cause in CAUSES
        ),
    ]


def _models(corpus: pd.DataFrame) -> list[str]:
    gone = set(collapsed(corpus))
    whole = corpus[corpus["part"] == "whole"]
    lines = [
        "How far BF16, emulated, moves a logit, over how far the logits of a code lie apart: below 1 for every working model.",
        "",
        "| family | models | cases | notes | codes | BF16 | use |",
        "|---|---|---|---|---|---|---|",
    ]
    kinds = corpus["family"].where(~corpus["family"].str.contains("×"), corpus["architecture"])
    for kind, own in corpus.groupby(kinds):
        kept = own[~own["model"].isin(gone)]
        if kept.empty:
            continue
        size = whole[
            whole["model"].isin(kept["model"]) & whole["fault"].isin(["bf16 autocast", "bf16 weights"])
        ]
        reach = 10 ** size.groupby("model")["size"].max()
        between = f"{reach.min():.2g}–{reach.max():.2g}" if len(reach) else "not measured"
        use = "held out" if own["held_out"].any() else "fit"
        notes, codes = (
            f"{10 ** kept.groupby('model')[name].max().min():,.0f}–{10 ** kept[name].max():,.0f}"
            for name in ("notes", "codes")
        )
        lines.append(
            f"| {kind} | {kept['model'].nunique()} | {len(kept):,} | {notes} | {codes} | {between} | {use} |"
        )
    return lines


def _recorded(corpus: pd.DataFrame) -> list[str]:
    whole = corpus[(corpus["part"] == "whole") & (corpus["cause"] == "numerics")]
    sizes = whole.pivot_table("size", "model", "fault").reindex(columns=[*RECORDED, *RECORDED.values()])
    lines = [
        "How far a GPU's own arithmetic moved the logits of a model, over how far the emulation of it did (root mean squares).",
        "",
        "| emulated | models | median | from | to |",
        "|---|---|---|---|---|",
    ]
    for emulated, recorded in RECORDED.items():
        ratio = 10 ** (sizes[recorded] - sizes[emulated]).dropna()
        if len(ratio):
            lines.append(
                f"| {emulated} | {len(ratio)} | {ratio.median():.2f} | {ratio.min():.2f} | {ratio.max():.2f} |"
            )
    return lines if len(lines) > 4 else ["The corpus holds no recording."]


def _twins(held: pd.DataFrame) -> list[str]:
    own = held[held["held_out"] & ~held["recorded"]]
    return [
        "What nothing in the logits can tell apart; naming either is right, and where a row says so they are one class. Of the "
        f"{len(own):,} held-out rows {(own['right'].map(len) > 1).sum():,} have more than one right name, {own['drowned'].sum():,} of "
        "them because rounding drowns the fault.",
        "",
        *(f"- `{one}` and {other if ' ' in other else f'`{other}`'}: {why}" for one, other, why in TWINS),
        "",
        f"A fault that acts on every score and moves them by less than rounding can on the same model ({own['smaller'].sum():,} held-out "
        "rows) is learned from and judged on its own: only its shape tells it from rounding, where a ladder or digests do not.",
    ]


def _table(scores: Mapping[str, Score], ceiling: Mapping[str, Score]) -> list[str]:
    lines = [
        "| | rows | first | by row | among three | calibration error | `numerics` for another fault | another for `numerics` | boosted: first |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, s in scores.items():
        lines.append(
            f"| {name} | {s.rows:,} | {s.first:.1%} | {s.first_by_row:.1%} | {s.among_three:.1%} | {s.calibration_error:.3f} "
            f"| {s.numerics_for_another} of {s.of_others} | {s.another_for_numerics} of {s.of_numerics} | {ceiling[name].first:.1%} |"
        )
    return lines


def _in_turn(learned: pd.DataFrame, found: np.ndarray, told: tuple[pd.DataFrame, np.ndarray]) -> list[str]:
    return [
        "What the held-out families say of two kinds of models, this says of every other: each family of the fit as a fit to the "
        "others judges it, with the same features, penalty and temperature. Logits alone, faults not smaller than rounding.",
        "",
        *_by_family(learned, found, (learned["tokens_known"] == 0) & ~learned["smaller"]),
        "",
        "The same of whole cases with note lengths and all that manifests and digests tell; exact matchers take no part. Whose "
        "manifests these are is assumed as below. What causes predict of records was thought out on these cases, on the held-out ones it was tried.",
        "",
        *_by_family(*told, ~told[0]["smaller"]),
    ]


def _by_family(rows: pd.DataFrame, found: np.ndarray, asked: pd.Series) -> list[str]:
    parts = {"all of them": asked} | {
        kind: asked & (rows["kind"] == kind) for kind in sorted(rows["kind"].unique())
    }
    scores = {name: score(rows[mask], found[mask.to_numpy()]) for name, mask in parts.items() if mask.any()}
    return [
        "| family | rows | first | among three | calibration error | `numerics` for another fault | another for `numerics` |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {s.rows:,} | {s.first:.1%} | {s.among_three:.1%} | {s.calibration_error:.3f} "
            f"| {s.numerics_for_another} of {s.of_others} | {s.another_for_numerics} of {s.of_numerics} |"
            for name, s in scores.items()
        ),
    ]


def _bars(scores: Mapping[str, Score], end_to_end: Mapping[str, Any] | None) -> list[str]:
    s = next(iter(scores.values()))
    lines = ["| bar | met | measured |", "|---|---|---|"]
    checks = [
        ("first, from logits alone ≥ 90 %", s.first >= 0.90, f"{s.first:.1%}"),
        ("among three, from logits alone ≥ 99 %", s.among_three >= 0.99, f"{s.among_three:.1%}"),
        *_common_bars("from logits alone", vars(s)),
    ]
    if end_to_end:
        known = end_to_end["tables"]["manifests"]
        checks += [
            ("first, with manifests ≥ 95 %", known["first"] >= 0.95, f"{known['first']:.1%}"),
            (
                "among three, with manifests ≥ 99 %",
                known["among_three"] >= 0.99,
                f"{known['among_three']:.1%}",
            ),
            *_common_bars("with manifests", known),
        ]
        lost = sum(table["ruled_out"] for table in end_to_end["tables"].values())
        checks.append(("the true cause ruled out: 0", lost == 0, str(lost)))
    return lines + [f"| {bar} | {'yes' if met else '**no**'} | {measured} |" for bar, met, measured in checks]


def _common_bars(what: str, found: Mapping[str, Any]) -> list[tuple[str, bool, str]]:
    false, others = found["numerics_for_another"], found["of_others"]
    missed, error = found["another_for_numerics"], found["calibration_error"]
    return [
        (f"calibration error, {what} ≤ {MOST_CALIBRATION_ERROR}", error <= MOST_CALIBRATION_ERROR, f"{error:.3f}"),
        (f"`numerics` first for another fault, {what} ≤ 1 in 1,000", false <= MOST_NUMERICS * others, f"{false} of {others}"),
        (f"another cause for precision, {what}: 0", missed == 0, f"{missed} of {found['of_numerics']}"),
    ]  # fmt: skip


def _end_to_end(found: Mapping[str, Any] | None, content: Mapping[str, Any]) -> list[str]:
    if not found:
        return ["Not measured: run `python -m simulation.evaluate DIR`."]
    lines = [
        "The product's own `diagnose` on "
        + ("every pair" if found["every"] == 1 else f"one in {found['every']} pairs")
        + f" of {found['models']} held-out models, exact matchers and all; 300 notes and up to 20 codes. "
        "How often a manifest is wrong is assumed, not fitted (once in a hundred): the last rows assume otherwise.",
        "",
        "Whose manifests these are is assumed, too. A fault that this product cannot make (dropout, a mask that is not passed, scores or "
        "notes changed, other text under the same ids) is of a pipeline that says nothing of itself; weights that were not loaded are, in half of the "
        "cases, of a captured run, whose digest is the model's, and else of such a pipeline, whose digest is the file's. Of precision, settings and "
        "other checkpoints half are this product's own. Captured runs and this product's record the parts of their weights, too. Cases of which "
        "the 300 notes hold none that changed are left out.",
        "",
        "| known | cases | first | among three | calibration error | `numerics` for another | another for `numerics` "
        "| truth ruled out | smaller than rounding: first |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for what, t in found["tables"].items():
        lines.append(
            f"| {what} | {t['cases']} | {t['first']:.1%} | {t['among_three']:.1%} | {t['calibration_error']:.3f} | "
            f"{t['numerics_for_another']} of {t['of_others']} | {t['another_for_numerics']} of {t['of_numerics']} | {t['ruled_out']} "
            f"| {t['smaller_first']:.1%} of {t['smaller']} |"
        )
    wrong = [
        f"| {row['model']} | {row['fault']} | {row['nuisance'] or '–'} | {row['strength']:g} | {', '.join(row['right'])} | {', '.join(row['said'])} |"
        for row in found["wrong"]["manifests"]
    ]
    return [
        *lines, "", "Every case that is wrong with manifests:", "",
        "| model | fault | on top | strength | right | said |", "|---|---|---|---|---|---|", *wrong,
    ]  # fmt: skip


def _calibration(rows: pd.DataFrame, found: np.ndarray) -> list[str]:
    return [
        "![How often the first cause is right, by its probability](cause-model.svg)",
        "",
        "Held-out families, logits alone.",
        "",
        "| probability of the first | right | share of the cases |",
        "|---|---|---|",
        *(f"| {said:.2f} | {was:.2f} | {share:.2f} |" for said, was, share in _bins(rows, found)),
    ]


def _outside(held: pd.DataFrame, found: np.ndarray, content: Mapping[str, Any]) -> list[str]:
    bases = content["bases"]
    beyond = np.stack(
        [~held[base["name"]].between(base["low"], base["high"]).to_numpy() for base in bases], axis=1
    )
    told = ~(held["smaller"] | held["drowned"]).to_numpy()
    outside, right = beyond.any(axis=1), _right(held, found)
    names = [
        f"`{base['name']}` {int(beyond[told, i].sum())}"
        for i, base in enumerate(bases)
        if beyond[told, i].any()
    ]
    shares = [
        f"{right[told & mask].mean():.1%} of {(told & mask).sum():,}" if (told & mask).any() else "none of 0"
        for mask in (outside, ~outside)
    ]
    return [
        f"Beyond the range that the fit saw, `diagnose` says `unknown`, and calls nothing likely that logits alone speak for. First right outside: {shares[0]}; "
        f"inside: {shares[1]} held-out and recorded rows. By feature: {', '.join(names) or 'none'}.",
        "",
        "Open ends, beyond which nothing else begins: more notes or codes, notes linked more surely, and differences smaller than "
        "any rounding that was seen.",
    ]


def _ladder(content: Mapping[str, Any]) -> list[str]:
    return [
        "With a ladder measured on the same model, the size of a difference over √2 times the ladder's root mean square adds to the "
        "log-odds of `numerics`, fitted on the models of the fit, each predicted by a model that had not seen it:",
        "",
        "| size over the ladder's | added log-odds |",
        "|---|---|",
        *(
            f"| {10**beyond:.2g} | {added:+.2f} |"
            for beyond, added in zip(content["ladder"]["beyond"], content["ladder"]["log_odds"], strict=True)
        ),
    ]


def _levels(
    corpus: pd.DataFrame, content: Mapping[str, Any], end_to_end: Mapping[str, Any] | None
) -> list[str]:
    """How often the size of a difference names its level, with the sizes of the other models alone."""
    sizes: dict[str, list[float]] = {}
    for item in content["rounding"]:
        sizes.setdefault(item["level"], []).append(item["size"])
    middles = {level: float(np.median(sizes[level])) for level in LEVELS if level in sizes}
    own = corpus[
        (corpus["cause"] == "numerics") & (corpus["part"] == "whole") & (corpus["held_out"] | corpus["recorded"])
        & ~corpus["fault"].str.contains(" against |stored|by way of") & ~corpus["model"].isin(collapsed(corpus))
    ]  # fmt: skip
    nearest = [min(middles, key=lambda level: abs(math.log10(middles[level]) - size)) for size in own["size"]]
    said = [{2: "bf16", 1: "fp16"}.get(grid, level) for grid, level in zip(own["grid"], nearest, strict=True)]
    lines = [
        "From logits alone, by the grid that all values lie on, or else by the level whose typical rounding is nearest in size: "
        f"{np.mean(np.array(said) == own['level'].to_numpy()):.0%} of {len(own)} held-out and recorded cases of rounding get their own "
        f"level ({np.mean(np.array(nearest) == own['level'].to_numpy()):.0%} by size alone).",
        "",
        "| level | cases | right | said |",
        "|---|---|---|---|",
    ]
    for level in LEVELS:
        mask = (own["level"] == level).to_numpy()
        names = Counter(name for name, inside in zip(said, mask, strict=True) if inside)
        told = ", ".join(f"{name} {count}" for name, count in names.most_common())
        lines.append(f"| {level} | {mask.sum()} | {names[level]} | {told} |")
    if end_to_end:
        told = ", ".join(
            f"{what}: {t['level_right']} of {t['of_levels']}"
            for what, t in end_to_end["tables"].items()
            if "once" not in what
        )
        lines += ["", f"End to end, where rounding was found: {told}."]
    return lines


def _choices(content: Mapping[str, Any], chosen: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    told = {
        name: ", ".join(f"{value:g}: {lost:.3f}" for value, lost in found) for name, found in chosen.items()
    }
    return [
        "Log-loss on models left out (cross-validation by model within the fit). "
        f"Number of features {told['features'] or 'given'}. Penalty C {told['penalty']}; chosen {content['corpus']['penalty']:g}. "
        f"Temperature {content['temperature']:.2f}, on a further group of models. Corpus SHA-256 "
        f"`{content['corpus']['sha256'][:16]}…`.",
    ]


def _features(content: Mapping[str, Any]) -> list[str]:
    return [
        "| name | meaning | seen in fitting |",
        "|---|---|---|",
        *(
            f"| `{base['name']}` | {base['meaning']} | {base['low']:.3g} to {base['high']:.3g} |"
            for base in content["bases"]
        ),
    ]


def _first(found: np.ndarray) -> np.ndarray:
    return np.array(CAUSES)[found.argmax(axis=1)]


def _right(rows: pd.DataFrame, found: np.ndarray) -> np.ndarray:
    return np.array([name in good for name, good in zip(_first(found), rows["right"], strict=True)])


def _bins(rows: pd.DataFrame, found: np.ndarray) -> list[tuple[float, float, float]]:
    return reliability(found.max(axis=1), _right(rows, found), weights(rows))


def _confusion(rows: pd.DataFrame, found: np.ndarray) -> list[str]:
    first = _first(found)
    lines = ["| planted | n | right | found instead |", "|---|---|---|---|"]
    right = _right(rows, found)
    truth = rows["truth"].to_numpy()
    for cause in CAUSES:
        own = truth == cause
        if own.any():
            wrong = Counter(first[own & ~right])
            told = ", ".join(f"`{name}` {count}" for name, count in wrong.most_common()) or "–"
            lines.append(f"| `{cause}` | {own.sum()} | {right[own].mean():.1%} | {told} |")
    return lines


def _wrong(held: pd.DataFrame, found: np.ndarray) -> list[str]:
    told = ~(held["smaller"] | held["drowned"]).to_numpy()
    wrong = told & (_first(found) == "numerics") & ~_right(held, found)
    if not wrong.any():
        return ["None."]
    lines = [
        "Held-out rows, logits alone and with lengths, that are neither drowned nor smaller than rounding on the same model.",
        "",
        "| model | fault | on top | strength | part | size | rounding reaches | probability |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (_, row), probability in zip(held[wrong].iterrows(), found[wrong].max(axis=1), strict=True):
        lines.append(
            f"| {row['model']} | {row['fault']} | {row['nuisance'] or '–'} | {row['strength']:g} | {row['part']} | {10 ** row['size']:.2g} "
            f"| {10 ** row['limit']:.2g} | {probability:.2f} |"
        )
    return lines


def diagram(held: pd.DataFrame, found: np.ndarray) -> str:
    """Reliability as SVG: how often the first cause is right, by its probability; circles as large as their share."""
    main = next(iter(groups(held).values())).to_numpy()
    size, edge = 320, 40
    circles = "".join(
        f'<circle cx="{edge + said * size:.0f}" cy="{edge + (1 - was) * size:.0f}" r="{4 + 14 * share**0.5:.1f}" fill="#0b6e99" '
        f'fill-opacity="0.75"><title>{said:.2f} said, {was:.2f} right, {share:.0%} of cases</title></circle>'
        for said, was, share in _bins(held[main], found[main])
    )
    ticks = "".join(
        f'<text x="{edge + t * size:.0f}" y="{edge + size + 18}" text-anchor="middle">{t:g}</text>'
        f'<text x="{edge - 8}" y="{edge + (1 - t) * size + 4:.0f}" text-anchor="end">{t:g}</text>'
        for t in (0, 0.5, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size + 2 * edge} {size + 2 * edge + 10}" width="{size + 2 * edge}" '
        'font-family="sans-serif" font-size="12" role="img" aria-label="Reliability diagram">'
        '<rect width="100%" height="100%" fill="white"/>'
        f'<rect x="{edge}" y="{edge}" width="{size}" height="{size}" fill="none" stroke="#999"/>'
        f'<line x1="{edge}" y1="{edge + size}" x2="{edge + size}" y2="{edge}" stroke="#999" stroke-dasharray="4 4"/>'
        f'{circles}{ticks}<text x="{edge + size / 2}" y="{edge + size + 36}" text-anchor="middle">probability of the first cause</text>'
        f'<text x="{edge}" y="{edge - 14}">share right</text></svg>\n'
    )
