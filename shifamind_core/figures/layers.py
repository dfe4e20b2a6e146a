"""Layer profiles, drawn: how far settings are apart after each module, from the embeddings to the logits."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from shifamind_core.analysis.layer_divergence import CLEAR_FACTOR
from shifamind_core.figures.style import GUIDE, colour, plain, styled

Measure = Literal["relative_error", "excess"]
TITLES: dict[Measure, str] = {
    "relative_error": "Relative error of the output",
    "excess": "Own error, in units of rounding",
}
_LEVEL_PIXELS = 68  # for the names of the levels, beside the plot
_INPUT = re.compile(r"\w+\.embeddings\.")  # of whatever encoder
_BLOCK = re.compile(r"\blayers?\.(\d+)\.|fusion_modules\.(\d+)\.")

Profile = Mapping[str, Any]


def layers_figure(
    profiles: Sequence[Profile], measure: Measure = "relative_error", chosen: str | None = None
) -> go.Figure:
    """One line a profile against depth, on a logarithmic axis; the first divergence of each is marked.

    Parameters
    ----------
    profiles : list of JSON objects
        As `layer_divergence.profile_json` makes them, of the same model. Of their modules the innermost ones and attention
        are drawn (`main_line`): a block repeats what its last module says.
    measure : str
        `relative_error`, or `excess`: what the module itself adds over what rounding explains there.
    chosen : str, optional
        A module's name, which a vertical line points at.

    Notes
    -----
    A logarithmic axis has no zero: a module without any error leaves a gap in its line. Each point carries its module's
    name as `customdata`.
    """
    names = depth_names(profiles)
    place = {name: index for index, name in enumerate(names)}
    figure = go.Figure()
    for position, profile in enumerate(profiles):
        layers = {layer["name"]: layer for layer in profile["layers"]}
        values = np.array([_positive(layers.get(name, {}).get(measure)) for name in names], np.float32)
        label, shade = plain(profile["policy"]), colour(position)
        figure.add_scatter(
            x=np.arange(len(names), dtype=np.int16),
            y=values,
            name=label,
            mode="lines+markers",
            line={"color": shade, "width": 2},
            marker={"color": shade, "size": 5},
            # A click selects a point; without this all others would fade.
            unselected={"marker": {"opacity": 1}},
            customdata=[plain(name) for name in names],
            hovertemplate="%{customdata}<br>%{y:.2e}",
        )
        first = profile.get("first_divergence")
        if first in place:
            _mark_divergence(figure, label, shade, place[first], values[place[first]], plain(first))
    if measure == "excess":
        _mark_level(figure, 1.0, "rounding")
        _mark_level(figure, CLEAR_FACTOR, "parted")
    if chosen in place:
        figure.add_vline(x=place[chosen], line={"color": GUIDE, "width": 1.5})
    starts = [
        index for index, name in enumerate(names) if not index or block_of(name) != block_of(names[index - 1])
    ]
    figure.update_xaxes(
        title_text="Depth: encoder layers, module after module",
        tickvals=np.array(starts, np.int16),
        ticktext=[plain(block_of(names[index])) for index in starts],
        tickangle=0,
        range=[-1, len(names)],
    )
    figure.update_yaxes(title_text=TITLES[measure], type="log", exponentformat="power", dtick=1)
    beside = _LEVEL_PIXELS if measure == "excess" else 10
    return styled(figure, height=440, margin={"l": 10, "r": beside, "t": 44, "b": 10})


def depth_names(profiles: Sequence[Profile]) -> list[str]:
    """The modules on the horizontal axis, in the order in which they finish; the first divergences are among them.

    >>> layer = {"name": "head", "innermost": True}
    >>> depth_names([{"layers": [{"name": "a", "innermost": False}, layer]}])
    ['head']
    """
    return list(
        dict.fromkeys(
            layer["name"]
            for profile in profiles
            for layer in profile["layers"]
            if layer["innermost"] or layer["name"] == profile.get("first_divergence")
        )
    )


def block_of(name: str) -> str:
    """The part of the model that a module belongs to, short enough for an axis: an encoder layer is its number.

    >>> [block_of(f"base_model.{name}") for name in ("embeddings.LayerNorm", "encoder.layer.3.output.dense", "pooler.dense")]
    ['input', '3', 'heads']
    >>> block_of("fusion_modules.9.query"), block_of("diagnosis_head")
    ('fusion 9', 'heads')
    >>> block_of("distilbert.transformer.layer.2.ffn.lin1"), block_of("roberta.embeddings.LayerNorm"), block_of("classifier.dense")
    ('2', 'input', 'heads')
    """
    if _INPUT.match(name):
        return "input"
    found = _BLOCK.search(name)
    return "heads" if found is None else found[1] or f"fusion {found[2]}"


def _positive(value: float | None) -> float:
    """What a logarithmic axis can show."""
    return value if value is not None and value > 0 else float("nan")


def _mark_divergence(
    figure: go.Figure, label: str, shade: str, at: int, value: np.floating[Any], name: str
) -> None:
    """A ring at the first module that parts; at 1 where its value is not finite."""
    drawn = bool(np.isfinite(value))
    figure.add_scatter(
        x=np.array([at], np.int16),
        y=np.array([value if drawn else 1.0], np.float32),
        name=f"{label}: parts first at {name}" + ("" if drawn else " (NaN or infinity)"),
        mode="markers",
        marker={"color": shade, "size": 15, "symbol": "circle-open", "line": {"width": 3}},
        unselected={"marker": {"opacity": 1}},
        customdata=[name],
        hovertemplate="%{customdata}<extra>parts first</extra>",
    )


def _mark_level(figure: go.Figure, value: float, text: str) -> None:
    figure.add_hline(y=value, line={"color": GUIDE, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=1,
        xref="paper",
        xanchor="left",
        y=float(np.log10(value)),
        yanchor="middle",
        text=text,
        showarrow=False,
    )
