"""PackNet of Avalanche (avalanche-lib 0.6.0), which `speed.py` compares with.

The setup is that of Avalanche's own reproduction of PackNet (continual-learning-baselines, split_tiny_imagenet):
`PackNetModel` around a network with a single head for the classes of all tasks, task labels, Adam at 1e-3, and the
`PackNet` strategy with `prune_proportion` and `post_prune_epochs`. Data loading is the default (no workers). It is
measured twice: with its own `SplitMNIST` and plain Adam, as its users run it, and, in its favour, with all images as
tensors in memory and the fused Adam. Nothing is logged.

Each night prunes the fraction r = p^(1/5) of the unfrozen weights of each layer, so that p is free after five days, as
with `Capacity`. Avalanche rounds the number of pruned weights of each layer down, and treats the head as one of these
layers, whereas heads are private in daynight. It has one prune a night (N = 1) and whole epochs. Pruned weights keep
their values until the next wake, and the state of Adam is kept through the prune; both are left as they are.

At p = 0.99 the head may keep only a few weights a task for ten outputs, and the accuracy collapses. `PackNetModel` does
not accept a head per task. One head of two outputs for all tasks has a higher accuracy (0.59 instead of 0.20 after
4 + 4 epochs).
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Examples = tuple[Tensor, Tensor]


def run(
    tasks: Sequence[tuple[Examples, Examples]] | str,
    free_at_end: float,
    epochs: int,
    budget: int,
    seed: int,
) -> dict[str, object]:
    """Learn the tasks one after another, and measure.

    Args:
        tasks: Training and test examples of each task: inputs (n, 784), targets (n,) with the classes 0 and 1. Or the
            folder of MNIST in torchvision's layout, from which Avalanche's own `SplitMNIST` reads image by image.
        free_at_end: p, the fraction of weights to be free after the last task.
        epochs: Epochs of each wake.
        budget: Epochs of each night.
        seed: Seed of the run.

    Raises:
        ModuleNotFoundError: If Avalanche is not installed.
    """
    warnings.filterwarnings("ignore")  # Avalanche and its dependencies warn about their own code
    from avalanche.benchmarks import SplitMNIST, tensors_benchmark
    from avalanche.core import BaseSGDPlugin
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.models.packnet import packnet_simple_mlp
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import PackNet

    class Timer(BaseSGDPlugin):  # type: ignore[misc]
        """Times epochs, without the prune that comes before one of them."""

        def __init__(self) -> None:
            super().__init__()
            self.seconds: list[float] = []

        def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            self.began = time.perf_counter()

        def after_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    if isinstance(tasks, str):
        n_days = 5
        benchmark = SplitMNIST(n_days, return_task_id=True, fixed_class_order=list(range(10)), dataset_root=tasks)
    else:
        n_days = len(tasks)
        benchmark = tensors_benchmark(
            train_tensors=[(x, y + 2 * index) for index, ((x, y), _) in enumerate(tasks)],
            test_tensors=[(x, y + 2 * index) for index, (_, (x, y)) in enumerate(tasks)],
            task_labels=list(range(n_days)),
        )
    began = time.perf_counter()
    torch.manual_seed(seed)
    model = packnet_simple_mlp(num_classes=2 * n_days, hidden_size=256, hidden_layers=2, drop_rate=0.0)
    strategy = PackNet(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3, fused=None if isinstance(tasks, str) else True),
        post_prune_epochs=budget,
        prune_proportion=math.pow(free_at_end, 1 / n_days),
        train_mb_size=128,
        train_epochs=epochs + budget,
        eval_mb_size=256,
        evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
    )
    timer = Timer()
    # The strategy's argument `plugins` becomes a list within the list of plugins, and is never called.
    strategy.plugins.append(timer)
    for experience in benchmark.train_stream:
        strategy.train(experience)
    results = strategy.eval(benchmark.test_stream)
    seconds = time.perf_counter() - began

    days = [timer.seconds[start : start + epochs + budget] for start in range(0, len(timer.seconds), epochs + budget)]
    layers = [module for module in model.modules() if hasattr(module, "task_index")]
    free = [int((layer.task_index == n_days).sum()) for layer in layers]
    sizes = [layer.task_index.numel() for layer in layers]
    return {
        "seconds": seconds,
        "wakes": [(second, 1.0) for day in days for second in day[:epochs]],
        "rems": [(second, 1.0) for day in days for second in day[epochs:]],
        "accuracy": [value for name, value in sorted(results.items()) if name.startswith("Top1_Acc_Exp/eval_phase")],
        "free_fraction": sum(free) / sum(sizes),
        "free_fraction_per_layer": [n / size for n, size in zip(free, sizes, strict=True)],
    }
