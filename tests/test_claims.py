"""Each result that the README or a page states in words is what the committed runs say, and none is left unchecked.

Tables and figures are made from the runs when the site is built. Here are the sentences around them. `CLAIMS` has
those that state a result, each with a function that recomputes it; `GIVEN` has parts of sentences whose numbers are no
results of ours: settings, rules, definitions, and what others have published.
"""

import re
from pathlib import Path

import pytest
from recomputed import (
    a_network_for_each_task_is_ahead,
    best_and_worst_n,
    capacities_on_permuted_mnist,
    cifar10_at_full_size,
    compressions_beside_the_published,
    compressions_of_five_seeds,
    cycles_with_a_budget_on_small_cifar10,
    cycles_without_a_budget_help,
    first_task_on_small_cifar10,
    frozen_biases_agree,
    gains_grow,
    growing_rems_gain_little,
    hat_is_within_chance_of_one_prune,
    it_gains_more_in_shorter_nights,
    its_lead_over_those_right_behind_it_is_not_shown,
    listed_convolutions_are_fastest,
    means_of_other_choices,
    most_rows_have_one_or_two_seeds,
    no_dip_of_all_n,
    one_prune_is_best_elsewhere_at_95,
    one_prune_takes_nearly_all,
    other_choices,
    output_change_beats_one_prune_elsewhere,
    output_change_has_a_quarter_fewer,
    output_change_has_never_more,
    private_numbers_of_norms,
    published_are_within_intervals,
    published_compressions,
    rems_of_convolutional_networks_are_faster,
    seeds_scatter_at_995,
    shares_by_need_so_far,
    short_nights_prefer_one_prune,
    shrinking_rems_cost,
    statistics_taken_anew,
    succession_is_within_chance_of_the_best,
    ten_trees_do_better,
    the_chosen_dip,
    the_chosen_is_best_elsewhere,
    the_example_takes,
    the_example_takes_little_more_than_the_fastest_way,
    the_gate_refuses_versions,
    the_pooled_lead_is_within_chance,
    the_recommended_has_the_lowest_mean,
    the_second_task_is_lowest,
    three_methods_are_close_at_95,
    two_tasks_have_most_errors,
    uniform_72_was_chosen,
    weights_of_a_task,
    weights_that_a_night_adds,
)
from recomputed_measures import (
    a_blizzard_held_out_too_few,
    a_day_of_20_is_refused,
    a_profile_is_small,
    a_single_head_collapses,
    a_version_has_a_tenth,
    calls_of_deep_river_take_long,
    early_nights_took_more_time,
    flights_of_the_year,
    held_out_images_show_no_gain,
    lives_scatter,
    lost_nights_are_those_of_delays,
    other_kernels_take_longer,
    runs_with_checkpoints,
    seeds_of_batch_norm,
    seeds_of_small_cifar10,
    seeds_of_the_field,
    stores_have_as_many_runs,
    ten_trees_take_four_seconds,
    the_dense_network_reads_153_numbers,
    the_paper_takes_two_minutes,
    two_processes_do_twice_as_much,
)

