"""The model card, docs/cause-model.md: what the cause model learned from, and how it does where it never looked."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from shifamind_core.diagnosis.evidence.features import FEATURES
from simulation.judged import CAUSES, Score, reliability, score, weights

BARS = (
    ("first, from logits alone", "first", 0.90),
    ("among three", "among_three", 0.99),
)
MOST_CALIBRATION_ERROR, MOST_NUMERICS = 0.05, 1e-3
TWINS: tuple[tuple[str, str, str], ...] = (
    ("max_length", "truncation side, head and tail", "All change the notes beyond a limit, and no others; one class, `max_length`."),
    ("padding", "mask ignored", "Both change notes by what they lack to the full length; one class, `padding`, where lengths are known."),
    ("few_documents_changed", "input_changed", "Another input in some notes *is* that some notes changed; by name up to a quarter of them, both from there to three quarters."),
    ("input_changed", "weights_changed", "Special tokens left out of every note, or segments of ones, act alike on every note, as other weights do."),
    ("weights_changed", "encoder_not_loaded", "One layer of the encoder that was not loaded, or the base model's encoder under a fine-tuned head, is both."),
    ("calibration_shift", "weights_changed", "Other biases of the head are both."),
    ("numerics", "any dense fault", "A dense fault that moves logits by less than rounding does on the same model: only digests, or a ladder, tell."),
)  # fmt: skip


def groups(held: pd.DataFrame) -> dict[str, pd.Series]:
    """Parts of the held-out rows, each judged on its own."""
    told, own = ~held["within"], held["held_out"] & ~held["recorded"]
    alone = held["tokens_known"] == 0
    return {
        "held-out families, logits alone": own & told & alone,
        "held-out families, logits and lengths": own & told & ~alone,
        "recorded on a GPU": held["recorded"] & told,
        "held-out, smaller than rounding": own & ~told,
    } | {
        f"family {name}, logits alone": own & told & alone & (held["family"] == name)
        for name in sorted(held[own]["family"].unique())
    }


def text(
    corpus: pd.DataFrame,
    learned: pd.DataFrame,
    held: pd.DataFrame,
    found: np.ndarray,
    boosted: np.ndarray,
    content: Mapping[str, Any],
    losses: Mapping[float, float],
) -> str:
    """The whole card."""
    parts = groups(held)
    scores = {name: score(held[mask], found[mask.to_numpy()]) for name, mask in parts.items() if mask.any()}
    ceiling = {
        name: score(held[mask], boosted[mask.to_numpy()]) for name, mask in parts.items() if mask.any()
    }
    main = next(iter(parts.values())).to_numpy()
    return "\n".join(
        [
            "# The cause model",
            "",
            "Written by `python -m simulation.fit`; every number below is measured by it. Probabilities that the diagnosis gives "
            "for what no exact match explains come from here.",
            "",
            "## Data",
            "",
            f"{len(corpus):,} cases of {corpus['model'].nunique()} models (`simulation/corpus.parquet`, made by `python -m "
            f"simulation.corpus`); {len(learned):,} rows of {learned['model'].nunique()} models were learned from, each case as it "
            "looks with note lengths and without. Never used in fitting, in choosing the penalty or the temperature: the "
            f"families {', '.join(f'`{name}`' for name in sorted(corpus[corpus['held_out']]['family'].unique()))}, and everything "
            "recorded in a GPU's own half precision or TF32. Rounding in the fit is emulated.",
            "",
            f"Penalty by cross-validation over models, C = {content['corpus']['penalty']:g} (log-loss "
            + ", ".join(f"{penalty:g}: {loss:.3f}" for penalty, loss in losses.items())
            + f"); temperature {content['temperature']:.2f} on models kept back. Corpus SHA-256 `{content['corpus']['sha256'][:16]}…`.",
            "",
            "| cause | learned from | held out |",
            "|---|---|---|",
            *(
                f"| `{cause}` | {(learned['truth'] == cause).sum():,} | {(held['truth'] == cause).sum():,} |"
                for cause in CAUSES
            ),
            "",
            "## Twins",
            "",
            "What nothing in the logits can tell apart; naming either is right, and where a row says so they are one class.",
            "",
            *(f"- `{one}` and {other if ' ' in other else f'`{other}`'}: {why}" for one, other, why in TWINS),
            "",
            "## How it does",
            "",
            "Causes count alike within a table, and models within a cause. *Boosted*: a boosted model of the same rows, the "
            "ceiling.",
            "",
            *_table(scores, ceiling),
            "",
            *_bars(scores),
            "",
            "## Calibration",
            "",
            "![How often the first cause is right, by its probability](cause-model.svg)",
            "",
            "| probability of the first | right | share of the cases |",
            "|---|---|---|",
            *(
                f"| {said:.2f} | {was:.2f} | {share:.2f} |"
                for said, was, share in _bins(held[main], found[main])
            ),
            "",
            "## What is called what",
            "",
            "Held-out families, logits alone: planted cause by row, first cause by column.",
            "",
            *_confusion(held[main], found[main]),
            "",
            "## Every time rounding came first for another fault",
            "",
            *_wrong(held, found, parts),
            "",
            "## Features",
            "",
            "| name | meaning | seen in fitting |",
            "|---|---|---|",
            *(
                f"| `{feature.name}` | {feature.meaning} | {basis['low']:.3g} to {basis['high']:.3g} |"
                for feature, basis in zip(FEATURES, content["bases"], strict=True)
            ),
            "",
        ]
    )


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


def _bars(scores: Mapping[str, Score]) -> list[str]:
    s = next(iter(scores.values()))
    checks = [
        (f"{what} ≥ {bar:.0%}", getattr(s, key) >= bar, f"{getattr(s, key):.1%}") for what, key, bar in BARS
    ]
    checks.append(
        (
            f"calibration error ≤ {MOST_CALIBRATION_ERROR}",
            s.calibration_error <= MOST_CALIBRATION_ERROR,
            f"{s.calibration_error:.3f}",
        )
    )
    share = s.numerics_for_another / max(s.of_others, 1)
    checks.append(
        (
            "`numerics` first for another fault ≤ 1 in 1,000",
            share <= MOST_NUMERICS,
            f"{s.numerics_for_another} of {s.of_others}",
        )
    )
    checks.append(
        (
            "another cause for precision: 0",
            s.another_for_numerics == 0,
            f"{s.another_for_numerics} of {s.of_numerics}",
        )
    )
    return ["| bar (held-out families, logits alone) | met | measured |", "|---|---|---|"] + [
        f"| {bar} | {'yes' if met else '**no**'} | {measured} |" for bar, met, measured in checks
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


def _wrong(held: pd.DataFrame, found: np.ndarray, parts: Mapping[str, pd.Series]) -> list[str]:
    told = ~held["within"].to_numpy()
    wrong = told & (_first(found) == "numerics") & ~_right(held, found)
    if not wrong.any():
        return ["None."]
    lines = [
        "| model | fault | on top | strength | part | size | rounding reaches |",
        "|---|---|---|---|---|---|---|",
    ]
    for _, row in held[wrong].iterrows():
        lines.append(
            f"| {row['model']} | {row['fault']} | {row['nuisance'] or '–'} | {row['strength']:g} | {row['part']} | {10 ** row['size']:.2g} "
            f"| {10 ** row['limit']:.2g} |"
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
