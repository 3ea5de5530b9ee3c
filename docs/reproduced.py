"""Writes the figures and tables of the page on reproduction from the runs in ``results/study``."""

import contextlib
import json
from collections import defaultdict

from pages import GENERATED, HERE, entries_of, unless_missing, write_page, write_section, write_table


def parts():
    """Give the parts of the page on reproduction: by name, the folder of the runs, and the setup."""
    import attrs

    from daynight.study.paper import setups

    cifar10 = setups.full("cifar10")
    return {
        "mnist": ("mnist", setups.full("mnist")),
        "cifar10": ("cifar10", attrs.evolve(cifar10, n_cycle_seeds=3, cycles=(1,))),
        "cifar10_small": ("cifar10-small", setups.full("cifar10-small")),
    }


def source_of(entries, setup):
    """Give what reads the runs of a setup."""
    from daynight.study.paper import setups

    return setups.source(setup, setups.reading(entries))


def write_reproduction(name, store, setup):
    """Draw the figures and write the tables of the page on reproduction, as far as their runs are done."""
    from daynight.study.paper import experiments

    entries = entries_of(store)
    (GENERATED / f"{name}_status.rst").write_text(status_of(entries))
    source = source_of(entries, setup)
    for what, function in experiments.FIGURES.items():
        write_section(f"{name}_{what}", lambda function=function: function(setup, source), setup.curve)


def write_chosen_dip(store, setup):
    """Ask for a dip at the three N that single nights on held-out data had picked before."""
    import attrs

    from daynight.study.paper import experiments

    chosen = attrs.evolve(setup, prunings=(0.95,), cycles=(1, 8, 72))
    source = source_of(entries_of(store), chosen)
    write_section("mnist_chosen_dip", lambda: experiments.FIGURES["dips"](chosen, source), chosen.prunings)


def status_of(entries):
    """Say how many runs there are, where they were done, and how long that took."""
    hours = defaultdict(list)
    for entry in entries:
        hours[entry["machine"]["platform"]].append(entry["seconds"] / 3600)
    places = {
        platform: "of one core" if platform in ("x86_64", "aarch64") else f"of processes that shared one {platform}"
        for platform in hours
    }
    done = [f"{len(own):,} in {sum(own):.1f} hours {places[platform]}" for platform, own in sorted(hours.items())]
    return f"Runs that are done: {', '.join(done)}.\n" if done else "No runs are done yet.\n"


def write_device_effect(store, setup):
    """Say by how much accuracy on a GPU differs from that on a CPU with N and seed the same, by least squares."""
    import numpy as np

    from daynight.study import results

    with unless_missing(f"{store}_device"):
        found = []
        for p in setup.prunings:
            own = source_of(entries_of(store), setup)("PackNet", setup.n_cycle_seeds, [p], setup.cycles)
            here = np.array([entry["machine"]["platform"].startswith("NVIDIA") for entry in own], dtype=float)
            if not 0 < here.sum() < len(here):
                continue
            columns = [here]
            for name in ("policy.n", "seed"):
                values = [results.setting(entry, name) for entry in own]
                columns += [np.array([value == one for value in values], dtype=float) for one in sorted(set(values))]
            columns = np.stack(columns, axis=1)
            accuracy = np.array([entry["result"]["mean_accuracy"] for entry in own])
            effect, _, rank, _ = np.linalg.lstsq(columns, accuracy)
            scatter = np.sum((accuracy - columns @ effect) ** 2) / (len(accuracy) - rank)
            error = np.sqrt(scatter * np.linalg.pinv(columns.T @ columns)[0, 0])
            found.append(f"{effect[0]:+.4f} ± {error:.4f} at p = {p:g} ({here.sum():.0f} of {len(here)} runs)")
        said = "; ".join(found) or "there are no runs of both"
        (GENERATED / f"{store}_device.rst").write_text(f"Runs of Figure 2 on a GPU, over those on a CPU: {said}.\n")


def write_agreement(known):
    """Write the table of what the study says in numbers, beside what was measured."""
    rows = [*agreement_on_mnist(*known["mnist"]), *agreement_on_cifar10(*known["cifar10"])]
    for name, label in (("mnist", "MNIST"), ("cifar10_small", "CIFAR10, 1,000 images a task")):
        rows += compressions(*known[name], label)
    write_table(GENERATED / "agreement.csv", rows, ())


