"""Tables and figures of which weights tasks own: the gap, criteria, permuted MNIST, and other libraries."""

import itertools
import json
from collections import defaultdict
from statistics import mean

from pages import GENERATED, HERE, csv_rows, entries_of, picture, with_interval, write_page

#: Winning SubNetworks (ICML 2022), tables 1 and 2: accuracy on permuted MNIST and capacity, in percent.
PUBLISHED = {
    "WSN": [(94.84, 19.9), (96.14, 40.4), (96.41, 77.7)], "PackNet": [(96.37, 96.4)], "multitask": [(96.70, 100.0)],
}  # fmt: skip
#: Markers and colours of the designs on permuted MNIST, which differ in grey and for the colour-blind.
DESIGN_STYLES = (
    {"color": "#c8791b", "marker": "v"}, {"color": "#7fb3a0", "marker": "s"}, {"color": "#3a78b5", "marker": "o"},
    {"color": "#1b1b3a", "marker": "x", "mew": 1.8}, {"color": "#8a5a9e", "marker": "P"},
    {"color": "#2f7d5b", "marker": "<"}, {"color": "#8a8a8a", "marker": ">"},
)  # fmt: skip
#: The uniform cycles that the tournament chose at each p.
UNIFORM = "uniform 72"
#: What the figures of the gap show, for those who do not see them.
GAP_ALTS = {
    "compression": "Errors over owned weights for three methods, with a panel for each kind of nights.",
    "units": "Silent units at dusk of both layers, and weights in vain, over the days, for PackNet with both restarts.",
}


def write_gap():
    """Draw the figures and write the tables of the gap at equal nights."""
    import gap_tables

    found = gap_tables.read()
    (GENERATED / "gap_shown.rst").write_text("\n".join(gap_tables.shown(found)) + "\n")
    for name, function in gap_tables.TABLES.items():
        rows = function(found)
        if rows:
            write_page(f"gap_{name}", rows, gap_tables.PRUNINGS)
        else:
            (GENERATED / f"gap_{name}.rst").write_text("Not measured yet.\n")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for name, function in gap_tables.FIGURES.items():
        shown = picture(f"gap_{name}", function(found), GAP_ALTS[name])
        (GENERATED / f"gap_{name}_figure.rst").write_text(shown)
    plt.close("all")


def write_old_tasks():
    """Write what the hardest old task gains if the weights that it sees move again, from a row for each life."""
    from daynight.study.statistics import paired

    found = csv_rows(HERE / "results" / "old_tasks_gain.csv")
    before, after = ({int(row["seed"]): 100 * float(row[name]) for row in found} for name in ("before", "after"))
    gain = paired(after, before)
    rows = [
        {"seed": row["seed"], "task": row["task"], "before": before[int(row["seed"])], "after": after[int(row["seed"])],
         "gain": after[int(row["seed"])] - before[int(row["seed"])]}
        for row in found
    ]  # fmt: skip
    write_page("old_tasks", rows, (), ".2f")
    (GENERATED / "old_tasks_gain.rst").write_text(
        f"The mean gain of the task is {gain.mean:.2f} percentage points, with a 95 % interval of {gain.low:.2f} to "
        f"{gain.high:.2f}.\n"
    )


def write_criteria():
    """Write the table of criteria on streams of MNIST, from a row for each life, and runs of the study by magnitude."""
    from daynight.study.statistics import paired, summarize

    groups, rows = criteria(), []
    lived = {kind[:-1] for kind in groups if kind[-1] != "magnitude"}
    for kind, errors in sorted(groups.items(), key=lambda group: (group[0][:-1], summarize(group[1].values()).mean)):
        if kind[:-1] not in lived:
            continue
        on, stream, p, nights, epochs, criterion = kind
        error, usual = summarize(errors.values()), groups.get((*kind[:-1], "magnitude"), {})
        less = paired(usual, errors) if usual is not errors and len(set(usual) & set(errors)) > 1 else None
        rows.append({
            "scored on": "held-out images" if on == "validation" else "test images", "stream": stream, "p": p,
            "nights": nights, "epochs": epochs, "criterion": criterion, "seeds": len(errors),
            "error, %": f"{error.mean:.2f}",
            "95 %": "" if len(errors) < 2 else f"{error.low:.2f} to {error.high:.2f}",
            "less than by magnitude": "" if less is None else with_interval(less.mean, less.low, less.high),
        })  # fmt: skip
    write_page("criteria", rows, ())
    write_page("criteria_simpler", beside_simpler(groups), ())


def criteria():
    """Give errors in percent by seed, by images, stream, p, nights, epochs and criterion."""
    import daynight as dn
    from daynight.study import methods
    from daynight.study.paper import setups
    from daynight.study.tournament import tournament

    groups = defaultdict(dict)
    nights = {"one": dn.UniformCycles(1), UNIFORM: dn.UniformCycles(72), "recommended": dn.recommended_policy()}
    for stream, setup in tournament.streams().items():
        fetch, seeds = setups.reading(entries_of(stream)), tournament.REPORTING[: setup.n_cycle_seeds]
        for p, (name, policy) in itertools.product(setup.prunings, nights.items()):
            runs = fetch(methods.packnet, seeds, **setup.choices([p], policy=policy))
            errors = {seed: 100 * (1 - score) for seed, score in runs.values("mean_accuracy").items()}
            groups["test", stream, f"{p:g}", name, f"{setup.budget:g}", "magnitude"] = errors
    for row in csv_rows(HERE / "results" / "criteria.csv"):
        kind = tuple(row[name] for name in ("on", "stream", "p", "nights", "epochs"))
        criterion = row["criterion"] + (", shares by need" if row["share"] == "need" else "")
        groups[(*kind, criterion)][int(row["seed"])] = float(row["error"])
    return dict(groups)


