"""Each result that the README or a page states in words is what the committed runs say, and none is left unchecked.

Tables and figures are made from the runs when the site is built. Here are the sentences around them. `CLAIMS` has
those that state a result, each with a function that recomputes it; `GIVEN` has those whose numbers are no results of
ours: settings, rules, definitions, and what others have published.
"""

import functools
import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

import attrs
import pytest
from torch import nn

import daynight as dn
from daynight.study import Results
from daynight.study.methods import packnet
from daynight.study.paper import experiments, open_questions, setups
from daynight.study.statistics import paired, summarize
from daynight.study.tournament import tournament
from daynight.testing import toy_stream

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
sys.path += [str(ROOT / "docs"), str(ROOT / "benchmarks")]
import gap_tables  # noqa: E402  (from benchmarks)
import measured  # noqa: E402  (from docs, as the next two)
import pages  # noqa: E402
import reproduced  # noqa: E402

PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.rst")))}
#: A number that may be a result: a fraction, or a count of something.
NUMBER = re.compile(
    r"(?<![\w.:/=-])\d[\d,]*\.\d+|\b\d+(?:\.\d+)?(?= (?:%|percent|times|points|ms|seconds|minutes|hours|days?|seeds"
    r"|runs|weights))|\bof \d+ "
)
#: Directives whose body is not prose.
NOT_PROSE = re.compile(r"(\s*)(?:\* - |- )?\.\. (?!note|warning|tip|list-table|rubric|_)")
PRUNINGS = (0.95, 0.99, 0.995)


def sentences(path):
    """Return the sentences of a page's prose, without code and with single spaces."""
    kept, skipping, indent = [], False, 0
    for line in path.read_text().splitlines():
        if path.suffix == ".md":
            if line.startswith("```"):
                skipping = not skipping
            elif not skipping:
                kept.append(line)
            continue
        if skipping and (not line.strip() or len(line) - len(line.lstrip()) > indent):
            continue
        begins = NOT_PROSE.match(line)
        skipping, indent = begins is not None, len(begins[1]) if begins else 0
        kept.append("" if begins else line)
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:\* -|-|\d\.) ", "\n".join(kept))
    parts = [re.split(r"(?<=[.:?!])\s+(?=[A-Z*\"(`])", " ".join(paragraph.split())) for paragraph in paragraphs]
    return [sentence for found in parts for sentence in found]


@functools.cache
def runs_of(store):
    """Return what reads a store's runs by method, seeds and settings, and the setup."""
    folder, setup = reproduced.parts()[store.replace("-", "_")]
    return reproduced.source_of(pages.entries_of(folder), setup), setup


contest = functools.cache(measured.contest_of_runs)


@functools.cache
def accuracies(store, p, n=1, seeds=None):
    """Return the mean accuracy by seed, of PackNet with n cycles a night."""
    source, setup = runs_of(store)
    return source("PackNet", seeds or setup.n_cycle_seeds, [p], [n]).values("mean_accuracy")


@functools.cache
def errors_of(stream, p):
    """Return errors in percent of one prune, of the chosen N, and of the chosen policy, with differences."""
    chosen, uniform = contest().ranked[0], contest().best_uniform[p]
    rows = {row["policy"]: row for row in contest().judged(stream, p, [chosen])}
    return rows[tournament.ONCE], rows[uniform], rows[chosen]


@functools.cache
def judged(p):
    """Return all policies' rows of the tournament on MNIST at one p, by name."""
    return {row["policy"]: row for row in contest().judged("mnist", p, contest().reports("mnist"))}


@functools.cache
def compression(method, p, store="mnist"):
    source, setup = runs_of(store)
    return experiments.matched(setup, source, method, p)


@functools.cache
def figure2(store="mnist"):
    """Return mean accuracies by p and N."""
    source, setup = runs_of(store)
    found = defaultdict(dict)
    for row in experiments.figure2(setup, source)[1]:
        found[row["p"]][row["N"]] = row["mean_accuracy"]
    return found


def frozen():
    """Return the mean accuracies of runs whose biases are frozen after the first task, by p."""
    found = defaultdict(list)
    for path in (RESULTS / "mnist_nights").glob("*.json"):
        result = json.loads(path.read_text())
        if result["settings"]["biases"] == "freeze-after-first":
            found[result["settings"]["free"]].append(result["mean_accuracy"])
    return found


