import contextlib
import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Task, Training
from daynight.errors import SettingError
from daynight.metrics import (
    OfLabels,
    WithinGroups,
    accuracy,
    adapted,
    label_accuracy,
    mean_squared_error,
    name_of,
    r_squared,
)
from daynight.storage.identity import describe, digest
from daynight.testing import toy_network, toy_stream
from daynight.training.settings import number


def test_accuracy_by_hand():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 4.0], [1.0, 0.0]])
    assert accuracy(outputs, torch.tensor([0, 1, 0, 0])) == 0.75


def test_mean_squared_error_by_hand():
    assert mean_squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])) == 2.5


def test_r_squared_by_hand():
    targets = torch.tensor([[0.0], [2.0]])
    assert r_squared(targets, targets) == 1.0
    assert r_squared(torch.ones(2, 1), targets) == 0.0
    assert r_squared(torch.tensor([[1.0], [2.0]]), targets) == pytest.approx(0.5)
    assert r_squared(torch.ones(2, 1), torch.ones(2, 1)) == 0.0


def test_label_accuracy_by_hand():
    outputs, targets = torch.tensor([[2.0, -1.0], [0.1, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert label_accuracy(outputs, targets) == 0.75
    assert label_accuracy(torch.tensor([[0.9, 0.4], [0.2, 0.6]]), targets, threshold=0.5) == 1.0


# The order of arguments


def relative_error(y_true, y_pred, *, sample_weight=None):
    """Depends on the order of its arguments, as `sklearn.metrics.r2_score` does."""
    return float(((y_true - y_pred).abs() / y_true.abs()).mean())


class Relative:
    def __call__(self, target, input):
        return relative_error(target, input)

    def method(self, labels, predictions):
        return relative_error(labels, predictions)


class RelativeLoss(nn.Module):
    def forward(self, targets, outputs):
        return ((targets - outputs).abs() / targets.abs()).mean()


OUTPUTS, TARGETS = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [4.0]])


@functools.wraps(relative_error)
def wrapped(*given):
    return relative_error(*given)


@pytest.mark.parametrize(
    "function",
    [
        relative_error, functools.partial(relative_error, sample_weight=None), wrapped, Relative(), Relative().method,
        RelativeLoss(), lambda true, outputs: relative_error(true, outputs, sample_weight=None),
    ],
)  # fmt: skip
def test_functions_that_name_their_targets_first_get_them_first(function):
    assert float(adapted(function)(OUTPUTS, TARGETS)) == pytest.approx((0.5 + 0.25) / 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda outputs, targets: relative_error(targets, outputs), lambda a, b: relative_error(b, a),
        lambda input, target: relative_error(target, input), lambda y_pred, y_true: relative_error(y_true, y_pred),
        lambda *both: relative_error(*reversed(both)),
        lambda target, labels: relative_error(labels, target),  # the names do not tell
    ],
)  # fmt: skip
def test_all_others_get_outputs_first(function):
    assert float(adapted(function)(OUTPUTS, TARGETS)) == pytest.approx((0.5 + 0.25) / 2)


@pytest.mark.parametrize("names", [
    ("actual", "predicted"), ("y", "p"), ("y", "logits"), ("y", "y_hat"), ("y", "yhat"), ("ground_truth", "x"),
    ("target", "x"), ("gt", "pred"), ("t", "o"), ("t", "y_pred"), ("labels", "scores"), ("target", "y"),
    ("expected", "actual_output"),
])  # fmt: skip
def test_more_names_of_targets(names):
    scope = {"relative_error": relative_error}
    exec("def turned({0}, {1}): return relative_error({0}, {1})".format(*names), scope)
    assert float(adapted(scope["turned"])(OUTPUTS, TARGETS)) == pytest.approx((0.5 + 0.25) / 2)


@pytest.mark.parametrize("names", [
    ("y", "t"), ("y", "y_true"), ("y", "d"), ("y", "target"), ("actual", "expected"), ("t", "y"), ("y", "yt"),
    ("p", "y"), ("x", "y"), ("y", ""),
])  # fmt: skip
def test_names_that_do_not_tell_leave_outputs_first(names):
    scope = {"relative_error": relative_error}
    first, second = names[0], names[1] or "*rest"
    exec(f"def kept({first}, {second}): return relative_error({second.replace('*rest', 'rest[0]')}, {first})", scope)
    assert float(adapted(scope["kept"])(OUTPUTS, TARGETS)) == pytest.approx((0.5 + 0.25) / 2)


class Gathers:
    def __init__(self):
        self.reset()

    def reset(self):
        self.found = []

    def compute(self):
        return sum(self.found) / len(self.found)


