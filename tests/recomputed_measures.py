"""What recomputes, from what benchmarks have written, the results that pages state in words (`test_claims.py`)."""

import functools
import json
import math
import re
from collections import Counter, defaultdict
from statistics import mean, median

import flights  # from benchmarks, as the next three; `recomputed` lets them be found
import pages
import torch
import two_processes
import year
from recomputed import RESULTS, by_rows_of_the_year, contains, contest, field, rows_of

import daynight as dn
from daynight.data.drift import Profile
from daynight.study.statistics import paired


def raw(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def stores_have_as_many_runs():
    said = re.findall(r"^\| `study/([\w-]+)` \| ([\d,]+) \|", (RESULTS / "README.md").read_text(), flags=re.M)
    stores = [path.name for path in RESULTS.glob("study/*") if path.is_dir()]
    assert dict(said) == {name: f"{len(pages.entries_of(name)):,}" for name in stores}


@functools.cache
def days():
    return [{name: int(value) for name, value in row.items()} for row in rows_of("year/days.csv")]


def total(name):
    return sum(day[name] for day in days())


def flights_of_the_year():
    assert (len(days()), total("left_out"), total("flights") + total("left_out")) == (365, 9_430, 336_776)
    assert f"{total('late') / total('flights'):.0%}" == "24%"


def the_dense_network_reads_153_numbers():
    (n_weights,) = {int(n) for n in by_rows_of_the_year("weights")["fine-tuned"].values()}
    network = dn.models.MLP(153, year.WIDTH, year.WIDTH)
    assert n_weights == year.n_parameters(network)


def a_version_has_a_tenth():
    weights = by_rows_of_the_year("weights")
    assert year.Nightly().keep == 0.085
    assert 0.095 < weights["succession"][0] / weights["fine-tuned"][0] < 0.105


def calls_of_deep_river_take_long():
    seconds = {row: mean(found.values()) for row, found in by_rows_of_the_year("seconds").items()}
    (n_calls,) = set(by_rows_of_the_year("steps")["deep-river"].values())
    tried = [float(row["seconds"]) for row in rows_of("year/tried.csv")]
    assert n_calls == 7
    assert all(0.9 < seconds["deep-river"] / seconds[row] < 1.1 for row in ("succession", "succession, replay"))
    assert year.STEPS * seconds["deep-river"] / n_calls > max(*seconds.values(), *tried)


def ten_trees_take_four_seconds():
    (took,) = (float(row["seconds"]) for row in rows_of("year/tried.csv") if row["design"] == "10 trees")
    assert round(took) == 4


def lost_nights_are_those_of_delays():
    late = sorted(range(len(days())), key=lambda day: days()[day]["late"] / days()[day]["flights"])
    tenth = set(late[-round(len(late) / 10) :])
    lost = [
        int(row["day"]) - 1 for row in rows_of("year/nights.csv") if row["row"] == "succession" and int(row["lost"])
    ]
    assert 0.7 < mean(day in tenth for day in lost) < 0.8


def a_blizzard_held_out_too_few():
    for day in (38, 39):  # 8 and 9 February
        assert days()[day]["left_out"] > days()[day]["flights"]
        assert days()[day]["flights"] * 0.1 < 50
    assert flights.LATE_MINUTES == 15


def other_kernels_take_longer():
    ratios = defaultdict(list)
    for row in raw("speed/kernels")["alternatives"]:
        assert 0.003 <= row["density"] <= 0.03
        for name, seconds in row["seconds"].items():
            ratios[name].append(seconds / row["seconds"]["embedding_bag"])
        assert row["seconds"]["gather, sum"] > row["seconds"]["CSR product"]
        assert row.get("compile_seconds", math.inf) > 2
    assert len({tuple(row["shape"]) for row in raw("speed/kernels")["alternatives"]}) == 3
    assert [f"{end(ratios['CSR product']):.1f}" for end in (min, max)] == ["1.5", "2.4"]


def lives_scatter():
    took = [[life["here"]["ms a day"] for life in pair] for pair in raw("speed/lives")["pairs"]]
    (lives,) = took
    assert (round(min(lives)), round(max(lives))) == (27, 37)
    assert lives[0] == max(lives)


def two_processes_do_twice_as_much():
    found = [two_processes.throughput(alone, together) for alone, together in raw("speed/two_processes")["pairs"]]
    assert 1.85 < median(found) < 2.05


def a_single_head_collapses():
    scores = defaultdict(list)
    for run in (run for run in raw("speed/speed-all")["runs"] if "accuracy" in run):
        scores[run["method"], run["p"]].append(mean(run["accuracy"]))
    assert max(scores["avalanche", 0.99]) < 0.5  # of two classes
    assert min(scores["daynight", 0.99]) > 0.9


def a_profile_is_small():
    inputs = torch.rand(10_000, 256, generator=torch.Generator().manual_seed(0))
    split = dn.Task(train=(inputs, torch.arange(10_000) % 2), test=(inputs[:2], torch.arange(2))).train
    assert 200_000 < Profile.of(split).n_bytes < 215_000


def a_day_of_20_is_refused():
    tiny = [row for row in rows_of("nights/gate.csv") if row["day"] == "tiny"]
    assert {int(row["accepted"]) for row in tiny} == {0}


def early_nights_took_more_time():
    """Return the CPU seconds of the thousand nights: other programs ran beside the first few hundred."""
    seconds = [float(row["cpu_seconds"]) for row in rows_of("nights/thousand_nights.csv")]
    assert median(seconds[:300]) > 1.05 * median(seconds[500:])


def seeds_of_batch_norm():
    assert {row["seed"] for row in rows_of("batch_norm.csv")} == set("01234")
    assert {row["day"] for row in rows_of("batch_norm.csv")} == set("01")


def runs_with_checkpoints():
    assert set(Counter(pair["every"] for pair in raw("checkpoints")["pairs"]).values()) == {3}


def seeds_of_the_field():
    accuracy, owned = field()
    assert all(sorted(found) == [0, 1, 2] for found in accuracy.values())
    sparse = owned["SparseLab, five networks of 1 %, Adam"]
    assert all(abs(share - 0.05) < 0.001 for share in sparse)
    assert all(0.49 < share < 0.51 for share in owned["SparseLab, five networks of 10 %, SGD"])


def held_out_images_show_no_gain():
    """Compare criteria on held-out images in nights of 24 and 72 epochs: rows of three seeds."""
    errors = defaultdict(dict)
    for row in rows_of("criteria.csv"):
        if (row["on"], row["share"]) == ("validation", "equal") and row["epochs"] in ("24", "72"):
            kind = tuple(row[name] for name in ("stream", "p", "nights", "epochs"))
            errors[kind, row["criterion"]][int(row["seed"])] = float(row["error"])
    compared = [
        paired(errors[kind, "magnitude"], found)
        for (kind, criterion), found in errors.copy().items()
        if criterion != "magnitude" and (kind, "magnitude") in errors
    ]
    of_three = [less for less in compared if less.n == 3]
    assert len(of_three) == 4
    assert all(contains(less, 0) for less in of_three)
    kinds = [kind for kind, criterion in errors if criterion == "gradient_times_weight"]
    for kind in kinds:
        most, between, least = (
            mean(errors[kind, name].values()) for name in ("magnitude", "gradient_times_weight", "output_change")
        )
        assert least < between < most


def seeds_of_small_cifar10():
    rows = {row["seeds"] for row in contest().judged("cifar10-small", 0.95, [contest().ranked[0]])}
    assert rows == {5}
    assert max(contest().setups["cifar10-small"].prunings) == 0.95


def the_paper_takes_two_minutes():
    took = [json.loads(path.read_text())["seconds"] for path in RESULTS.glob("mnist_nights/*.json")]
    assert 1.5 < median(took) / 60 < 2.5