@functools.cache
def choices():
    """Return the gains of other choices, by p and choice."""
    source, setup = runs_of("mnist")
    return {(row["p"], row["choice"]): row for row in open_questions.choices(setup, source)[1]}


def rows_of(name):
    return pages.csv_rows(RESULTS / name)


def excludes_zero(row, name):
    return row[f"{name} low"] > 0 or row[f"{name} high"] < 0


def contains(interval, value):
    return interval.low <= value <= interval.high


def one_prune_is_best_elsewhere_at_95():
    for stream in ("permuted", "rotated"):
        once, uniform, chosen = errors_of(stream, 0.95)
        assert once["error %"] < min(uniform["error %"], chosen["error %"])
        assert chosen["less than uniform 1 high"] < 0


def the_chosen_is_best_elsewhere():
    for stream in ("permuted", "rotated"):
        for p in (0.99, 0.995):
            once, uniform, chosen = errors_of(stream, p)
            assert chosen["error %"] < min(uniform["error %"], once["error %"])


def gains_grow():
    for stream in ("mnist", "permuted", "rotated"):
        gains = [errors_of(stream, p)[2]["less than uniform 1"] for p in PRUNINGS]
        assert gains == sorted(gains)


def the_recommended_has_the_lowest_mean():
    for p in PRUNINGS:
        assert len(judged(p)) == 22
        assert min(judged(p).values(), key=lambda row: row["error %"])["policy"] == contest().ranked[0]
        assert judged(p)[contest().ranked[0]]["less than best uniform in hindsight low"] > 0


def beside(name, other, p):
    """Return the row of a policy on MNIST, with its differences from another one, "less than it"."""
    return next(row for row in contest().judged("mnist", p, [name], {"it": other}) if row["policy"] == name)


def its_lead_is_beyond_chance_at_95_only():
    chosen = contest().ranked[0]
    for p in PRUNINGS:
        second = min((row for row in judged(p).values() if row["policy"] != chosen), key=lambda row: row["error %"])
        assert excludes_zero(beside(chosen, second["policy"], p), "less than it") == (p == 0.95)


def growing_rems_gain_little():
    for p in PRUNINGS:
        own = beside("lengthening 72, 16", "uniform 72", p)
        assert excludes_zero(own, "less than it") == (p == 0.99)
        assert 0 < own["less than it"] < 0.15


def shrinking_rems_cost():
    rows = [beside("shortening 36, 16", "uniform 36", p) for p in PRUNINGS]
    assert all(row["less than it high"] < 0 for row in rows)
    assert [row["less than it"] for row in rows] == sorted((row["less than it"] for row in rows), reverse=True)


def by_output_change(stream, p):
    """Return the errors in percent of the recommended policy by output_change on test images, by seed."""
    wanted = ("test", stream, f"{p:g}", "output_change", "72", "recommended")
    names = ("on", "stream", "p", "criterion", "epochs", "nights")
    rows = [row for row in rows_of("criteria.csv") if tuple(row[name] for name in names) == wanted]
    return {int(row["seed"]): float(row["error"]) for row in rows}


def output_change_beats_one_prune_elsewhere():
    for stream in ("permuted", "rotated"):
        less = paired(magnitude(stream, 0.95, dn.UniformCycles(1)), by_output_change(stream, 0.95))
        assert less.n >= 3
        assert less.low > 0


def hat_is_best_and_short_nights_prefer_one_prune():
    found = defaultdict(list)
    for row in rows_of("field.csv"):
        found[row["way"]].append((float(row["accuracy"]), int(row["owned"]) / int(row["capacity"])))
    accuracy = {way: mean(score for score, _ in own) for way, own in found.items()}
    assert max(accuracy, key=accuracy.get) == "clarena, HAT"
    assert min(share for _, share in found["clarena, HAT"]) > 0.5
    assert found["daynight, recommended"][0][1] == 0.05
    assert accuracy["daynight, recommended"] < accuracy["daynight, one prune a night"]