class TargetsFirst(Gathers):
    def update(self, y_true, y_pred):
        self.found.append(float(relative_error(y_true, y_pred)))


class TargetsSecond(Gathers):
    def update(self, preds, target):
        self.found.append(float(relative_error(target, preds)))


class Weighed(TargetsFirst):
    def update(self, actual, forecast, weight=1.0):
        super().update(actual, forecast)


class Wrapped(TargetsFirst):
    def __init__(self):
        super().__init__()
        own = self.update
        self.update = functools.wraps(own)(functools.partial(own))


@pytest.mark.parametrize("kind", [TargetsFirst, TargetsSecond, Weighed, Wrapped])
def test_objects_that_collect_get_what_their_update_names(kind):
    assert adapted(kind())(OUTPUTS, TARGETS) == pytest.approx((0.5 + 0.25) / 2)


def macro(y_true, y_pred, *, average="binary"):
    """Compare classes as arrays, as scikit-learn's functions do, and fail for scores."""
    if getattr(y_pred, "ndim", 1) != 1:
        raise ValueError("Classification metrics can't handle a mix of binary and continuous-multioutput targets")
    return float((y_true == y_pred).mean())


def each(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


@pytest.mark.parametrize(("settings", "advice"), [
    ({"metric": macro}, r"It compares classes: give daynight\.metrics\.OfLabels\(macro\)"),
    ({"metric": functools.partial(macro, average="macro")}, r"daynight\.metrics\.OfLabels\(macro\)"),
    ({"metric": OfLabels}, r"It is a class: make an instance of it and give that, such as metric=OfLabels\(\.\.\.\)"),
    ({"metric": TargetsSecond}, r"It is a class: .* metric=TargetsSecond\("),
    ({"loss": nn.CrossEntropyLoss}, r"It is a class: .* loss=CrossEntropyLoss\("),
    ({"loss": nn.NLLLoss}, r"It is a class: .* loss=NLLLoss\("),
    ({"loss": each}, r"It returned \(7,\) values: return their mean"),
    ({"loss": nn.CrossEntropyLoss(reduction="none")}, r'It returned \(7,\) values: .*reduction="mean"'),
    ({"metric": lambda outputs, targets: outputs}, r"It returned \(\d+, 2\) values: return their mean"),
    ({"loss": nn.MSELoss()}, "Whole-number targets are labels; for regression"),
])  # fmt: skip
def test_errors_about_losses_and_metrics_say_what_to_do(settings, advice):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=10, **settings))
    with pytest.raises(SettingError, match=f"must give one number .* It failed: .*{advice}") as error:
        agent.check(toy_stream(1)[0])
    assert str(error.value).count("Whole-number") == advice.startswith("Whole")


def share_of_ones(outputs, targets):
    """Return the recall of class 1, which is not defined without examples of it."""
    ones = targets == 1
    return float((outputs.argmax(1)[ones] == 1).float().mean())


def correlation(outputs, targets):
    pairs = torch.stack([outputs[:, 0] - outputs[0, 0], targets.to(outputs)])
    return float(torch.corrcoef(pairs)[0, 1])


def zeros():
    network = toy_network()
    nn.init.zeros_(network.body[1].weight)
    return network


@pytest.mark.parametrize(("metric", "labels", "is_warned"), [
    (lambda outputs, targets: float("nan"), [0, 1], True), (share_of_ones, [0, 0], True), (correlation, [0, 0], True),
    (share_of_ones, [0, 1], False), (correlation, [0, 1], False),
    (lambda outputs, targets: float(outputs.mul(-1).log().mean()), [0, 1], True),
    (lambda outputs, targets: float(outputs.abs().log().mean()), [0, 1], False),
])  # fmt: skip
def test_metrics_that_give_no_number_are_warned_of(metric, labels, is_warned):
    inputs, trained = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    task = Task(train=(inputs, trained), test=(inputs, torch.tensor(labels).repeat(10)), n_outputs=2, name="odd")
    agent = Agent(zeros, capacity=Capacity(free_at_end=0.5, days=1), training=Training(batch_size=10, metric=metric))
    with pytest.warns(UserWarning, match=r"odd.*: the metric gives NaN") if is_warned else contextlib.nullcontext():
        agent.check(task)


@pytest.mark.parametrize("loss", [nn.KLDivLoss(reduction="batchmean"), functional.poisson_nll_loss, torch.sub])
def test_functions_of_pytorch_get_outputs_first(loss):
    assert torch.equal(adapted(loss)(OUTPUTS, TARGETS), loss(OUTPUTS, TARGETS))


