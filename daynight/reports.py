"""Reports: figures and tables in one self-contained HTML file, which loads nothing from the network."""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from daynight import plots
from daynight._version import __version__
from daynight.errors import DataError
from daynight.history import History, Record
from daynight.support import atomic

#: Begins the text of a number, or of an interval of numbers.
_NUMBER = re.compile(r"[-\N{MINUS SIGN}+]?\d")
_NAME = ' class="name"'
#: A report draws each night of a run that has at most this many nights; otherwise it draws no night.
N_NIGHTS = 12
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1b1b3a; --page: #fff; --line: #d5d8e2; --soft: #5b6072; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e9ecf3; --page: #15161d; --line: #3a3d4c; --soft: #a3a8b8; }} }}
body {{ margin: 0 auto; max-width: 76rem; padding: 1.5rem 1rem 3rem; color: var(--ink); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; }}
h1 {{ overflow-wrap: anywhere; font-size: 1.6rem; margin: 0 0 .3rem; }}
h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .6rem; }}
p {{ color: var(--soft); margin: .2rem 0; max-width: 62rem; }}
figure {{ margin: 0; }}
figure img {{ max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }}
.side {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
th, td {{ padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }}
th {{ font-weight: 600; white-space: normal; vertical-align: bottom; }}
td.text {{ white-space: normal; overflow-wrap: anywhere; text-align: left; min-width: 11rem; max-width: 20rem; }}
.wide td.text {{ min-width: 20rem; max-width: 40rem; }}
th.name, td.name {{ text-align: left; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
@media print {{ body {{ max-width: none; padding: 0; color: #000; background: #fff; }} .scroll {{ overflow: visible; }}
  table {{ font-size: .62rem; }} th, td {{ padding: .1rem .25rem; }} td.text {{ min-width: 6rem; }}
  section, figure, tr {{ break-inside: avoid; }} }}
footer {{ margin-top: 3rem; color: var(--soft); font-size: .85rem; }}
</style>
</head>
<body>
{body}
<footer>daynight {version}</footer>
</body>
</html>
"""


def of_run(history: History, path: str | os.PathLike[str], title: str = "A run", about: str = "") -> None:
    """Write a report of a run.

    Args:
        history: A history with at least one finished day.
        path: The file, such as ``"run.html"``.
        title: Title of the page.
        about: A line about the run, below the title.

    Raises:
        DataError: If no day is finished.
        OutputError: If the file cannot be written.
    """
    days = history.select(kind="day")
    if not days:
        raise DataError("the history holds no finished day yet, so there is nothing to report.")
    seconds = sum(record.elapsed_seconds or 0.0 for record in days)
    n_steps, steps = days[-1].step, ""
    if days[0].day:  # the agent had lived before
        n_own = sum((record.wake_steps or 0) + (record.night_steps or 0) for record in days)
        n_steps, steps = n_own, f" of {n_steps:,} in the agent's life"
    facts = [
        _count(len(days), "day"), _count(n_steps, "optimizer step") + steps, f"{seconds:,.1f} s of wakes and nights",
        _last_scores(history),
    ]  # fmt: skip
    if days[-1].free is not None and days[-1].capacity is not None:
        facts.append(f"{days[-1].free:,} of {days[-1].capacity:,} weights free")
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(' · '.join(facts))}</p>"]
    parts += [f"<p>{html.escape(text)}</p>" for text in (_verdicts(days), about) if text]
    if history.select(kind="epoch"):
        parts += ["<h2>Hypnogram</h2>", _picture(plots.hypnogram(history)[0], "phases and course of the days")]
    if len(days) > 1:  # of a single day, all numbers are in the text and the table
        pictures = _scores(history)
        heading = _headline(history.metric) if pictures else "Weights"
        if days[0].capacity is not None:
            pictures.append(_picture(plots.capacity(history), "owned and free weights at each dawn"))
        parts += [f"<h2>{heading}</h2>", _side(pictures)] if pictures else []
    parts += ["<h2>Days</h2>", _table(_days(history))]
    if judged := [record for record in days if record.accepted is not None]:
        about = "Each new version was compared with the one before it, on the same held-out examples."
        parts += ["<h2>Gate</h2>", f"<p>{about}</p>", f'<div class="wide">{_table(list(map(_judged, judged)))}</div>']
    if trials := _trials(history):
        about = "What a task may see of earlier ones was tried before its wake, and measured on its validation data."
        parts += ["<h2>Trials</h2>", f"<p>{about}</p>", _table(trials)]
    nights = [record.day for record in days if history.select(kind="prune", day=record.day)]
    if 0 < len(nights) <= N_NIGHTS:
        pictures = [_descent(history, day) for day in nights]
        parts += ["<h2>Nights</h2>", "<p>Each night as a path of loss against density.</p>", _side(pictures)]
    _write(path, title, parts)


def of_rows(
    rows: Sequence[Mapping[str, Any]],
    pictures: Iterable[tuple[Axes, str]],
    path: str | os.PathLike[str],
    title: str,
    facts: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write a report with a table and figures.

    Args:
        rows: Rows of the table, all with the same columns.
        pictures: Pairs of axes and a heading. The figures of the axes are closed.
        path: The file.
        title: Title of the page.
        facts: Short texts for the line below the title.
        notes: Sentences below it, a paragraph each.

    Raises:
        OutputError: If the file cannot be written.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(' · '.join(facts))}</p>"]
    parts += [f"<p>{html.escape(note)}</p>" for note in notes]
    figures = [f"<section><h2>{html.escape(what)}</h2>{_picture(ax, what)}</section>" for ax, what in pictures]
    parts += [_side(figures)] if figures else []
    _write(path, title, [*parts, "<h2>All values</h2>", _table(rows)])


def _last_scores(history: History) -> str:
    """Return the last scores of the tasks that no other has succeeded, in words that say when they were measured."""
    accuracy = history.accuracy
    tested = np.isfinite(accuracy)
    tested[:, [task for task in history.successors if task < len(tested)]] = False
    last = np.array([column[known][-1] for column, known in zip(accuracy.T, tested.T, strict=True) if known.any()])
    if not last.size:
        return "not tested at dawn"
    is_whole = len(tested) > history.select(kind="day")[-1].day and tested[-1].sum() == len(last)
    if len(last) == 1:
        when = "at the last dawn" if is_whole else f"at the dawn of day {tested.any(axis=1).nonzero()[0][-1]}"
        return f"{history.metric} {when} {last[0]:.4f}"
    when = "at the last dawn" if is_whole else f"of {len(last):,} tasks, each when last tested,"
    return f"mean {history.metric} {when} {last.mean():.4f}"


def _headline(name: str) -> str:
    return f"{name[:1].upper()}{name[1:]}"


def _verdict(record: Record) -> str | None:
    return None if record.accepted is None else "accepted" if record.accepted else "refused"


def _verdicts(days: Sequence[Record]) -> str:
    """Return in words what a gate has decided, above all of the last day; empty if there was none."""
    judged = [record for record in days if record.accepted is not None]
    if not judged:
        return ""
    last, n = judged[-1], sum(record.accepted or 0 for record in judged)
    because = f": {last.gate_reason}" if last.gate_reason else ""
    said = f"The new version of day {last.day} was {_verdict(last)}{because}."
    if len(judged) > 1:
        said = f"Of {len(judged):,} new versions, the gate accepted {n:,} and refused {len(judged) - n:,}. {said}"
    return said if last.accepted else f"{said} The version before it stays."


def _scores(history: History) -> list[str]:
    """Return figures of the scores of several days. A single score is not drawn: it stands below the title."""
    found = list[str]()
    if history.select(kind="evaluation", phase="before"):
        found.append(_picture(plots.versions(history), f"{history.metric} of the versions of a task, day by day"))
    n_tested = np.isfinite(history.accuracy).sum(axis=1)
    if n_tested.max(initial=0) > 1 or (n_tested.sum() > 1 and not found):
        found.append(_picture(plots.accuracy(history), f"{history.metric} of each task at each dawn"))
    return found


def _days(history: History) -> list[dict[str, Any]]:
    rows = list[dict[str, Any]]()
    has_gate = any(record.accepted is not None for record in history.select(kind="day"))
    for record in history.select(kind="day"):
        day = record.day
        scores = {
            phase: [found.score for found in history.select(kind="evaluation", day=day, task=day, phase=phase)]
            for phase in ("dusk", "dawn")
        }
        rows.append({
            "day": day, "training examples": record.n_train, "wake steps": record.wake_steps,
            "night steps": record.night_steps, "unspent": record.unspent_steps,
            "cycles": len({found.cycle for found in history.select(kind="prune", day=day)}),
            "owned weights": record.owned, "free weights": record.free, "private numbers": record.private,
            f"{history.metric} at dusk": scores["dusk"][-1] if scores["dusk"] else None,
            f"{history.metric} at dawn": scores["dawn"][-1] if scores["dawn"] else None,
            "seconds": record.elapsed_seconds,
        } | ({"gate": _verdict(record)} if has_gate else {}))  # fmt: skip
    return rows


def _judged(record: Record) -> dict[str, Any]:
    """Return what a gate has decided on a day, and by which difference between the new version and the old one."""
    low, high = record.gate_low, record.gate_high
    return {
        "day": record.day,
        "gate": _verdict(record),
        "difference": record.gate_difference,
        "interval": None if low is None or high is None else f"{low:,.4g} to {high:,.4g}",
        "held-out examples": record.gate_examples,
        "because": record.gate_reason,
    }


def _trials(history: History) -> list[dict[str, Any]]:
    chosen = {record.day: record.sees for record in history.select(kind="day")}
    return [
        {"day": record.day, "sees": record.sees, "steps": record.trial_steps, "loss": record.validation_loss,
         history.metric: record.validation_score, "chosen": "yes" if record.sees == chosen.get(record.day) else ""}
        for record in history.select(kind="trial")
    ]  # fmt: skip


def _descent(history: History, day: int) -> str:
    ax = plots.descent(history, day)
    ax.set_title(f"night {day}", fontsize="medium")
    return _picture(ax, f"loss against density in night {day}")


def _picture(ax: Axes, what: str) -> str:
    """Return a figure as an image within the page, and close it."""
    figure, content = ax.get_figure(root=True), io.BytesIO()
    assert figure is not None
    with mpl.rc_context({"svg.hashsalt": "daynight"}):  # equal figures are equal files
        figure.savefig(content, format="svg", metadata={"Date": None})
    plt.close(figure)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<figure><img alt="{html.escape(what)}" src="data:image/svg+xml;base64,{data}"></figure>'


def _side(figures: Iterable[str]) -> str:
    return f'<div class="side">{"".join(figures)}</div>'


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>No rows.</p>"
    texts = {name for row in rows for name, value in row.items() if _is_text(value)}
    head = "".join(f"<th{_NAME * (name in texts)}>{html.escape(str(name))}</th>" for name in rows[0])
    body = "".join(f"<tr>{''.join(_cell(row[name], name in texts) for name in rows[0])}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_text(value: Any) -> bool:
    """Return whether a cell has words, and not a number or an interval of numbers."""
    return isinstance(value, str) and bool(value) and not _NUMBER.match(value)


def _cell(value: Any, is_text: bool) -> str:
    """Return a cell; long text may be broken into lines."""
    if isinstance(value, str) and len(value) > 24:
        broken = re.sub(r"\((?!\))", "(<wbr>", _shown(value))
        return f'<td class="text">{broken}</td>'
    return f"<td{_NAME * is_text}>{_shown(value)}</td>"


def _shown(value: Any) -> str:
    if value is None:
        return "&ndash;"
    if isinstance(value, float):
        return "&ndash;" if np.isnan(value) else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else html.escape(str(value))


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _write(path: str | os.PathLike[str], title: str, parts: Iterable[str]) -> None:
    content = _PAGE.format(title=html.escape(title), body="\n".join(parts), version=__version__)
    with atomic.replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