def output_change_has_a_quarter_fewer():
    found = by_output_change("mnist", 0.995)
    usual = magnitude("mnist", 0.995, dn.recommended_policy())
    less = paired(usual, found)
    assert less.n == 10
    assert less.low > 0
    assert 0.2 < less.mean / mean(usual.values()) < 0.3


def magnitude(stream, p, policy):
    """Return the errors in percent of a policy by magnitude, by seed."""
    study = Results(pages.entries_of(stream)).select(method=packnet, restart="zero")
    found = study.select(policy=policy, free_at_end=p).values("mean_accuracy")
    return {seed: 100 * (1 - score) for seed, score in found.items()}


def published_are_within_intervals():
    said = setups.ACCURACY["mnist"]
    for p in (0.99, 0.995):
        found = summarize(accuracies("mnist", p).values())
        assert found.n == 10
        assert contains(found, said[p])
    assert 0 < mean(accuracies("mnist", 0.95).values()) - said[0.95] < 0.001


def frozen_biases_agree():
    for p, said in setups.ACCURACY["mnist"].items():
        assert len(frozen()[p]) == 3
        assert abs(mean(frozen()[p]) - said) < 0.005


def best_and_worst_n():
    for p in PRUNINGS:
        assert max(figure2()[p], key=figure2()[p].get) >= 36
    found = {n: summarize(100 * (1 - score) for score in accuracies("mnist", 0.995, n).values()) for n in (1, 36)}
    assert max(figure2()[0.995], key=figure2()[0.995].get) == 36
    assert min(figure2()[0.995], key=figure2()[0.995].get) == 1
    assert 1.8 < found[1].mean / found[36].mean < 2.4
    assert found[36].high < 1.5
    assert contains(found[1], 3.0)


def compressions_beside_the_published():
    said = setups.COMPRESSION["mnist"]
    at_99, at_995 = compression("Multinet", 0.99), compression("Multinet", 0.995)
    assert at_99.low <= said["Multinet"][0.99] <= at_99.high
    assert at_995.low == pytest.approx(said["Multinet"][0.995], abs=0.02)
    assert compression("Multinet", 0.95).low > said["Multinet"][0.95]
    assert all(compression("Memory", p).low > said["Memory"][p] for p in PRUNINGS)


def three_methods_are_close_at_95():
    source, setup = runs_of("mnist")
    found = [source(name, setup.n_seeds, [0.95]) for name in ("PackNet", "Memory", "Multinet")]
    means = [runs.summary("mean_accuracy").mean for runs in found]
    assert max(means) - min(means) < 0.001


def the_second_task_is_lowest():
    source, setup = runs_of("mnist")
    rows = {(row["p"], row["method"]): row for row in experiments.figure3(setup, source)[1]}
    for p in (0.99, 0.995):
        own, *rivals = (
            [mean_of for name, mean_of in rows[p, method].items() if "/" in name]
            for method in ("PackNet", "Memory", "Multinet")
        )
        assert min(own) == own[1]
        assert all(own[1] < rival[1] for rival in rivals)
        assert all(own[task] > rival[task] for rival in rivals for task in (2, 3, 4))


def cifar10_at_full_size():
    for p, said in setups.ACCURACY["cifar10"].items():
        found = summarize(accuracies("cifar10", p).values())
        assert found.n == 3
        assert contains(found, said) == (p != 0.9)
    assert mean(accuracies("cifar10", 0.9).values()) - 0.843 == pytest.approx(0.015, abs=0.0005)


def first_task_on_small_cifar10():
    source, setup = runs_of("cifar10-small")
    rows = {row["p"]: row for row in experiments.figure3(setup, source)[1] if row["method"] == "PackNet"}
    firsts = {p: next(score for name, score in row.items() if "/" in name) for p, row in rows.items()}
    assert firsts[0.9] == firsts[0.95] == 0.5
    assert 0.5 < firsts[0.8] < 0.6


def cycles_without_a_budget_help():
    source, setup = runs_of("cifar10-small")
    for row in experiments.figure4(setup, source)[1]:
        if row["N"] > 1:
            assert row["gain over N = 1"] > 0
            assert (row["gain low"] > 0) == (row["p"] != 0.95)