from daynight.study import explaining

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FILES = (
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("examples/*.py")),
    *(path for kind in ("*.rst", "reference/*.rst", "tutorials/*.rst", "tutorials/*.py", "results/*.md")
      for path in sorted(DOCS.glob(kind))),
)  # fmt: skip
#: All pages, by their place in the folder of the docs or, without one, of the project.
PAGES = {path.relative_to(DOCS if DOCS in path.parents else ROOT).as_posix(): path for path in FILES}
FIGURES = r"\d[\d,]*(?:\.\d+)?"
WORDS = (
    "(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|seventy"
    "|eighty|ninety|dozens?|hundreds?|thousands?|tens|millions?)"
)
#: What can be a result if it is counted in figures, and if it is counted in words, too.
IN_FIGURES = "(?:days?|nights?|weights|images?|examples|flights|versions|kills|policies|tasks)"
UNITS = (
    "(?:%|per ?cent|times|points?|ms|(?:micro|milli)?seconds?|minutes?|hours?|seeds?|runs?|[kMG]i?B|(?:mega|kilo|giga)?"
    "bytes?|as (?:long|many|much|fast|large|small|high)|of the|fewer|more than)"
)
PART = "(?:half|halves|thirds?|quarters?|fifths?|tenths?|hundredths?|thousandths?)"
#: A number that may be a result, in figures or words: a fraction, a thousand or more, a count or a part of something.
NUMBER = re.compile(
    rf"(?<![\w.:/=-])\d[\d,]*\.\d+|\d{{1,3}}(?:,\d{{3}})+|\b{FIGURES}(?= ?(?:{UNITS}|{IN_FIGURES})(?!\w))|\bof \d+ "
    rf"|\b{WORDS}(?=(?:(?: to| or|-)? ?{WORDS})*(?: of)? {UNITS}\b)|\btwice\b|\bthrice\b|\bhalf an?\b"
    rf"|\b{PART}(?= (?:of|as|fewer|more|less)\b)|\| {FIGURES}(?= \|)",
    re.IGNORECASE,
)
#: Directives whose body is not prose.
NOT_PROSE = re.compile(r"(\s*)(?:\* - |- )?\.\. (?!note|warning|tip|list-table|rubric|_)")


def sentences(path):
    """Return the sentences of a page's prose, without code and with single spaces."""
    kept, skipping, indent = [], False, 0
    text = path.read_text()
    if path.suffix == ".py":
        docstring, _, code = text.partition('"""')[2].partition('"""')
        text = docstring + "\n".join(
            re.sub(r"\s*#:? ", "", line) if re.match(r"\s*#:? ", line) else "" for line in code.splitlines()
        )
    for line in text.splitlines():
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
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:\* -|-|\d\.|\|) ", "\n".join(kept))
    parts = [re.split(r"(?<=[.:?!])\s+(?=[A-Z*\"(`])", " ".join(paragraph.split())) for paragraph in paragraphs]
    return [sentence for found in parts for sentence in found]