def agreement_on_mnist(store, setup):
    """Give the rows of accuracies on MNIST."""
    from daynight.study.paper import experiments, setups
    from daynight.study.statistics import summarize

    source = source_of(entries_of(store), setup)
    frozen = defaultdict(list)
    for path in sorted((HERE / "results" / "mnist_nights").glob("*.json")):
        result = json.loads(path.read_text())
        if result["settings"]["biases"] == "freeze-after-first":
            frozen[result["settings"]["free"]].append(result["mean_accuracy"])
    rows = []
    for p, said in setups.ACCURACY["mnist"].items():
        own = source("PackNet", setup.n_cycle_seeds, [p], [1]).summary("mean_accuracy")
        rows.append(agreed(f"MNIST, accuracy, N = 1, p = {p:g}", f"{said:.3f}", with_interval(own)))
        found = with_interval(summarize(frozen[p]))
        rows.append(agreed("the same, biases frozen after the first task", f"{said:.3f}", found))
    _, found = experiments.figure2(setup, source)
    found = sorted((row for row in found if row["p"] == 0.995), key=lambda row: row["mean_accuracy"])
    for which, said, row in (("best", "1.5", found[-1]), ("worst", "3", found[0])):
        own = source("PackNet", setup.n_cycle_seeds, [0.995], [row["N"]]).values("mean_accuracy")
        error = summarize(100 * (1 - accuracy) for accuracy in own.values())
        here = f"{error.mean:.2f} % ({error.low:.2f} to {error.high:.2f}; N = {row['N']}, {error.n} runs)"
        rows.append(agreed(f"MNIST, error of the {which} N at p = 0.995", f"{said} %", here))
    return rows


def agreement_on_cifar10(store, setup):
    """Give the rows of accuracies on CIFAR10."""
    from daynight.study.paper import setups

    source = source_of(entries_of(store), setup)
    return [
        agreed(f"CIFAR10, accuracy, N = 1, p = {p:g}", f"{said:.3f}",
               with_interval(source("PackNet", setup.n_cycle_seeds, [p], [1]).summary("mean_accuracy")))
        for p, said in setups.ACCURACY["cifar10"].items()
    ]  # fmt: skip


def compressions(store, setup, label):
    """Give the rows of compression at equal accuracy, at each p."""
    from daynight.errors import DataError
    from daynight.study.paper import experiments, setups

    source = source_of(entries_of(store), setup)
    rows = []
    for method, by_p in setups.COMPRESSION[setup.dataset].items():
        found = []
        for p in by_p:
            with contextlib.suppress(DataError):
                found.append(f"{experiments.matched(setup, source, method, p).compression:.2f}")
        here = ", ".join(found) if len(found) == len(by_p) else "not done yet"
        prunings = ", ".join(f"{p:g}" for p in by_p)
        said = ", ".join(f"{compression:.2f}" for compression in by_p.values())
        rows.append(agreed(f"{label}: compression of {method} at p = {prunings}", said, here))
    return rows


def agreed(what, said, found):
    """Give a row of the table of what agrees."""
    return {"": what, "published": said, "here": found}


def with_interval(summary):
    """Show a mean accuracy with its 95 % interval and number of runs."""
    return f"{summary.mean:.4f} ({summary.low:.4f} to {summary.high:.4f}; {summary.n} runs)"


def write_more_seeds(store, setup):
    """Write what Table 1 becomes if PackNet has all its seeds, each method at the closest of the p that were tried."""
    from daynight.errors import DataError
    from daynight.study import results
    from daynight.study.paper import experiments, setups

    source, rows = source_of(entries_of(store), setup), []
    tried = sorted({results.setting(entry, "free_at_end") for entry in entries_of(store)} - {None})
    for method in setups.COMPRESSION[setup.dataset]:
        known = {}
        for p in tried:
            with contextlib.suppress(DataError):
                known[p] = source(method, setup.n_seeds, [p]).summary("mean_accuracy").mean
        for p in setup.prunings:
            few, more = (
                source("PackNet", n, [p], [1]).summary("mean_accuracy") for n in (setup.n_seeds, setup.n_cycle_seeds)
            )
            closest = min(known, key=lambda free: abs(known[free] - more.mean))
            rows.append({
                "p": p, "method": method, f"PackNet, {few.n} seeds": few.mean, f"{more.n} seeds": more.mean,
                "compression": f"{experiments.matched(setup, source, method, p).compression:.2f}",
                f"with {more.n} seeds": f"{(1 - p) / (1 - closest):.2f}",
            })  # fmt: skip
    write_page("more_seeds", rows, setup.prunings)


def write_all():
    """Write all of it."""
    known = parts()
    for name, (store, setup) in known.items():
        write_reproduction(name, store, setup)
    write_chosen_dip(*known["mnist"])
    write_device_effect(*known["mnist"])
    write_more_seeds(*known["mnist"])
    write_agreement(known)
