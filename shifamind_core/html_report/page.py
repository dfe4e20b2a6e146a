"""One HTML page without anything from elsewhere: text, tables, and figures with the one copy of plotly.js that draws them.

What a file says (names of runs, codes, settings) is escaped wherever it stands, and the page's own policy lets no request
leave it.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1f2328; --muted: #57606a; --line: #d0d7de; --raised: #f6f8fa; --link: #0550ae; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0e1117; --text: #e6edf3; --muted: #9da7b3; --line: #3d444d; --raised: #161b22; --link: #79b8ff; }
}
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; margin: 0; }
p { margin: .25rem 0 .75rem; } .muted, caption, figcaption, footer { color: var(--muted); font-size: .875rem; }
.verdict { border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
.verdict > p:first-child { font-size: 1.25rem; font-weight: 600; margin-bottom: .25rem; }
.badge { border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .6rem; font-size: .8rem; font-weight: 500; background: var(--raised); white-space: nowrap; }
ol.steps { list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; padding: 0; margin: 1rem 0 0; }
ol.steps strong { display: block; font-size: 1.4rem; font-weight: 600; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; margin: .25rem 0 1rem; }
caption { text-align: left; padding-bottom: .25rem; } th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1rem 0 2rem; } .buttons { display: flex; gap: .5rem; margin: .25rem 0; }
button { font: inherit; font-size: .8rem; color: var(--link); background: var(--raised); border: 1px solid var(--line); border-radius: .4rem; padding: .2rem .7rem; cursor: pointer; }
button:focus-visible, summary:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
details { margin: .5rem 0; } summary { cursor: pointer; } li { margin: .2rem 0; }
@media print { .buttons { display: none; } body { max-width: none; } figure, .verdict, tr { break-inside: avoid; } }
"""
# Draws every figure in the colours of the page, anew when the reader changes between light and dark, and saves it on demand.
SCRIPT = """
const parts = [...document.querySelectorAll('figure')];
const dark = window.matchMedia('(prefers-color-scheme: dark)');
function colours() {
  const style = getComputedStyle(document.documentElement);
  return name => style.getPropertyValue(name).trim();
}
function layoutOf(told) {
  const of = colours(), layout = {...told, font: {...told.font, color: of('--text')}};
  for (const name of Object.keys(layout)) if (/^[xy]axis/.test(name))
    layout[name] = {...layout[name], gridcolor: of('--line'), linecolor: of('--line'), zerolinecolor: of('--line')};
  layout.paper_bgcolor = layout.plot_bgcolor = 'rgba(0, 0, 0, 0)';
  return layout;
}
for (const part of parts) {
  const told = JSON.parse(part.querySelector('script').textContent), place = part.querySelector('.plot');
  const draw = () => Plotly.react(place, told.data, layoutOf(told.layout), {displaylogo: false, displayModeBar: false, responsive: true});
  draw();
  dark.addEventListener('change', draw);
  for (const button of part.querySelectorAll('button')) button.addEventListener('click', () => {
    const format = button.dataset.format, ground = colours()('--ground'), layout = layoutOf(told.layout);
    const size = {width: place.clientWidth, height: place.clientHeight, scale: format === 'png' ? 3 : 1};
    Plotly.downloadImage({data: told.data, layout: {...layout, paper_bgcolor: ground}}, {format, filename: part.id, ...size});
  });
}
"""


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure with the name under which it is saved, what it shows, and how to read it."""

    figure: go.Figure
    name: str
    description: str
    caption: str = ""


def page(title: str, *parts: str) -> str:
    """The whole document; `parts` are HTML already."""
    body = "\n".join(parts)
    scripts = f"<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>" if "<figure" in body else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>\n'
        f"</head>\n<body>\n{body}\n{scripts}\n</body>\n</html>\n"
    )


def figure_page(figure: Figure) -> str:
    """A document with this figure alone."""
    return page(figure.name, f"<main>{figure_part(figure)}</main>")


def figure_part(one: Figure) -> str:
    """The figure with its two buttons and its caption."""
    drawn = json.loads(one.figure.to_json() or "{}")
    drawn["layout"].pop("template", None)
    content = json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c")
    height = int(drawn["layout"].get("height", 450))
    buttons = "".join(
        f'<button type="button" data-format="{kind}" aria-label="Save {escape(one.name)} as {kind.upper()}">Save as {kind.upper()}</button>'
        for kind in ("svg", "png")
    )
    return (
        f'<figure id="{escape(one.name)}"><div class="plot" role="img" aria-label="{escape(one.description)}" style="height:{height}px"></div>'
        f'<script type="application/json">{content}</script><div class="buttons">{buttons}</div><figcaption>{escape(one.caption)}</figcaption></figure>'
    )


def table_part(table: pd.DataFrame, caption: str) -> str:
    """A table with its caption; what is not known is an empty cell."""
    numbers = {name for name in table.columns if pd.api.types.is_numeric_dtype(table[name])}

    def cell(tag: str, name: object, value: object) -> str:
        kind = ' class="number"' if name in numbers else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{kind}{scope}>{escape(_text(value))}</{tag}>"

    head = "".join(cell("th", name, name) for name in table.columns)
    rows = "\n".join(
        f"<tr>{''.join(cell('td', name, value) for name, value in zip(table.columns, row, strict=True))}</tr>"
        for row in table.itertuples(index=False)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def list_part(lines: Iterable[str]) -> str:
    """Lines of text as a list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def folded(summary: str, *parts: str) -> str:
    """Parts that are there for who opens them."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"


def steps_part(steps: Sequence[tuple[str, str, str]]) -> str:
    """Numbered steps: a title, a number, a line."""
    items = "".join(
        f"<li><h3>{number}. {escape(title)}</h3><strong>{escape(value)}</strong><span class='muted'>{escape(line)}</span></li>"
        for number, (title, value, line) in enumerate(steps, 1)
    )
    return f'<ol class="steps">{items}</ol>'


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float) and math.isfinite(value):
        if value == round(value) and abs(value) < 1e5:
            return f"{value:,.0f}"
        return f"{value:.3g}" if not 1e-3 <= abs(value) < 1e5 else f"{value:.4f}"
    return " ".join(str(value).split())[:600]