def cycles_with_a_budget_on_small_cifar10():
    source, setup = runs_of("cifar10-small")
    beyond = {
        (row["p"], row["N"]): math.copysign(1, row["gain over N = 1"])
        for row in experiments.figure2(setup, source)[1]
        if row["N"] > 1 and excludes_zero(row, "gain")
    }
    assert beyond == {(0.8, 2): 1, (0.8, 6): -1}


def seeds_scatter_at_995():
    own = accuracies("mnist", 0.995)
    for n, said in ((5, "0.9712"), (10, "0.9758"), (3, "0.9789")):
        assert f"{mean(own[seed] for seed in range(n)):.4f}" == said


def no_dip_of_all_n():
    source, setup = runs_of("mnist")
    rows = [row for row in experiments.FIGURES["dips"](setup, source)[1] if row["optimizer state"] == "cleared"]
    assert [row["p"] for row in rows] == list(PRUNINGS)
    assert not any(row["fall high"] < 0 < row["rise low"] for row in rows)
    assert 0 < rows[0]["fall high"] < 0.0003


def the_chosen_dip():
    _, setup = runs_of("mnist")
    chosen = attrs.evolve(setup, prunings=(0.95,), cycles=(1, 8, 72))
    source = reproduced.source_of(pages.entries_of("mnist"), chosen)
    cleared, kept = experiments.FIGURES["dips"](chosen, source)[1]
    assert (cleared["from N"], cleared["to N"], cleared["on to N"]) == (1, 8, 72)
    assert cleared["fall high"] < 0 < cleared["rise low"]
    assert kept["shown"] == "no"


def other_choices():
    beyond = {key for key, row in choices().items() if excludes_zero(row, "gain")}
    ranking, cuts = "one ranking of all layers", "equal cuts of the total"
    assert beyond == {(0.95, ranking), (0.99, ranking), (0.995, cuts)}
    assert all(choices()[key]["gain"] < 0 for key in beyond)


def means_of_other_choices():
    gains = {key: row["gain"] for key, row in choices().items()}
    biases = [gains[p, "biases frozen after the first task"] for p in PRUNINGS]
    assert biases[0] >= 0 > biases[1] > biases[2]
    for name in ("free weights drawn anew", "free weights taken up"):
        assert all(gains[p, name] > 0 for p in PRUNINGS)
    for name in ("heads without bias", "optimizer carried through a night"):
        assert all(abs(gains[p, name]) < 0.002 for p in PRUNINGS)


def compressions_of_five_seeds():
    assert [f"{compression('Multinet', p).compression:.2f}" for p in PRUNINGS] == ["2.70", "2.70", "3.79"]


def no_gap_is_left_at_995():
    found = gap_tables.read()
    gap = gap_tables.gap
    own = found["PackNet", gap.BEST, "zero", gap_tables.BY_CHANGE][0.995]
    result = gap_tables.compression(own.values(), found["Multinet", gap.BEST, "zero", ""])
    assert len(own) == 10
    assert result.low < 1 < result.high


def one_prune_takes_nearly_all():
    assert 1 - dn.kept_fraction_per_night(free_at_end=0.995, n_days=5) == pytest.approx(0.999, abs=5e-6)
    assert 0.5 < dn.pruned_fraction_per_round(n_rounds=8, n_days=5, free_at_end=0.995) < 0.6


def statistics_taken_anew():
    scores = defaultdict(list)
    for row in rows_of("batch_norm.csv"):
        if row["rem"] and float(row["rem"]) > 0 and row["statistics"] in ("dawn", "1 x 256"):
            scores[row["network"], row["free_at_end"], row["rem"], row["statistics"]].append(float(row["score"]))
    gains = [mean(scores[(*key[:3], "1 x 256")]) - mean(own) for key, own in scores.items() if key[3] == "dawn"]
    assert min(gains) > -0.01
    assert 0.35 < max(gains) < 0.45


def capacities_on_permuted_mnist():
    found = defaultdict(lambda: defaultdict(list))
    for row in rows_of("pmnist.csv"):
        if (row["on"], row["tasks"], row["design"]) == ("test", "10", "alone, connected"):
            found[float(row["free"])]["accuracy"].append(float(row["accuracy"]))
            found[float(row["free"])]["capacity"].append(100 * float(row["capacity"]))
    a_fifth, two_fifths, three_fifths, most = (
        (mean(each["capacity"]), summarize(each["accuracy"])) for _, each in sorted(found.items(), reverse=True)
    )
    assert all(own[0] < wsn for own, wsn in ((a_fifth, 19.9), (two_fifths, 40.4), (most, 77.7)))
    assert a_fifth[1].low > 94.84
    assert contains(two_fifths[1], 96.14)
    assert most[1].high < 96.41
    assert round(three_fifths[0]) == 58
    assert three_fifths[1].low > most[1].high


