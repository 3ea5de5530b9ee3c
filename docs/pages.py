"""Pages and tables of the site, from rows of numbers, and the order of its tutorials."""

import contextlib
import csv
import functools
import json
import math
import re
from pathlib import Path

from matplotlib.text import Text

HERE = Path(__file__).parent
GENERATED = HERE / "_build" / "generated"
#: Columns whose intervals are shown, by a word of their names.
INTERVALS = {"gain", "fall", "rise", "less", "compression"}
#: Tutorials in the order in which they are best read.
TUTORIALS = (
    "first_nights", "read_a_hypnogram", "bring_your_own", "write_a_policy", "deadline_and_restart", "study_with_seeds",
    "nightly_forecaster", "year_of_flights",
)  # fmt: skip


def in_order(name):
    """Give the key by which a tutorial is sorted."""
    return TUTORIALS.index(Path(name).stem)


def result_of(name):
    """Give what a benchmark has written; if it has not, nothing, and the page says so."""
    path = HERE / "results" / f"{name}.json"
    if path.is_file():
        return json.loads(path.read_text())
    (GENERATED / f"{name}.rst").write_text("Not measured yet.\n")
    return None


def csv_rows(path):
    """Give the rows of a table that a benchmark has filled."""
    import lives

    return lives.read(path)


@contextlib.contextmanager
def unless_missing(*names):
    """Let the pages of these names say that their runs are not done, where they are not."""
    from daynight.errors import DataError

    try:
        yield
    except DataError:
        for name in names:
            (GENERATED / f"{name}.rst").write_text("The runs of this section are not done yet.\n")


def write_page(name, rows, exact, style=".4f"):
    """Write a table, and the page to include that shows it."""
    write_table(GENERATED / f"{name}.csv", rows, exact, style)
    (GENERATED / f"{name}.rst").write_text(f".. csv-table::\n   :file: {name}.csv\n   :header-rows: 1\n")


@functools.cache
def entries_of(store):
    """Give what is in a store; nothing if it is not there."""
    from daynight.study import Store

    folder = HERE / "results" / "study" / store
    return list(Store(folder)) if folder.is_dir() else []


def picture(name, figure, alt="", is_of_runs=True):
    """Write a figure, and give the lines that show it: none if nothing is drawn in it.

    Raises:
        RuntimeError: If some of its panels are blank, or it is of runs and does not say how many.
    """
    path = GENERATED / f"{name}.png"
    blank = [ax for ax in figure.axes if not ax.has_data()]
    if len(blank) == len(figure.axes):
        path.unlink(missing_ok=True)
        return ""
    if blank:
        raise RuntimeError(f"{len(blank)} of {len(figure.axes)} panels of {name}.png are blank: leave them out.")
    if is_of_runs and not any(re.search(r"\bn = \d", text.get_text()) for text in figure.findobj(Text)):
        raise RuntimeError(f"{name}.png does not say of how many runs it is: see counted in daynight/plots/style.py.")
    figure.savefig(path, dpi=160)
    text = f"   :alt: {alt}\n" if alt else ""
    return f".. image:: /_build/generated/{name}.png\n   :width: 100%\n{text}"


def write_section(name, make, exact, style=".4f"):
    """Draw a figure and write a table, or say that their runs are not done."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path, table = GENERATED / f"{name}.rst", GENERATED / f"{name}_table.rst"
    with unless_missing(name, f"{name}_table"):
        figure, rows = make()
        write_page(name, rows, exact, style)
        table.write_text(path.read_text())
        path.write_text(f"{picture(name, figure)}\n{table.read_text()}")
    plt.close("all")


def write_table(path, rows, exact, style=".4f"):
    """Write rows as CSV. Standard errors stand behind means, and intervals behind what is gained."""
    names = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    columns = [name for name in names if not name.endswith((" low", " high", " standard error"))]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([column.replace("mean_accuracy", "accuracy") for column in columns])
        writer.writerows([cell(row, name, exact, style_of(name, style)) for name in columns] for row in rows)


def style_of(name, style):
    """Give the digits of a column: those that were published, a factor's, or the table's own."""
    return {"published": "g", "compression": ".2f"}.get(name, style)


def cell(row, name, exact, style):
    """Give what stands in a cell: a number, with its standard error or its interval, if it has one."""
    value, error = row.get(name, math.nan), row.get(f"{name} standard error", math.nan)
    if not math.isnan(error):
        return f"{shown(value, exact, style)} ± {error:{style}}"
    low, high = interval(row, name)
    style = finer(style, low, high)
    return shown(value, exact, style) + (f" ({low:{style}} to {high:{style}})" if low < high else "")


def interval(row, name):
    """Give the ends of a number's interval; NaN if it is not a gain."""
    if not INTERVALS.intersection(name.split()):
        return math.nan, math.nan
    base = name if f"{name} low" in row else name.split()[0]
    return row.get(f"{base} low", math.nan), row.get(f"{base} high", math.nan)


def with_interval(mean, low, high, style=".2f"):
    """Show a difference with its confidence interval."""
    style = finer(style, low, high)
    return f"{mean:{style}} ({low:{style}} to {high:{style}})"


def finer(style, *ends):
    """Give a style with up to two more digits, if an end of an interval would be shown as zero and is not."""
    for _ in range(2):
        if any(float(format(end, style)) == 0 != end for end in ends):
            style = re.sub(r"\d+", lambda digits: str(int(digits[0]) + 1), style)
    return style


def shown(value, exact, style):
    """Show a value: a pruning as it is, another number with few digits, and nothing for NaN."""
    if not isinstance(value, float) or value in exact:
        return str(value)
    return "" if math.isnan(value) else format(value, style)


def write_layout():
    """Draw the packages, and write the table of what is in each, from the list that the tests hold the code to."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from layout import LAYERS

    figure, ax = plt.subplots(figsize=(9.0, 0.52 * len(LAYERS)), layout="constrained")
    for row, (names, _) in enumerate(LAYERS):
        width = 1 / len(names)
        for place, name in enumerate(names):
            ax.add_patch(
                plt.Rectangle((place * width + 0.004, row + 0.08), width - 0.008, 0.84, fc="#e9ecf3", ec="#3a78b5")
            )
            ax.text((place + 0.5) * width, row + 0.5, name, ha="center", va="center", family="monospace")
    ax.annotate("", (-0.02, 0.1), (-0.02, len(LAYERS) - 0.1), arrowprops={"arrowstyle": "->", "color": "#555555"})
    ax.text(-0.035, len(LAYERS) / 2, "imports", rotation=90, ha="center", va="center", color="#555555")
    ax.set(xlim=(-0.06, 1.0), ylim=(0, len(LAYERS)))
    ax.set_axis_off()
    picture("layout", figure, is_of_runs=False)
    plt.close(figure)
    rows = [(", ".join(f"``{name}``" for name in names), text) for names, text in reversed(LAYERS)]
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: 30 70",
        "",
        "   * - packages and modules",
        "     - what is there",
    ]
    for names, text in rows:
        lines += [f"   * - {names}", f"     - {text}"]
    (GENERATED / "layout.rst").write_text("\n".join(lines) + "\n")