def regression(n_values=1, n_outputs=None, n=40):
    inputs = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :n_values] * 2 + 5
    return Task(train=(inputs[:30], targets[:30]), test=(inputs[30:], targets[30:]), n_outputs=n_outputs)


def scored(task, **training):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), seed=2,
                  training=Training(batch_size=10, **training))  # fmt: skip
    clock = Clock(agent, [task], policy=OneShot(), wake=Epochs(2), night=Epochs(2))
    clock.run()
    return clock


def test_a_score_in_either_order_is_the_same():
    task = regression()
    one, two = scored(task, metric=relative_error), scored(task, metric=lambda o, t: relative_error(t, o))
    assert one.history.accuracy[0, 0] == two.history.accuracy[0, 0]
    inputs, targets = task.test.load()
    expected = relative_error(targets, one.agent.predict(inputs, 0))
    assert one.history.accuracy[0, 0] == pytest.approx(expected, rel=1e-6)


def test_a_loss_with_targets_first_is_learnt_as_it_says():
    def backwards(y_true, y_pred):
        return ((y_true - y_pred) / y_true).square().mean()

    def forwards(outputs, targets):
        return ((targets - outputs) / targets).square().mean()

    task = regression()
    one, two = (scored(task, loss=loss).agent.network.weights for loss in (backwards, forwards))
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())


# Objects that accumulate


class Share(nn.Module):
    """Collects batches, as the accuracy of torchmetrics: `forward` returns that of the batch, and adds it."""

    def __init__(self, threshold=None):
        super().__init__()
        self.threshold = threshold
        self.reset()

    def reset(self):
        self.n_right, self.n = 0, 0

    def update(self, preds, target):
        self.n_right += int((preds.argmax(1) == target).sum())
        self.n += len(target)

    def compute(self):
        return torch.tensor(self.n_right / self.n)

    def forward(self, preds, target):
        self.update(preds, target)
        return torch.tensor(float((preds.argmax(1) == target).float().mean()))


class Keeping:
    """Keeps all that it was given, as an area under a curve does, and cannot be called, as those of torcheval."""

    def __init__(self):
        self.kept = []

    def reset(self):
        self.kept.clear()

    def update(self, input, target):
        self.kept.append((input, target))

    def compute(self):
        outputs, targets = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        return accuracy(outputs, targets)


class Shares(Share):
    """Returns more than a number."""

    def compute(self):
        return {"share": super().compute()}


@pytest.mark.parametrize("kind", [Share, Keeping])
def test_metrics_that_accumulate_give_what_a_function_gives(kind):
    task, metric = toy_stream(1)[0], kind()
    metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))  # what it has collected before does not count
    before = digest(describe(metric))
    assert before == digest(describe(kind()))
    expected, found = scored(task), scored(task, metric=metric)
    assert found.history.accuracy[0, 0] == expected.history.accuracy[0, 0]
    assert found.history.scores("dusk")[0, 0] == expected.history.scores("dusk")[0, 0]
    assert digest(describe(metric)) == before
    assert not (metric.kept if kind is Keeping else metric.n)


def test_settings_of_metrics_that_accumulate_are_told_apart():
    assert digest(describe(Share())) != digest(describe(Share(0.5)))


def test_a_description_leaves_alone_what_a_metric_has_collected():
    metric = Share()
    metric.update(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    describe(metric)
    assert metric.n == 1


@pytest.mark.parametrize("kind", [Share, Keeping])
def test_a_run_with_a_metric_that_accumulates_is_resumed_in_the_same_process(kind, tmp_path):
    training = Training(batch_size=10, metric=kind())

    def clock(folder):
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.6, days=2), training=training)
        return Clock(agent, toy_stream(2), policy=OneShot(), wake=Epochs(1), night=Epochs(1), checkpoint=folder)

    clock(tmp_path / "a").run(until=1)
    again = clock(tmp_path / "a").run()
    assert again.accuracy.tolist()[1] == clock(tmp_path / "b").run().accuracy.tolist()[1]


def test_metrics_of_more_than_a_number_are_refused():
    with pytest.raises(SettingError, match=r"the metric must give one number .* It failed: TypeError"):
        scored(toy_stream(1)[0], metric=Shares())


# Labels


def macro_f1(y_true, y_pred, average="binary"):
    """Give the F1 score of NumPy arrays of classes: the mean over classes, or that of class 1."""
    assert y_true.ndim == y_pred.ndim == 1
    assert y_pred.dtype == y_true.dtype == "int64"
    found = []
    for label in [1] if average == "binary" else sorted(set(y_true) | set(y_pred)):
        n_both = ((y_true == label) & (y_pred == label)).sum()
        found.append(2 * n_both / ((y_true == label).sum() + (y_pred == label).sum()))
    return sum(found) / len(found)