#: By page, what it says, and what recomputes that.
CLAIMS = {
    "README.md": {"the example takes 15 to 35 seconds, with all of MNIST or with the 5,000": the_example_takes},
    "choosing.rst": {
        "with three seeds, no interval on held-out images excludes zero": held_out_images_show_no_gain,
        "It has five seeds, because its runs are long, and the highest p": seeds_of_small_cifar10,
        "if all 21 intervals are to hold": its_lead_over_those_right_behind_it_is_not_shown,
        "**On all MNIST streams, the less may be kept, the more it gains": gains_grow,
        "On permuted and on rotated MNIST at p = 0.95, one prune a night has the": one_prune_is_best_elsewhere_at_95,
        "At p = 0.99 and 0.995, the chosen policy has the fewest there, too.": the_chosen_is_best_elsewhere,
        "**Of all 22 policies, the recommended one has the lowest mean error at": the_recommended_has_the_lowest_mean,
        "Its lead over the policies right behind it is not shown: at p = 0.95": (
            its_lead_over_those_right_behind_it_is_not_shown
        ),
        "At p = 0.99 and 0.995 the interval of the runner-up": its_lead_over_those_right_behind_it_is_not_shown,
        "**REMs that shrink cost accuracy at each p, and the more, the less may be kept.": shrinking_rems_cost,
        "gain little over equal ones**, by more than chance only at p = 0.99, and barely.": growing_rems_gain_little,
        "with the recommended policy, it has a quarter fewer errors, by more than": output_change_has_a_quarter_fewer,
        "In no row of the table does it have more errors on average": output_change_has_never_more,
        "the uniform cycles that were chosen at each p, and the recommended": uniform_72_was_chosen,
        "On test images, it makes no difference at p = 0.995 to equal shares": shares_by_need_so_far,
        "At p = 0.99 it has fewer errors and at p = 0.95 more, both within": shares_by_need_so_far,
        "The shorter the nights, the more it gains: at p = 0.995, on held-out": it_gains_more_in_shorter_nights,
        "most errors on split MNIST are those of 2 or 3 and of 8 or 9": two_tasks_have_most_errors,
        "MNIST at p = 0.95, it has fewer errors than one prune a night by": output_change_beats_one_prune_elsewhere,
        "In nights of six, one prune a night has fewer errors on": short_nights_prefer_one_prune,
    },
    "coming_from.rst": {
        "with three seeds that scatter": seeds_of_the_field,
        "SparseLab's examples have 10 % of the weights; with 1 % a task,": seeds_of_the_field,
        "HAT has the highest mean accuracy, but its lead": hat_is_within_chance_of_one_prune,
        "errors than one prune a night, by 0.35 points (0.27 to 0.43).": short_nights_prefer_one_prune,
    },
    "gap.rst": {
        "Table 1 of the study has 2.70, 2.70 and 3.79 for Multinet with one prune, by": compressions_of_five_seeds,
    },
    "ideas.rst": {
        "PackNet needs up to 3.3 times the weights": published_compressions,
        "At p = 0.995 private biases and heads outnumber the weights": weights_of_a_task,
        "On MNIST the factor grows with p; on CIFAR10": published_compressions,
        "So one prune takes 99.9 % of the network at once, and each of eight prunes takes": one_prune_takes_nearly_all,
        "on permuted and rotated MNIST at p = 0.95, though not at 0.99 and 0.995,": one_prune_is_best_elsewhere_at_95,
        "At p = 0.95 eight cycles a night do worse than one, and 72 better than either": the_chosen_dip,
        "At p = 0.99 and 0.995 no such dip is beyond chance.": no_dip_of_all_n,
    },
    "networks.rst": {
        "After 30 tasks, the private numbers are almost as many": private_numbers_of_norms,
        "over five seeds and two days of digits": seeds_of_batch_norm,
        "Of 67,072 masked weights, each task owns 2 %": private_numbers_of_norms,
        "they cost less than 0.01 where a REM was long enough, and gained up to 0.4 where": statistics_taken_anew,
    },
    "pmnist.rst": {
        "At a capacity of a fifth, the published figure of Winning SubNetworks is below": capacities_on_permuted_mnist,
        "At 40 %, it is within the interval.": capacities_on_permuted_mnist,
        "At 77 %, it is above": capacities_on_permuted_mnist,
        "Our own runs with fewer weights, at a capacity of 58 %, have a": capacities_on_permuted_mnist,
        "Whether it is higher than the published 96.41, these two": capacities_on_permuted_mnist,
        "Most rows of the table have one or two": most_rows_have_one_or_two_seeds,
    },
    "reproduction.rst": {
        "at p = 0.8 and 0.95": cifar10_at_full_size,
        "yes, except at p = 0.95": cycles_without_a_budget_help,
        "and exclude zero in three places": other_choices,
        "three seeds of the one-shot points": cifar10_at_full_size,
        "the intervals of ten seeds contain the published values at p = 0.99 and 0.995": published_are_within_intervals,
        "at p = 0.95, accuracy is higher by less than 0.001.": published_are_within_intervals,
        "means of three seeds agree to 0.005 at each p, but their intervals are wide.": frozen_biases_agree,
        "at p = 0.995 the hidden layers have 512 of them, beside about 270 weights.": weights_of_a_task,
        "at p = 0.995 the errors of one prune a night are about twice those of the best N, and the": best_and_worst_n,
        "The best N has fewer errors here than in the paper; for the worst N, the interval contains": best_and_worst_n,
        "The compression of Multinet at p = 0.99 is the paper's within the flat": compressions_beside_the_published,
        "At p = 0.95 the compressions of both methods are higher than published,": compressions_beside_the_published,
        "At p = 0.95 all three methods are within 0.001 of each other": three_methods_are_close_at_95,
        "A network for each task has a higher accuracy than any of them,": a_network_for_each_task_is_ahead,
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
    "results.rst": {
        "Over ten seeds, the mean at p = 0.995 is 0.9758": seeds_scatter_at_995,
        "how many of the 266,240 maskable weights": weights_of_a_task,
    },
    "speed.rst": {
        "its single masked head is what collapses at p = 0.99": a_single_head_collapses,
        "products of CSR matrices take 1.5 to 2.4 times as long": other_kernels_take_longer,
        "these short lives take 27 to 37 ms a day": lives_scatter,
        "**The REM of a convolutional network takes a fraction": rems_of_convolutional_networks_are_faster,
        "Between layers of its own layout, this is the fastest way in each row": listed_convolutions_are_fastest,
        "as it is, it takes no more than 1.15 times what": the_example_takes_little_more_than_the_fastest_way,
        "At p = 0.99 and five tasks, each night adds 401 visible weights to the 200,704 of": weights_that_a_night_adds,
    },
    "tutorials/year_of_flights.py": {
        "336,776 flights that left New York": flights_of_the_year,
        "were cancelled or diverted, are left out: 9,430.": flights_of_the_year,
        "Of the others, 24 % are late.": flights_of_the_year,
        "these are 153 numbers": the_dense_network_reads_153_numbers,
        "A living version owns 8.5 % of the weights": a_version_has_a_tenth,
        "(These are about seven calls a night.": calls_of_deep_river_take_long,
        "They take as long as the 100 steps of an agent": calls_of_deep_river_take_long,
        "and take four seconds a night.": ten_trees_take_four_seconds,
        "three quarters of them from the tenth of all days": lost_nights_are_those_of_delays,
        "and fewer than 50 were held out": a_blizzard_held_out_too_few,
        "With a tenth of their weights, succession with replay is": succession_is_within_chance_of_the_best,
        "Its pooled AUC has the highest mean; its lead": the_pooled_lead_is_within_chance,
        "the gate refuses more than twenty versions a year,": the_gate_refuses_versions,
        "Logistic regression, with 152 weights, comes within 0.003": succession_is_within_chance_of_the_best,
        "Ten trees do better than three (0.873 and 0.850": ten_trees_do_better,
    },
    "files.rst": {
        "in three runs each with and without them": runs_with_checkpoints,
    },
    "nightly.rst": {
        "at most about 210 kB in all": a_profile_is_small,
        "A day of 20 is always refused": a_day_of_20_is_refused,
        "Other programs ran beside the first few hundred nights": early_nights_took_more_time,
    },
    "troubles.rst": {
        "Two processes with one thread each do about twice as much": two_processes_do_twice_as_much,
    },
    "examples/mnist_nights.py": {
        "Takes about half a minute, less than a minute on a busy machine": the_example_takes,
        "and about two minutes with ``--paper``.": the_paper_takes_two_minutes,
    },
    "results/README.md": {
        "`study/mnist` |": stores_have_as_many_runs,
        "`study/cifar10` |": stores_have_as_many_runs,
        "`study/cifar10-small` |": stores_have_as_many_runs,
        "`study/nights` |": stores_have_as_many_runs,
        "`study/permuted` |": stores_have_as_many_runs,
        "`study/rotated` |": stores_have_as_many_runs,
    },
}

#: Parts of sentences whose numbers are settings, rules, definitions, or what others have published. They hide no result
#: beside them: the rest of the sentence needs entries of its own.
GIVEN = {
    "README.md": ["Python 3.10 or newer", "it uses 5,000 real MNIST images"],
    "CONTRIBUTING.md": ["It is to take less than 90 seconds"],
    "choosing.rst": [
        "in the first 70 % of the night",
        "rises to three times what the training says",
        "at p = 0.995, where nights",
        "with three seeds.",
        "at p = 0.95, 0.99 and 0.995 and with ten seeds.",
        "which has three seeds",
        '"equal shares 72, 30 %"',
        "with 30 % of the night",
        "the last lasts 16 times the first",
        "or the first 16 times the last",
        "backward passes of up to 2,048 examples",
        "but at least 256.",
        "The commands do ten seeds",
        "12,000 images",
        "At p = 0.995 its first layer, of 864 weights",
    ],
    "coming_from.rst": ["PyTorch 2.14.1 refuses the backward pass"],
    "compatibility.rst": ["(within 0.1 % of the largest output)", "within 25 seconds."],
    "deadlines.rst": [
        "more than 18 hours ahead",
        "that comes twice in autumn",
        "never exactly the same twice",
        "p = 0.99, uniform cycles",
    ],
    "design.rst": ["in chunks of 256 examples.", "at most a quarter of a parameter's numbers", "at most 64 MiB"],
    "files.rst": [
        "a hundred times as long as writing a checkpoint takes, so that less than 2 % of the time",
        "ten times as long as writing one takes",
        "the end of the process twice",
    ],
    "gap.rst": [
        "with a fifth of the steps each",
        "half as many steps again",
        "both layers of 256 hidden units",
        "could the hardest one gain at p = 0.995",
        "the mean gains a fifth of that",
    ],
    "ideas.rst": [
        "seven or eight hours",
        "With p = 0.995 a task gets one weight in a thousand.",
        "A REM on a thousandth of the weights",
        "on MNIST at p = 0.995 the worst N has about twice the errors of the best.",
        "at most a fifth of the wake's budget",
    ],
    "networks.rst": [
        "use a weight twice",
        "up to 256 examples",
        "that keeps twice as much may lose twice as much",
        "half of it is left",
        "some tenths of a per cent",
    ],
    "nightly.rst": [
        "keeps up to 2,000 examples",
        "half of each batch",
        "keeps up to 2,000 (",
        "worse by more than 0.02",
        "in less than one of 1,000 days",
        "those of past days by more than 0.02",
        "wants 50 examples",
        "``level`` (0.05)",
        "With fewer than 20 examples",
        "with a share of 0.5, twice as many.",
        "three days of 300 digits",
        "lived three times",
        "a gate that holds 300 examples",
    ],
    "optimizers.rst": ["Give targets of 0.0 and 1.0", "up to 100,000 steps"],
    "pmnist.rst": [
        "Published are, of Winning SubNetworks, 94.84 at a capacity of 19.9 %, 96.14 at 40.4 and 96.41 at 77.7; of "
        "PackNet 96.37 at 96.4; of multitask training 96.70.",
        "72 prunes in the first 30 % of the night, while Adam's learning rate falls from 0.003 to a tenth",
        "10,000 of the training images",
        "The commands do five seeds",
    ],
    "policies.rst": ["It is absolute: 0.1 is a tenth of", "twice as long as the one before it"],
    "quickstart.rst": ["adds 5,000 real MNIST images"],
    "reproduction.rst": [
        "ten runs are seeds 0 to 9, and three runs seeds",
        "ends at a tenth of the kept",
        "within twice its standard error",
        "seeds 0 to 4, as many as",
        "at which the mean of a method's five seeds is closest",
        "the best and the worst N differ by 3.5 % at p = 0.95",
        "At p = 0.995 the paper reports an error of 1.5 % for the best N and 3 % for the worst",
        "A tenth of the training images, 1,000 a task, and three seeds.",
        "at a fifth of the kept",
        "instead of 1,878",
        "The paper reports a difference of 3.5 % between the best and the worst N at p = 0.95",
    ],
    "results.rst": [
        "all 60,000 training images",
        "the 10,000 test images",
        "The paper reports 0.996, 0.989 and 0.970.",
    ],
    "speed.rst": [
        "how many are left of 784 is",
        "The REM is at a density of 1 %.",
        "was read and written twice",
        "(2 bytes a weight)",
        "(4 bytes)",
        "(6 bytes)",
        "20 bytes for each of these",
        "the outputs of 256 examples",
        "with 2,000 images",
        "Each night keeps 0.5 % of the weights, so that half of them are owned",
        "(64 MiB at most)",
        "60 examples and five",
        "the last tenth of the days",
        "the 256 examples of a prediction",
    ],
    "studies.rst": ["together with 95 %", "about one in twenty misses by chance"],
    "troubles.rst": [
        "From Python 3.11 on",
        "on Linux up to 3.13.",
        "gives each task a thousandth of",
        "For a layer of 256 weights",
        "a quarter of a weight",
        "``Epochs(6)`` of 200 examples in batches of 128 are",
        "adds 5,000 MNIST images",
    ],
    "tutorials/README.rst": ["use 5,000 real digits"],
    "tutorials/deadline_and_restart.py": ["a night is half a second", "half past one", "that is ten times as slow"],
    "tutorials/first_nights.py": ["95 % of all weights must", "a wake of 6 epochs, and then a night of 12 epochs"],
    "tutorials/read_a_hypnogram.py": ["takes half of the night"],
    "tutorials/study_with_seeds.py": ["none is done twice"],
    "tutorials/write_a_policy.py": ["Three seeds on 5,000 digits", "the same question with ten seeds"],
    "tutorials/year_of_flights.py": [
        "more than 15 minutes late.",
        "A tenth of the day's flights",
        "a sample of 5,000 flights, which make a fifth of",
        "the learning rate falls from 0.001 to 0.",
        "of 128 units.",
        "over the 306 days",
        "over three seeds",
        "(5 to 50 of the 100 steps)",
        "a tenth to four fifths of each batch",
    ],
    "without_task.rst": [
        "it never exceeds one half with fewer than 100 of them, and is at most 0.72 with 250",
        "p = 0.95, an MLP",
        "five times as many images",
        "A tenth of the training images",
    ],
}
#: Parts of sentences that give the level of an interval, on any page.
LEVELS = re.compile(r"(?:half of the )?95 %(?= (?:confidence )?intervals?\b)|with 95 % \(Bonferroni|\"95 %\"")


CHECKS = {check.__name__: check for page in CLAIMS.values() for check in page.values()}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_results_in_words_are_those_of_the_runs(check):
    check()


@pytest.mark.parametrize(
    "sentence",
    [
        "It takes two to three times as long.",
        "They scatter by some tens of per cent.",
        "It is at most about 210 kB.",
        "Of the others, 24 % are late.",
        "They are left out: 9,430.",
        "It has a quarter fewer errors.",
        "Two processes do twice as much.",
        "A call takes about 35 ms.",
        "| runs of a store | 213 |",
        "They are run with five seeds.",
    ],
)
def test_results_in_figures_and_in_words_are_seen(sentence):
    assert NUMBER.search(sentence)


@pytest.mark.parametrize("page", PAGES)
def test_each_result_in_words_is_checked(page):
    found = sentences(PAGES[page])
    text = " ".join(found)
    claims, given = CLAIMS.get(page, ()), GIVEN.get(page, ())
    for said in (*claims, *given):
        assert said in text, f"{page} no longer says {said!r}: change or remove its entry."
    for sentence in found:
        if any(said in sentence for said in claims):
            continue
        rest = LEVELS.sub("...", sentence)
        for said in given:
            rest = rest.replace(said, "...")
        number = NUMBER.search(re.sub(r"``[^`]*``|`[^`]*`", "", rest))
        assert number is None, f"{page}: {number[0]!r} of {sentence!r} is neither in CLAIMS nor in GIVEN."


EXPLAINED = sorted(
    {
        line.partition("#")[0].strip()
        for path in PAGES.values()
        for line in re.findall(r"daynight study explain docs/results(/\S+ .*)$", path.read_text(), flags=re.M)
    }
)


@pytest.mark.parametrize("line", EXPLAINED)
def test_numbers_that_pages_explain_are_in_their_stores(line, capsys):
    store, *rest = line.split()
    explaining.main([f"{DOCS}/results{store}", *rest])
    assert "seed 0: " in capsys.readouterr().out