def weights_of_a_task():
    agent = dn.Agent(lambda: dn.models.MLP(784, 256, 256), capacity=dn.Capacity(free_at_end=0.995, days=5))
    layers = [agent.network.module.get_submodule(name) for name in agent.network.weights]
    assert sum(layer.out_features for layer in layers) == 512
    assert sum(layer.weight.numel() for layer in layers) * 0.005 / 5 == pytest.approx(270, abs=5)


def weights_that_a_night_adds():
    assert (784 * 256, int(784 * 256 * 0.01 / 5)) == (200_704, 401)


def seconds_of_the_example():
    """Return the seconds on the wall of its runs by data, number of busy processes, and threads."""
    found = defaultdict(list)
    for run in json.loads((RESULTS / "speed" / "first_command.json").read_text())["runs"]:
        found[run["data"], run["busy"], run["threads"]].append(run["wall_seconds"])
    return found


def the_example_takes():
    for data in ("full", "sample"):
        assert max(seconds_of_the_example()[data, 2, "chosen"]) < 60
        assert 15 < median(seconds_of_the_example()[data, 0, "chosen"]) < 35


def one_thread_is_fastest_for_small_networks():
    for busy in (0, 2):
        took = {kind: median(seconds_of_the_example()["sample", busy, kind]) for kind in ("chosen", "spinning", "one")}
        assert took["one"] == min(took.values())
        assert busy or took["chosen"] > took["spinning"]


def private_numbers_of_norms():
    layers = [nn.Linear(6, 256), nn.LayerNorm(256), nn.ReLU(), nn.Linear(256, 256), nn.LayerNorm(256), nn.ReLU()]
    agent = dn.Agent(nn.Sequential(*layers, nn.Linear(256, 2)), capacity=dn.Capacity(keep_per_task=0.02))
    for task in toy_stream(2):
        agent.wake(task, dn.Steps(1))
        agent.sleep(dn.OneShot(), dn.Steps(1))
    assert agent.n_weights == 67_072
    assert [(day.owned, day.private) for day in agent.days] == [(1342, 512 + 1024 + 514)] * 2
    assert 0.9 < 30 * (512 + 1024 + 514) / agent.n_weights < 1


def memory_is_lower_on_each_network():
    networks = json.loads((RESULTS / "speed" / "steps.json").read_text())["networks"]
    assert all(found["here"]["memory"] < found["other"]["memory"] for found in networks.values())


