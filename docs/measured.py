"""Writes the figures and tables of the site from the raw results in ``results/``."""

import collections
import contextlib
import csv
import json
import math
import multiprocessing
import statistics
import sys
from collections import defaultdict
from statistics import mean

import contests
import drawn
import reproduced
import weights
from pages import (
    GENERATED,
    HERE,
    csv_rows,
    finer,
    picture,
    result_of,
    write_layout,
    write_page,
    write_table,
)

LIVES = {
    "plain": "plain", "hook": "with a hook that does nothing", "CSVLogger": "with a CSVLogger",
    "checkpoint": "with a checkpoint at each dawn", "save": "with an agent file each day",
    "versions": "a new version of one task every second day",
}  # fmt: skip
#: Colours, lines and markers of the rows of the year, which differ in grey and for the colour-blind.
YEAR_STYLES = (
    {"color": "#c8791b", "ls": "--", "marker": "v", "lw": 2}, {"color": "#1b1b3a", "ls": "-", "marker": "o", "lw": 2.4},
    {"color": "#3a78b5", "ls": "-", "marker": "s"}, {"color": "#8a8a8a", "ls": ":", "marker": "x"},
    {"color": "#2f7d5b", "ls": "-.", "marker": "D"}, {"color": "#8a5a9e", "ls": "--", "marker": "^"},
    {"color": "#b0651d", "ls": ":", "marker": "P"}, {"color": "#6aa9d8", "ls": "-.", "marker": "<"},
    {"color": "#444444", "ls": "--", "marker": "*"},
)  # fmt: skip
#: Exists if all parts are written.
WHOLE = GENERATED / "whole"
TASKS = ["0/1", "2/3", "4/5", "6/7", "8/9"]