def test_metrics_of_labels_get_the_classes_of_the_largest_outputs():
    outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 4.0], [1.0, 0.0]])
    targets = torch.tensor([0, 1, 0, 0])
    assert number("metric", OfLabels(macro_f1), outputs, targets) == pytest.approx(2 / 3)
    assert OfLabels(macro_f1, average="macro")(outputs, targets) == pytest.approx((2 / 3 + 0.8) / 2)
    assert digest(describe(OfLabels(macro_f1))) != digest(describe(OfLabels(macro_f1, average="macro")))
    task = toy_stream(1)[0]
    clock = scored(task, metric=OfLabels(macro_f1, average="macro"))
    inputs, targets = task.test.load()
    expected = macro_f1(targets.numpy(), clock.agent.predict(inputs, 0).argmax(1).numpy(), average="macro")
    assert clock.history.accuracy[0, 0] == pytest.approx(expected)


def several_labels():
    inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    labels = (inputs[:, :3] > 0).float()
    return Task(train=(inputs[:40], labels[:40]), test=(inputs[40:], labels[40:]), n_outputs=3)


@pytest.mark.parametrize(
    "loss",
    [
        nn.BCEWithLogitsLoss(), functional.binary_cross_entropy_with_logits, nn.MultiLabelSoftMarginLoss(),
        functools.partial(functional.binary_cross_entropy_with_logits, pos_weight=torch.tensor([1.0, 2.0, 1.0])),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*all targets are 0.0 or 1.0")
def test_examples_with_several_labels_are_scored_by_the_share_of_labels_that_are_right(loss):
    task = several_labels()
    clock = scored(task, loss=loss)
    inputs, targets = task.test.load()
    expected = float(((clock.agent.predict(inputs, 0) > 0) == (targets > 0.5)).double().mean())
    assert clock.history.accuracy[0, 0] == expected
    assert clock.history.scores("dusk")[0, 0] > 0.4


@pytest.mark.filterwarnings("ignore:.*all targets are 0.0 or 1.0")
def test_probabilities_of_several_labels_are_scored_at_one_half():
    class Probabilities(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.head = nn.Linear(6, 12), nn.Linear(12, 3)

        def forward(self, inputs):
            return torch.sigmoid(self.head(torch.relu(self.a(inputs))))

    task = several_labels()
    for loss in (nn.BCELoss(), functional.binary_cross_entropy):
        agent = Agent(Probabilities, capacity=Capacity(free_at_end=0.5, days=1), training=Training(
            batch_size=10, loss=loss))  # fmt: skip
        history = Clock(agent, [task], policy=OneShot(), wake=Epochs(2), night=Epochs(2)).run()
        inputs, targets = task.test.load()
        expected = float(((agent.predict(inputs, 0) > 0.5) == (targets > 0.5)).double().mean())
        assert history.accuracy[0, 0] == expected


@pytest.mark.filterwarnings("ignore:.*all targets are 0.0 or 1.0")
def test_a_metric_that_is_given_stands_before_the_usual_one():
    task = several_labels()
    clock = scored(task, loss=nn.BCEWithLogitsLoss(), metric=mean_squared_error)
    inputs, targets = task.test.load()
    assert clock.history.accuracy[0, 0] == pytest.approx(mean_squared_error(clock.agent.predict(inputs, 0), targets))


def test_labels_with_a_loss_of_ones_own_are_warned_of():
    def own(outputs, targets):
        return functional.binary_cross_entropy_with_logits(outputs, targets)

    task = several_labels()
    with pytest.warns(
        UserWarning, match=r"the loss is your own, .* Training\(metric=daynight.metrics.label_accuracy\)"
    ):
        scored(task, loss=own)
    assert scored(task, loss=own, metric=label_accuracy).history.accuracy[0, 0] > 0.4


def f1_score(outputs, targets):
    return 0.5


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (accuracy, "accuracy"),
        (functools.partial(label_accuracy, threshold=0.5), "label accuracy"),
        (adapted(f1_score), "f1 score"),
        (WithinGroups(f1_score, [2, 2]), "f1 score"),
        (OfLabels(f1_score), "f1 score"),
        (lambda outputs, targets: 0.5, None),
        (nn.CosineSimilarity(), "CosineSimilarity"),
        (type("a\nb", (), {"__call__": f1_score})(), None),
        (type("x" * 61, (), {"__call__": f1_score})(), None),
    ],
)
def test_the_name_of_a_metric(metric, name):
    assert name_of(metric) == name