#: By page, what it says, and what recomputes that.
CLAIMS = {
    "README.md": {"the example takes 15 to 35 seconds, with all of MNIST or with the 5,000": the_example_takes},
    "choosing.rst": {
        "**On all MNIST streams, the less may be kept, the more it gains": gains_grow,
        "On permuted and on rotated MNIST at p = 0.95, one prune a night has the": one_prune_is_best_elsewhere_at_95,
        "At p = 0.99 and 0.995, the chosen policy has the fewest there, too.": the_chosen_is_best_elsewhere,
        "**Of all 22 policies, the recommended one has the lowest mean error at": the_recommended_has_the_lowest_mean,
        "Over the next best policy, its lead is beyond chance at p = 0.95 only:": its_lead_is_beyond_chance_at_95_only,
        "**REMs that shrink cost accuracy at each p, and the more, the less may be kept.": shrinking_rems_cost,
        "gain little over equal ones**, by more than chance only at p = 0.99, and barely.": growing_rems_gain_little,
        "with the recommended policy, it has a quarter fewer errors, by more than": output_change_has_a_quarter_fewer,
        "MNIST at p = 0.95, it has fewer errors than one prune a night by": output_change_beats_one_prune_elsewhere,
        "In nights of six, one prune a night has fewer errors on": hat_is_best_and_short_nights_prefer_one_prune,
    },
    "coming_from.rst": {"HAT has the highest accuracy, and most of the": hat_is_best_and_short_nights_prefer_one_prune},
    "gap.rst": {
        "Table 1 of the study has 2.70, 2.70 and 3.79 for Multinet with one prune, by": compressions_of_five_seeds,
        "the interval at p = 0.995 contains 1, which is no gap.": no_gap_is_left_at_995,
    },
    "ideas.rst": {
        "So one prune takes 99.9 % of the network at once, and each of eight prunes takes": one_prune_takes_nearly_all,
        "on permuted and rotated MNIST at p = 0.95, though not at 0.99 and 0.995,": one_prune_is_best_elsewhere_at_95,
        "At p = 0.95 eight cycles a night do worse than one, and 72 better than either": the_chosen_dip,
        "At p = 0.99 and 0.995 no such dip is beyond chance.": no_dip_of_all_n,
    },
    "networks.rst": {
        "Of 67,072 masked weights, each task owns 2 %": private_numbers_of_norms,
        "they cost less than 0.01 where a REM was long enough, and gained up to 0.4 where": statistics_taken_anew,
    },
    "pmnist.rst": {
        "At a capacity of a fifth, the published figure of Winning SubNetworks is below": capacities_on_permuted_mnist,
        "At 40 %, it is within the interval.": capacities_on_permuted_mnist,
        "At 77 %, it is above": capacities_on_permuted_mnist,
        "Fewer weights, at a capacity of 58 %, do better than that.": capacities_on_permuted_mnist,
    },
    "reproduction.rst": {
        "the intervals of ten seeds contain the published values at p = 0.99 and 0.995": published_are_within_intervals,
        "at p = 0.95, accuracy is higher by less than 0.001.": published_are_within_intervals,
        "means of three seeds agree to 0.005 at each p, but their intervals are wide.": frozen_biases_agree,
        "at p = 0.995 the hidden layers have 512 of them, beside about 270 weights.": weights_of_a_task,
        "at p = 0.995 the errors of one prune a night are about twice those of the best N, and the": best_and_worst_n,
        "The best N has fewer errors here than in the paper; for the worst N, the interval contains": best_and_worst_n,
        "The compression of Multinet at p = 0.99 is the paper's within the flat": compressions_beside_the_published,
        "At p = 0.95 the compressions of both methods are higher than published,": compressions_beside_the_published,
        "At p = 0.95 all three methods are within 0.001 of each other": three_methods_are_close_at_95,
        "PackNet's mean is lowest on its second task at p = 0.99 and 0.995.": the_second_task_is_lowest,
        "The intervals of three seeds contain the published values at p = 0.8 and 0.95.": cifar10_at_full_size,
        "At p = 0.9, accuracy is 0.015 higher, beyond chance.": cifar10_at_full_size,
        "At the reduced size, PackNet's first task is at chance at p = 0.9 and 0.95, and": first_task_on_small_cifar10,
        "At the reduced size they help; at p = 0.95 the intervals of three seeds do not": cycles_without_a_budget_help,
        "At the reduced size the differences between N are within their": cycles_with_a_budget_on_small_cifar10,
        "the mean of PackNet with one prune is 0.9712 over these five, 0.9758 over seeds 0 to 9": seeds_scatter_at_995,
        "**at p = 0.95 yes, and it depends on the state**.": the_chosen_dip,
        "Then ten seeds show no dip at any p; at p = 0.95 the fall misses significance by little.": no_dip_of_all_n,
        "**one ranking of all layers** costs accuracy at p = 0.95 and 0.99 (at 0.995 it costs most": other_choices,
        "In the means, frozen biases cost nothing at p = 0.95, and more the less may be kept": means_of_other_choices,
    },
    "results.rst": {"Over ten seeds, the mean at p = 0.995 is 0.9758": seeds_scatter_at_995},
    "speed.rst": {
        "memory is lower on each network.": memory_is_lower_on_each_network,
        "For a network as small as this one,": one_thread_is_fastest_for_small_networks,
        "At p = 0.99 and five tasks, each night adds 401 visible weights to the 200,704 of": weights_that_a_night_adds,
    },
}