def beside_simpler(groups):
    """Give rows of the recommended policy by `output_change` beside simpler nights by magnitude, on test images."""
    from daynight.study.statistics import paired, summarize

    rows = []
    for (on, stream, p, nights, epochs, criterion), errors in sorted(groups.items()):
        if (on, nights) != ("test", "recommended") or not criterion.startswith("output_change") or len(errors) < 2:
            continue
        row = {"stream": stream, "p": p, "shares": "by need" if criterion.endswith("need") else "equal",
               "seeds": len(errors), "error, %": f"{summarize(errors.values()).mean:.2f}"}  # fmt: skip
        for title, way in (("one prune", "one"), ("72 uniform cycles", UNIFORM), ("recommended", "recommended")):
            simpler = groups.get((on, stream, p, way, epochs, "magnitude"), {})
            shared = {seed: error for seed, error in errors.items() if seed in simpler}
            less = paired(simpler, shared) if len(shared) > 1 else None
            row[f"less than {title}"] = "" if less is None else with_interval(less.mean, less.low, less.high)
        rows.append(row)
    return rows


def write_pmnist():
    """Draw accuracy over capacity on permuted MNIST and write its tables, from a row for each run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from daynight.plots.style import counted
    from daynight.study.statistics import summarize

    groups, rows, points = defaultdict(list), [], defaultdict(list)
    for row in csv_rows(HERE / "results" / "pmnist.csv"):
        if row["on"] == "test" and row["tasks"] == "10":
            groups[float(row["free"]), row["design"]].append(row)
    for (_, design), found in sorted(groups.items(), reverse=True):
        accuracy = summarize(float(row["accuracy"]) for row in found)
        parts = {name: 100 * mean(float(row[name]) for row in found) for name in ("capacity", "owned", "private")}
        by_task = [mean(scores) for scores in zip(*(json.loads(row["by_task"]) for row in found), strict=True)]
        points[design].append((parts["capacity"], accuracy))
        rows.append({
            "design": design, "seeds": len(found), "capacity, %": f"{parts['capacity']:.1f}",
            "of it masks, %": f"{parts['capacity'] - parts['owned']:.1f}", "private, %": f"{parts['private']:.1f}",
            "accuracy": f"{accuracy.mean:.2f}",
            "95 %": "" if len(found) < 2 else f"{accuracy.low:.2f} to {accuracy.high:.2f}",
            "first task": f"{by_task[0]:.2f}", "last task": f"{by_task[-1]:.2f}",
        })  # fmt: skip
    write_page("pmnist", rows, ())
    chosen = defaultdict(list)
    for row in csv_rows(HERE / "results" / "pmnist.csv"):
        if row["on"] == "validation":
            chosen[row["design"]].append(row)
    rows = [
        {"design": design} | {f"seed {row['seed']}": f"{float(row['accuracy']):.2f}" for row in found}
        for design, found in chosen.items()
    ]
    write_page("pmnist_validation", rows, ())
    figure, ax = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    for (design, found), style in zip(points.items(), DESIGN_STYLES, strict=False):
        x, y = zip(*found, strict=True)
        ax.plot(x, [each.mean for each in y], ms=6, lw=1.2, label=design, **style)
        several = [(at, each) for at, each in found if each.n > 1]  # a single run has no interval
        ax.errorbar(
            [at for at, _ in several], [each.mean for _, each in several],
            [each.high - each.mean for _, each in several], ls="", capsize=3, lw=1.2, color=style["color"],
        )  # fmt: skip
    for (name, values), marker in zip(PUBLISHED.items(), "s^*", strict=True):
        y, x = zip(*values, strict=True)
        ax.plot(x, y, marker, color="0.45", mfc="white", ms=7, label=f"{name}, as published")
    ax.set_xlabel("capacity: owned weights and coded masks, % of all maskable weights")
    ax.set_ylabel("accuracy, %")
    counts = [each.n for found in points.values() for _, each in found]
    ax.set_title(f"{counted(counts, '95 % intervals')}, but for n = 1", loc="right", fontsize="small", color="0.3")
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small", loc="lower right")
    picture("pmnist", figure)
    plt.close(figure)


def write_field():
    """Write the table of other libraries on split MNIST, from a row for each run."""
    from daynight.study.statistics import summarize

    found, rows = defaultdict(list), []
    for row in csv_rows(HERE / "results" / "field.csv"):
        scores = [mean(map(float, row[name].split())) for name in ("by_task", "when_learnt")]
        found[row["way"]].append((*scores, 100 * int(row["owned"]) / int(row["capacity"]), float(row["seconds"])))
    for way, runs in found.items():
        accuracy, learnt, owned, seconds = zip(*runs, strict=True)
        end = summarize(accuracy)
        rows.append({
            "way": way, "seeds": len(runs), "accuracy": f"{end.mean:.2f}",
            "95 %": "" if len(runs) < 2 else f"{end.low:.2f} to {end.high:.2f}",
            "forgotten": f"{mean(learnt) - end.mean:.2f}", "weights, %": f"{mean(owned):.1f}",
            "seconds": f"{mean(seconds):.0f}",
        })  # fmt: skip
    write_page("field", rows, ())


#: What this module writes.
WRITTEN = (write_gap, write_old_tasks, write_criteria, write_pmnist, write_field)
