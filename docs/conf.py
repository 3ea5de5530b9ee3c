import csv
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean

import daynight

project = "daynight"
author = copyright = "The daynight developers"
release = daynight.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "tutorials"]
sphinx_gallery_conf = {
    "examples_dirs": "tutorials",
    "gallery_dirs": "learn",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": (),
    "remove_config_comments": True,
    "copyfile_regex": r".*README\.rst",
}
html_theme = "furo"
html_title = "daynight"
default_role = "literal"
nitpicky = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Links to other projects are for those who build with a network; a build without one has no inventories.
intersphinx_mapping = {}

HERE = Path(__file__).parent


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
    folder = HERE / "_build" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("accuracies", accuracies), ("sizes", sizes)):
        with (folder / f"mnist_nights_{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)


def write_speed_tables():
    """Write the tables of the page on speed from the raw results beside it."""
    sys.path.insert(0, str(HERE.parent / "benchmarks"))
    import hundred_days
    import speed
    import tables
    import two_processes

    results, folder = HERE / "results" / "speed", HERE / "_build" / "generated"
    measured = speed.stored(sorted(results.glob("speed-*.json")))
    (folder / "speed.rst").write_text(tables.rst(measured))
    (folder / "speed_full.rst").write_text(tables.rst(speed.stored(sorted(results.glob("full-*.json")))))
    with (folder / "hundred_days.csv").open("w", newline="") as stream:
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
    steps = json.loads((results / "wake_step.json").read_text())
    medians = {name: statistics.median(values) for name, values in steps["seconds"].items()}
    with (folder / "wake_step.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["a step of a wake", "ms", "of the products"])
        for name, median in medians.items():
            per_step, share = median / steps["n_steps"] * 1e3, median / medians["matrix products"]
            writer.writerow([name, f"{per_step:.2f}", f"{share:.2f}"])
    pairs = json.loads((results / "two_processes.json").read_text())["pairs"]
    ratios = sorted(two_processes.throughput(alone, together) for alone, together in pairs)
    (folder / "two_processes.rst").write_text(
        f"{statistics.median(ratios):.2f} (least {ratios[0]:.2f}, most {ratios[-1]:.2f}, of {len(ratios)})\n"
    )


def shown(cell, prunings):
    """Give what stands in a cell: a pruning as it is, another number with four digits, and nothing for NaN."""
    if not isinstance(cell, float) or cell in prunings:
        return cell
    return "" if math.isnan(cell) else f"{cell:.4f}"


def reproduced():
    """Give each part of the page on reproduction: its name, the folder of its runs, and its plan."""
    import attrs

    from daynight.study import plans

    cifar10 = plans.full("cifar10")
    small = attrs.evolve(plans.full("cifar10", n_train=1000), n_seeds=3, n_cycle_seeds=3, tolerance=0.1)
    return [
        ("mnist", "mnist", plans.full("mnist")),
        ("cifar10", "cifar10", attrs.evolve(cifar10, n_cycle_seeds=1, cycles=(1,))),
        ("cifar10_small", "cifar10-1000", small),
    ]


def write_reproduction(name, store, plan):
    """Draw the figures and write the tables of the page on reproduction, as far as their runs are done."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from daynight.errors import DataError
    from daynight.study import Store, paper, plans

    folder, runs = HERE / "_build" / "generated", HERE / "results" / "study" / store
    entries = list(Store(runs)) if runs.is_dir() else []
    hours = sum(entry["seconds"] for entry in entries) / 3600
    (folder / f"{name}_status.rst").write_text(
        f"{len(entries):,} runs are done; together they took {hours:.1f} hours of one core.\n"
    )
    for what, function in paper.FIGURES.items():
        path, table = folder / f"{name}_{what}.rst", folder / f"{name}_{what}_table.rst"
        try:
            figure, rows = function(plan, plans.source(plan, plans.reading(entries)))
        except DataError:
            plt.close("all")
            for missing in (path, table):
                missing.write_text("The runs of this section are not done yet.\n")
            continue
        figure.savefig(folder / f"{name}_{what}.png", dpi=160)
        plt.close(figure)
        with (folder / f"{name}_{what}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            columns = [column for column in rows[0] if not column.endswith((" low", " high")) or "gain" in column]
            writer.writerow([column.replace("mean_accuracy", "accuracy") for column in columns])
            for row in rows:
                writer.writerow([shown(row[column], plan.curve) for column in columns])
        table.write_text(f".. csv-table::\n   :file: {name}_{what}.csv\n   :header-rows: 1\n")
        path.write_text(f".. image:: /_build/generated/{name}_{what}.png\n   :width: 100%\n\n{table.read_text()}")


write_mnist_nights_tables()
write_speed_tables()
for part in reproduced():
    write_reproduction(*part)