def write_mnist_nights_tables():
    """Write the tables of the page on results from the raw results beside it."""
    groups = defaultdict(list)
    for path in sorted((HERE / "results" / "mnist_nights").glob("*.json")):
        result = json.loads(path.read_text())
        groups[result["settings"]["free"], result["settings"]["biases"]].append(result)
    accuracies = [["free", "biases", "seeds", "mean", "lowest", "highest", *TASKS]]
    sizes = [["free", "biases", "weights owned", "private", "steps"]]
    for (free, biases), results in sorted(groups.items()):
        first = results[0]
        overall = [result["mean_accuracy"] for result in results]
        means = [mean(overall), min(overall), max(overall)]
        means += [mean(result["accuracy"][task] for result in results) for task in TASKS]
        accuracies.append([free, biases, len(results), *(f"{value:.4f}" for value in means)])
        counts = [sum(first["owned"].values()), sum(first["private"].values()), first["steps"]]
        sizes.append([free, biases, *(f"{count:,}" for count in counts)])
    for name, rows in (("accuracies", accuracies), ("sizes", sizes)):
        with (GENERATED / f"mnist_nights_{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)


def write_speed_tables():
    """Write the tables of the page on speed from the raw results beside it."""
    import hundred_days
    import speed
    import tables
    import two_processes

    results = HERE / "results" / "speed"
    measured = speed.stored(sorted(results.glob("speed-*.json")))
    (GENERATED / "speed.rst").write_text(tables.rst(measured))
    (GENERATED / "speed_full.rst").write_text(tables.rst(speed.stored(sorted(results.glob("full-*.json")))))
    with (GENERATED / "hundred_days.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["kept a night", "", "days 1 to 5", "days 95 to 99", "ratio"])
        for path in sorted(results.glob("hundred_days-*.json")):
            result = json.loads(path.read_text())
            for key, label in hundred_days.LABELS.items():
                early, late = (statistics.median(day[key] for day in days) for days in (
                    result["days"][1:6], result["days"][-5:]))  # fmt: skip
                writer.writerow(
                    [f"{result['settings']['keep']:.2%}", label, f"{early:.4g}", f"{late:.4g}", f"{late / early:.2f}"]
                )
            writer.writerow(["", "accuracy of all 100 tasks at the end", "", f"{result['accuracy']:.3f}", ""])
    steps = json.loads((results / "wake_step.json").read_text())
    medians = {name: statistics.median(values) for name, values in steps["seconds"].items()}
    with (GENERATED / "wake_step.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["a step of a wake", "ms", "of the products"])
        for name, median in medians.items():
            per_step, share = median / steps["n_steps"] * 1e3, median / medians["matrix products"]
            writer.writerow([name, f"{per_step:.2f}", f"{share:.2f}"])
    write_first_command(results)
    pairs = json.loads((results / "two_processes.json").read_text())["pairs"]
    ratios = sorted(two_processes.throughput(alone, together) for alone, together in pairs)
    (GENERATED / "two_processes.rst").write_text(
        f"{statistics.median(ratios):.2f} (least {ratios[0]:.2f}, most {ratios[-1]:.2f}, of {len(ratios)})\n"
    )


#: Columns of the example's table, and the names of their runs.
FIRST_COMMAND = {
    "as it is": "chosen", "all threads": "all", "all, waiting by computing": "spinning", "one thread": "one",
}  # fmt: skip


def write_first_command(results):
    """Write the table of the example on an idle and on a busy machine."""
    runs = defaultdict(list)
    for run in json.loads((results / "first_command.json").read_text())["runs"]:
        runs[run["data"], run["busy"], run["threads"]].append(run["wall_seconds"])
    rows = []
    for data, busy in dict.fromkeys(key[:2] for key in runs):
        shown = {
            label: f"{statistics.median(found):.0f} (of {len(found)})" if (found := runs[data, busy, threads]) else ""
            for label, threads in FIRST_COMMAND.items()
        }
        rows.append({"images": "all" if data == "full" else "5,000", "processes beside it": busy, **shown})
    write_table(GENERATED / "first_command.csv", rows, ())


def write_lives():
    """Write the tables of lives of small days from the raw results beside the page on speed."""
    import machine

    results = HERE / "results" / "speed"
    whole = json.loads((results / "lives.json").read_text())
    pairs = whole["pairs"]
    (GENERATED / "lives_machine.rst").write_text(f"{machine.line(whole['machine'])}.\n")
    with (GENERATED / "lives.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["days", "pairs", "ms a day", "before", "times as fast", "late over early", "before", "report, s", "before"]
        )
        for same in zip(*pairs, strict=True):
            names = ("ms a day", "late over early", "seconds of history and report")
            here, before = ([statistics.median(each[build][name] for each in same) for name in names]
                            for build in ("here", "other"))  # fmt: skip
            ratio = statistics.median(each["other"]["ms a day"] / each["here"]["ms a day"] for each in same)
            cells = [f"{here[0]:.1f}", f"{before[0]:.1f}", f"{ratio:.1f}", f"{here[1]:.2f}", f"{before[1]:.2f}"]
            writer.writerow([same[0]["n"], len(same), *cells, f"{here[2]:.1f}", f"{before[2]:.1f}"])
    lives = [life for path in sorted(results.glob("lives_1000*.json"))
             for life in json.loads(path.read_text())["pairs"][0]]  # fmt: skip
    with (GENERATED / "lives_1000.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["ms a day in each tenth of the life", *range(1, 11), "late over early"])
        for life in lives:
            curve = [f"{value:.0f}" for value in life["here"]["curve"]]
            writer.writerow([LIVES[life["kind"]], *curve, f"{life['here']['late over early']:.2f}"])


def write_steps():
    """Write the table of steps and memory of several networks over a plain loop's."""
    import machine

    whole = json.loads((HERE / "results" / "speed" / "steps.json").read_text())
    (GENERATED / "steps_machine.rst").write_text(f"{machine.line(whole['machine'])}.\n")
    with (GENERATED / "steps.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["network", "build", "pairs", "wake, first day", "wake, second day", "REM", "memory"])
        for network, builds in whole["networks"].items():
            for build, found in builds.items():
                phases = [found[name] for name in ("wake 0", "wake 1", "rem 1")]
                ratios = [f"{statistics.median(some):.2f} ({min(some):.2f} to {max(some):.2f})" for some in phases]
                title = {"here": "now", "other": "before"}[build]
                writer.writerow([network, title, len(phases[0]), *ratios, f"{found['memory']:.2f}"])


def write_convolutions():
    """Write the table of convolutions, dense and sparse."""
    whole = json.loads((HERE / "results" / "speed" / "convolutions.json").read_text())
    densities = (0.1, 0.03, 0.01, 0.003)
    layers = {}
    for row in whole["rows"]:
        layers.setdefault(row["shape"], {})[row["density"]] = row["seconds"]
    with (GENERATED / "convolutions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        others = ("unfolded, listed", "unfolded, CSR", "unfolded, dense")
        writer.writerow(["layer", "dense, ms", *(f"{100 * density:g} %" for density in densities), "others, 1 %"])
        for name, layer in layers.items():
            cells = [
                " / ".join(f"{layer[density]['dense'] / layer[density][way]:.1f}" for way in ("between", "alone"))
                for density in densities
            ]
            found = [f"{layer[0.01]['dense'] / layer[0.01][way]:.1f}" for way in others if way in layer[0.01]]
            dense = statistics.median(layer[density]["dense"] for density in densities)
            writer.writerow([name, f"{dense * 1e3:.1f}", *cells, " / ".join(found)])


def write_deadlines():
    """Write the table of nights in seconds."""
    import deadlines

    if result := result_of("deadlines"):
        write_page("deadlines", deadlines.rows(result["nights"]), (), ".1f")


def write_kills():
    """Write how many of the runs that were killed have ended as they should."""
    if result := result_of("kills"):
        trials = result["trials"]
        phases = collections.Counter(trial["goes_on_at"]["phase"] for trial in trials)
        n_equal = sum(trial["is_equal"] for trial in trials)
        places = ", ".join(f"{n} in a {phase}" if phase in ("wake", "night") else f"{n} {phase}" for phase, n in
                           phases.most_common()).replace("in a dusk", "at dusk")  # fmt: skip
        text = f"{n_equal} of {len(trials)} ended bit for bit like the run without a kill. They resumed {places}.\n"
        (GENERATED / "kills.rst").write_text(text)


def write_checkpoints():
    """Write the table of what checkpoints cost."""
    import checkpoints

    if result := result_of("checkpoints"):
        write_page("checkpoints", checkpoints.rows(result["pairs"]), (), ".3g")


def write_networks():
    """Write the table of networks that have learnt three tasks."""
    if result := result_of("networks"):
        rows = [
            {**row, "weights": f"{row['weights']:,}", "scores": ", ".join(f"{score:.3g}" for score in row["scores"])}
            for row in result["networks"]
        ]
        write_page("networks", rows, (), ".4g")


def write_batch_norm():
    """Write the table of batch norm's statistics after nights of several lengths."""
    groups = defaultdict(list)
    for row in csv_rows(HERE / "results" / "batch_norm.csv"):
        groups[row["network"], row["free_at_end"], row["rem"], row["statistics"]].append(float(row["score"]))
    rows = []
    for network, free, rem in dict.fromkeys(key[:3] for key in groups if key[2]):
        scores = {
            name: mean(groups[network, free, rem, name]) for name in ("wake", "dawn", "1 x 32", "4 x 32", "1 x 256")
        }
        if float(rem) == 0:
            scores["dawn"] = scores["wake"]  # no step has changed them
        scores = {"of the steps" if name == "dawn" else name: f"{score:.3f}" for name, score in scores.items()}
        rows.append(
            {"network": network, "free at the end": free, "REM": rem, "of the wake": scores.pop("wake"), **scores}
        )
    write_page("batch_norm", rows, ("free at the end", "REM"))


def write_without_task():
    """Write the table of how many test images get the right digit if nobody names the task."""
    from daynight.study.statistics import summarize

    groups = defaultdict(list)
    for row in csv_rows(HERE / "results" / "without_task.csv"):
        if row["on"] == "test":
            groups[row["stream"], row["way"]].append(row)
    rows = []
    for (stream, way), found in groups.items():
        summaries = {
            name: summarize(float(row[column]) for row in found) if found[0][column] else None
            for name, column in (("right digit", "right_digit"), ("right task", "right_task"), ("none", "none_auroc"))
        }
        means = {
            name: "" if one is None else with_half(one.mean, one.mean - one.low, ".3f")
            for name, one in summaries.items()
        }
        n_bytes = max(int(row["bytes_per_task"]) for row in found)
        rows.append({"stream": stream, "way": way, "seeds": len(found), **means, "bytes a task": f"{n_bytes:,}"})
    write_page("without_task", rows, ())


def write_nights():
    """Write what is known of jobs of many nights: what the gate accepts, what kills leave, what late nights cost."""
    import thousand_nights
    from scipy import stats

    folder, rows = HERE / "results" / "nights", []
    lives = csv_rows(folder / "gate.csv")
    for kind, name in (("honest", "as before"), ("shuffled", "labels shuffled"), ("tiny", "20 examples")):
        found = [row for row in lives if row["day"] == kind]
        n = sum(int(row["accepted"]) for row in found)
        low, high = stats.binomtest(n, len(found)).proportion_ci()
        scores = {f"score {when}": f"{mean(float(row[when]) for row in found):.3f}" for when in ("before", "after")}
        share = {"accepted": f"{n} of {len(found)}", "95 %": f"{low:.3f} to {high:.3f}"}
        rows.append({"the third day": name, **share, **scores})
    write_page("nights_gate", rows, ())
    if job := result_of("nights/killed_job"):
        end = "the same bit for bit" if not job["differ"] else f"different: {', '.join(job['differ'])}"
        text = f"{job['n_kills']} kills in {job['nights']} nights: what they left was {end}.\n"
        (GENERATED / "nights_kills.rst").write_text(text)
    if (folder / "thousand_nights.csv").exists():
        nights, rows = csv_rows(folder / "thousand_nights.csv"), []
        shown = {
            "cpu_seconds": ("CPU seconds a night", 1, 3), "file_bytes": ("file, MB", 1e6, 3),
            "resident_bytes": ("memory of the process, MB", 1e6, 0),
        }  # fmt: skip
        for column, early, late in thousand_nights.ends(nights):
            name, unit, digits = shown[column]
            early_and_late = {"nights 11 to 20": early, f"the last 10 of {len(nights):,}": late}
            values = {when: f"{value / unit:.{digits}f}" for when, value in early_and_late.items()}
            rows.append({"": name, **values, "ratio": f"{late / early:.3f}"})
        write_page("nights_cost", rows, ())


def write_year():
    """Draw the year of flights and write its tables, from a line for each night."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import year

    folder = HERE / "results" / "year"
    rows = [
        {
            "": row["row"], "AUC": with_half(row["auc"], row["auc_half"], ".4f"),
            "pooled": with_half(row["pooled_auc"], row["pooled_auc_half"], ".4f"),
            "nights lost": f"{row['nights_lost']:.1f}", "seconds a night": f"{row['seconds']:.2f}",
            "steps": f"{row['steps'] or math.nan:.0f}".replace("nan", ""), "weights": f"{row['weights']:,.0f}",
            "file, kB": f"{row['file_bytes'] / 1e3:,.0f}", "past flights, MB": f"{row['data_bytes'] / 1e6:,.0f}",
        }
        for row in year.summed(folder)
    ]  # fmt: skip
    write_page("year_table", rows, ())
    table = (GENERATED / "year_table.rst").read_text()
    figure = year_figure(year, folder)
    shown = picture("year", figure, "AUC of the next day over the year, and differences from fine-tuning.")
    plt.close(figure)
    tried = csv_rows(folder / "tried.csv")
    best = {row["row"]: max(float(each["auc"]) for each in tried if each["row"] == row["row"]) for row in tried}
    names = list(best)
    marked = [
        {"row": row["row"], "design": row["design"], "AUC in February": row["auc"],
         "": "best" if float(row["auc"]) == best[row["row"]] else ""}
        for row in sorted(tried, key=lambda row: names.index(row["row"]))
    ]  # fmt: skip
    write_page("year_tried", marked, ())
    (GENERATED / "year.rst").write_text(f"{shown}\n{table}")


def with_half(mean, width, style):
    """Show a mean with half the width of its interval, if it has one that is wider than nothing."""
    style = finer(style, width)
    return f"{mean:{style}} ± {width:{style}}" if width > 0 else f"{mean:{style}}"


def year_figure(year, folder, reference="fine-tuned", span=28):
    """Draw the score of one row over the year, and how far the others are from it: means of four weeks."""
    import datetime

    import matplotlib.dates
    import matplotlib.pyplot as plt
    import numpy as np

    from daynight.plots.style import counted

    by_row = defaultdict(lambda: defaultdict(list))
    for night in csv_rows(folder / "nights.csv"):
        by_row[night["row"]][int(night["day"])].append(float(night["auc"]))
    series = {name: np.array([mean(days[day]) for day in sorted(days)]) for name, days in by_row.items()}
    dates = [datetime.date(2013, 1, 1) + datetime.timedelta(day) for day in sorted(by_row[reference])]
    figure, (top, low) = plt.subplots(2, 1, figsize=(9.0, 7.4), sharex=True, height_ratios=(2, 3), layout="constrained")
    top.plot(dates, series[reference], ".", color="#b5b5b5", markersize=3, label=f"{reference}, each day")
    for place, (name, values) in enumerate(series.items()):
        style = {"lw": 1.2, "ms": 5, "markevery": (3 * place, 28), **YEAR_STYLES[place % len(YEAR_STYLES)]}
        is_far = mean(values - series[reference]) < -0.03  # would leave no height for the others below
        if is_far or name in (reference, "succession, replay"):
            top.plot(dates[span - 1 :], rolling(values, span), label=name if is_far else None, **style)
        if not is_far:
            low.plot(dates[span - 1 :], rolling(values - series[reference], span), label=name, **style)
    top.set(ylabel="AUC of the next day", title="Days, and means of four weeks and of the seeds")
    low.set(ylabel=f"difference to {reference!r}", title="Means of four weeks and of the seeds")
    figure.legend(loc="outside lower center", fontsize="small", ncols=5, handlelength=3.6)
    n_seeds = [len(scores) for days in by_row.values() for scores in days.values()]
    low.set_xlabel(f"2013 (January and February, shaded, are not counted)\nseeds: {counted(n_seeds, '')}")
    for ax in (top, low):
        ax.axvspan(dates[0], datetime.date(2013, 3, 1), color="#e9ecf3", zorder=0)
        ax.spines[["top", "right"]].set_visible(False)
    low.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%b"))
    return figure


def rolling(values, span):
    """Give the mean of each `span` values in a row."""
    import numpy as np

    return np.convolve(values, np.ones(span) / span, "valid")


def write_works():
    """Write the tables of what works with what."""
    import works

    works.write_all()


#: What is written, in parts that two processes share: the longest first.
PARTS = (
    (contests.write_contest,), (reproduced.write_all,), (write_layout,), (drawn.write_ideas,), (drawn.write_hypnogram,),
    (write_mnist_nights_tables,), (write_speed_tables,), (write_deadlines,), (write_networks,), (write_batch_norm,),
    (write_without_task,), (write_lives,), (write_steps,), (write_convolutions,), (write_nights,), (write_year,),
    (write_kills,), (write_checkpoints,), (write_works,), *((function,) for function in weights.WRITTEN),
)  # fmt: skip


def write_part(index):
    """Write one of the parts."""
    function, *arguments = PARTS[index]
    function(*arguments)


def is_written():
    """Say whether all of it was written by an earlier build."""
    return WHOLE.exists()


def write_all():
    """Write all of it."""
    WHOLE.unlink(missing_ok=True)
    GENERATED.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(HERE.parent / "benchmarks"))
    # Processes that are forked have all that is imported here; without it, as on Windows, one process does.
    is_forked = "fork" in multiprocessing.get_all_start_methods()
    with multiprocessing.get_context("fork").Pool(2) if is_forked else contextlib.nullcontext() as pool:
        for _ in (pool.imap_unordered if is_forked else map)(write_part, range(len(PARTS))):
            pass
    WHOLE.touch()
