import math

import numpy as np
import pytest

from daynight.errors import SettingError
from daynight.study import measures, paired, summarize

MATRIX = [[0.9, math.nan, math.nan], [0.8, 0.7, math.nan], [0.6, 0.75, 0.5]]


def test_summary_by_hand():
    # 1, 2, 3: standard deviation 1, standard error 1 / sqrt(3); t for 95 % and two degrees of freedom is 4.302653.
    found = summarize([1.0, 2.0, 3.0])
    assert (found.n, found.mean) == (3, 2.0)
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))
    assert found.high - 2 == pytest.approx(2 - found.low) == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    one = summarize([0.5])
    assert one.mean == 0.5
    assert math.isnan(one.standard_error)


def test_pairs_are_those_with_the_same_seed():
    found = paired({0: 0.9, 1: 0.8, 5: 0.1}, {1: 0.7, 0: 0.6, 2: 0.3})
    assert (found.n, found.mean) == (2, pytest.approx(0.2))
    with pytest.raises(SettingError, match="no seed has a run of both kinds"):
        paired({0: 1.0}, {1: 1.0})


@pytest.mark.parametrize("values", [[], [math.nan], [[1.0]]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(SettingError, match="one or more finite numbers"):
        summarize(values)
    with pytest.raises(SettingError, match="confidence must be above 0 and below 1"):
        summarize([1.0, 2.0], confidence=1.0)


def test_measures_by_hand():
    assert measures.average_accuracy(MATRIX) == pytest.approx((0.6 + 0.75 + 0.5) / 3)
    assert measures.backward_transfer(MATRIX) == pytest.approx(((0.6 - 0.9) + (0.75 - 0.7)) / 2)
    assert measures.forgetting(MATRIX) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.75)) / 2)
    assert measures.forward_transfer(MATRIX, [0.1, 0.6, 0.6]) == pytest.approx((0.1 - 0.1) / 2)
    assert measures.compression(0.6, 0.9) == pytest.approx(4.0)
    assert measures.backward_transfer([[0.5]]) == measures.forgetting([[0.5]]) == 0.0


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1.0, 2.0]], r"must have the shape \(tasks, tasks\), not \(1, 2\)"),
        ([[1.0, math.nan], [math.nan, 1.0]], "needs each finished task at each dawn"),
    ],
)
def test_matrices_with_holes_are_refused(matrix, message):
    for measure in (measures.average_accuracy, measures.backward_transfer, measures.forgetting):
        with pytest.raises(SettingError, match=message):
            measure(np.array(matrix))
    with pytest.raises(SettingError, match="an accuracy for each of the 3 tasks"):
        measures.forward_transfer(MATRIX, [1.0])


def test_what_is_no_number_is_refused():
    assert summarize({0: 1.0, 1: 2.0}.values()).mean == 1.5
    for values in (["a"], [[1.0], [1.0, 2.0]], 3):
        with pytest.raises(SettingError, match="summarize takes one or more finite numbers"):
            summarize(values)
    with pytest.raises(SettingError, match="paired: values by seed must be a Mapping, such as"):
        paired([1, 2], {0: 1.0})
    for matrix in ("x", [[1.0], [1.0, 0.5]]):
        with pytest.raises(SettingError, match="a matrix of accuracies must"):
            measures.forgetting(matrix)
    with pytest.raises(SettingError, match="forward_transfer needs an accuracy for each"):
        measures.forward_transfer([[1.0, 0.5], [0.9, 0.8]], [math.nan, 1.0])