#: Parts of sentences whose numbers are settings, rules, definitions, or what others have published.
GIVEN = {
    "README.md": ["daynight needs Python 3.10 or newer"],
    "choosing.rst": [
        "These are 72 prunes, each of the same share",
        "Then comes by how much the policy's error is lower", "(N = 8), at p = 0.995, where nights matter most",
        "at p = 0.95, 0.99 and 0.995 and with ten seeds.", '"Less than" says by how many percentage points',
        "the last lasts 16 times the first", '"less" is in percentage points',
        '"Less than by magnitude" is in percentage points', "on a logarithmic scale, with 95 % confidence intervals.",
        '"equal shares 72, 30 %" are 72 prunes', "its first layer, of 864 weights, would have none",
    ],
    "coming_from.rst": [
        "SparseLab's examples have 10 % of the weights; with 1 % a task,", "PyTorch 2.14.1 refuses the backward pass",
    ],
    "compatibility.rst": ["(within 0.1 % of the largest output)", "within 25 seconds."],
    "deadlines.rst": ["more than 18 hours ahead", "(split MNIST, 784:256:256:2, p = 0.99, uniform cycles with N = 8)"],
    "design.rst": ["They are computed in chunks of 256 examples."],
    "files.rst": ["less than 2 % of the time goes into checkpoints"],
    "gap.rst": [
        "with a 95 % interval:", '"Gain" is the error without the lift', "for both layers of 256 hidden units,",
        "How much could the hardest one gain at p = 0.995",
    ],
    "ideas.rst": [
        "With p = 0.995 a task gets one weight in a thousand.", "PackNet needs up to 3.3 times the weights",
        "on MNIST at p = 0.995 the worst N has about twice the errors of the best.",
        "At p = 0.995 private biases and heads outnumber the weights",
    ],
    "nightly.rst": [
        "worse by more than 0.02", "in less than one of 1,000 days", "those of past days by more than 0.02",
        "a probability of ``level`` (0.05) at most", "with a share of 0.5, twice as many.",
        "In lives of three days of 300 digits each", "A day of 20 is always refused",
    ],
    "optimizers.rst": ["Give targets of 0.0 and 1.0"],
    "pmnist.rst": ['"95 %" is a confidence', "Published are, of Winning SubNetworks", "72 prunes in the first 30 %"],
    "policies.rst": ["It is absolute: 0.1 is a tenth"],
    "reproduction.rst": [
        "with 95 % intervals of the mean over seeds.", "at p = 0.8 and 0.95", "yes, except at p = 0.95",
        "On CIFAR10 with a fixed budget, the best and the worst N differ by 3.5 % at p = 0.95",
        "the paper reports an error of 1.5 %", "lines are 95 % confidence intervals.",
        "The paper reports a difference of 3.5 %",
    ],
    "results.rst": ["The paper reports 0.996, 0.989 and 0.970."],
    "speed.rst": [
        "is what collapses at p = 0.99.", "Each night keeps 0.5 % of the weights", "A hundred days of permuted MNIST",
        "The REM is at a density of 1 %.",
        "computes the outputs of 256 examples", "how many are left of 784 is given below the table",
    ],
    "studies.rst": [
        "what its bars are: 95 % confidence intervals", "Each interval is a 95 % interval of its own",
        "together with 95 %",
    ],
    "troubles.rst": [
        "From Python 3.11 on", "default on Linux up to 3.13.", "For a layer of 256 weights", "``Epochs(6)`` of 200",
    ],
    "without_task.rst": ["its probability is at most (n + 1) / (n + 101)", "p = 0.95, and the whole test set."],
}  # fmt: skip


CHECKS = {check.__name__: check for page in CLAIMS.values() for check in page.values()}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_results_in_words_are_those_of_the_runs(check):
    check()


@pytest.mark.parametrize("page", PAGES)
def test_each_result_in_words_is_checked(page):
    found = sentences(PAGES[page])
    text = " ".join(found)
    known = (*CLAIMS.get(page, ()), *GIVEN.get(page, ()))
    for said in known:
        assert said in text, f"{page} no longer says {said!r}: change or remove its entry."
    for sentence in found:
        number = NUMBER.search(re.sub(r"``[^`]*``|`[^`]*`", "", sentence))
        assert number is None or any(said in sentence for said in known), (
            f"{page}: {sentence!r} is neither in CLAIMS nor in GIVEN."
        )
