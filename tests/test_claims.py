"""Each result that the README or a page states in words is what the committed runs say, and none is left unchecked.

Tables and figures are made from the runs when the site is built. Here are the sentences around them. `CLAIMS` has
those that state a result, each with a function that recomputes it; `GIVEN` has those whose numbers are no results of
ours: settings, rules, definitions, and what others have published.
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
    weights_of_a_task,
    weights_that_a_night_adds,
)

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorials" / "year_of_flights.py"
PAGES = {path.name: path for path in (ROOT / "README.md", TUTORIAL, *sorted((ROOT / "docs").glob("*.rst")))}
#: A number that may be a result: a fraction, or a count of something.
NUMBER = re.compile(
    r"(?<![\w.:/=-])\d[\d,]*\.\d+|\b\d+(?:\.\d+)?(?= (?:%|percent|times|points|ms|seconds|minutes|hours|days?|seeds"
    r"|runs|weights))|\bof \d+ "
)
#: Directives whose body is not prose.
NOT_PROSE = re.compile(r"(\s*)(?:\* - |- )?\.\. (?!note|warning|tip|list-table|rubric|_)")


def sentences(path):
    """Return the sentences of a page's prose, without code and with single spaces."""
    kept, skipping, indent = [], False, 0
    text = path.read_text()
    if path.suffix == ".py":
        docstring, _, code = text.partition('"""')[2].partition('"""')
        text = docstring + "\n".join(line[2:] if line.startswith("# ") else "" for line in code.splitlines())
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
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:\* -|-|\d\.) ", "\n".join(kept))
    parts = [re.split(r"(?<=[.:?!])\s+(?=[A-Z*\"(`])", " ".join(paragraph.split())) for paragraph in paragraphs]
    return [sentence for found in parts for sentence in found]


#: By page, what it says, and what recomputes that.
CLAIMS = {
    "README.md": {"the example takes 15 to 35 seconds, with all of MNIST or with the 5,000": the_example_takes},
    "choosing.rst": {
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
        "shares by need have fewer errors on average than equal ones": shares_by_need_so_far,
        "most errors on split MNIST are those of 2 or 3 and of 8 or 9": two_tasks_have_most_errors,
        "MNIST at p = 0.95, it has fewer errors than one prune a night by": output_change_beats_one_prune_elsewhere,
        "In nights of six, one prune a night has fewer errors on": short_nights_prefer_one_prune,
    },
    "coming_from.rst": {
        "HAT has the highest mean accuracy, but its lead": hat_is_within_chance_of_one_prune,
        "errors than one prune a night, by 0.35 points (0.27 to 0.43).": short_nights_prefer_one_prune,
    },
    "gap.rst": {
        "Table 1 of the study has 2.70, 2.70 and 3.79 for Multinet with one prune, by": compressions_of_five_seeds,
    },
    "ideas.rst": {
        "On MNIST the factor grows with p; on CIFAR10": published_compressions,
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
        "Our own runs with fewer weights, at a capacity of 58 %, have a": capacities_on_permuted_mnist,
        "Whether it is higher than the published 96.41, these two": capacities_on_permuted_mnist,
        "Most rows of the table have one or two": most_rows_have_one_or_two_seeds,
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
    "results.rst": {"Over ten seeds, the mean at p = 0.995 is 0.9758": seeds_scatter_at_995},
    "speed.rst": {
        "**The REM of a convolutional network takes a fraction": rems_of_convolutional_networks_are_faster,
        "Between layers of its own layout, this is the fastest way in each row": listed_convolutions_are_fastest,
        "as it is, it takes no more than 1.15 times what": the_example_takes_little_more_than_the_fastest_way,
        "At p = 0.99 and five tasks, each night adds 401 visible weights to the 200,704 of": weights_that_a_night_adds,
    },
    "year_of_flights.py": {
        "With a tenth of their weights, succession with replay is": succession_is_within_chance_of_the_best,
        "Its pooled AUC has the highest mean; its lead": the_pooled_lead_is_within_chance,
        "the gate refuses more than twenty versions a year,": the_gate_refuses_versions,
        "Logistic regression, with 152 weights, comes within 0.003": succession_is_within_chance_of_the_best,
        "Ten trees do better than three (0.873 and 0.850": ten_trees_do_better,
    },
}

#: Parts of sentences whose numbers are settings, rules, definitions, or what others have published.
GIVEN = {
    "README.md": ["daynight needs Python 3.10 or newer"],
    "choosing.rst": [
        "These are 72 prunes, each of the same share", "with seeds 100 to 102, before anything was run on test images.",
        "Then comes by how much the policy's error is lower", "(N = 8), at p = 0.995, where nights matter most",
        "at p = 0.95, 0.99 and 0.995 and with ten seeds.", '"Less than" says by how many percentage points',
        "the last lasts 16 times the first", '"less" is in percentage points',
        '"Less than by magnitude" is in percentage points', "on a logarithmic scale, with 95 % confidence intervals",
        'and "corrected" those of which it still does', '"Less than" is how many percentage points fewer errors',
        '"equal shares 72, 30 %" are 72 prunes', "its first layer, of 864 weights, would have none",
    ],
    "coming_from.rst": [
        '"95 %" is a confidence interval of the mean over the seeds',
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
    "without_task.rst": ["its probability is at most (n + 1) / (n + 101)", "p = 0.95, an MLP 784:256:256, and",
                         'Behind "±" is half of the 95 % interval'],
    "year_of_flights.py": [
        "more than 15 minutes late.", "Of the others, 24 % are late.", "A living version owns 8.5 % of the weights",
        "the learning rate falls from 0.001 to 0.", "A call takes about 35 ms with 153 columns",
        "with two hidden layers of 128 units.", "as the mean over the 306 days",
        'Behind "±" is half of the 95 % interval over three seeds',
    ],
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
