"""Two libraries of the wider field beside daynight, on split MNIST: SparseLab and clarena.

Neither does what daynight does. Each is run with the settings of its own documentation, on the same examples, network
(784:256:256, and a head of two outputs for each task), batches of 128 and number of optimizer steps:

- **daynight**: PackNet with Adam at 1e-3; p = 0.95 of the weights are free after the five days.
- **SparseLab** trains sparse networks from scratch and knows no tasks. RigL moves 30 % of the weights each 100 steps.
  Five networks, one a task, have 10 % of their weights and learn by SGD at 0.01, as in its examples for MNIST; or 1 %,
  so that they have as many weights together as daynight's tasks, and learn by Adam at 1e-3. One network with 5 % learns
  the tasks one after another.
- **clarena**: HAT (hard attention to the task) with Adam at 1e-3. For s_max = 400, the factor 0.75 and the threshold 50
  its documentation refers to the authors of HAT. clarena's WSN cannot be trained: the backward pass of its masks
  returns nothing, which PyTorch 2.14.1 refuses ("returned an incorrect number of gradients").

SparseLab and clarena see images as their own loaders give them (mean and deviation of MNIST), daynight from 0 to 1.

Install both in an environment of their own, beside daynight and its extra ``sample``:

    pip install torch==2.14.1 torchvision==0.29.1 sparselab==0.2.2 clarena==1.1.0
    DAYNIGHT_DATA=/data OMP_NUM_THREADS=1 python benchmarks/field.py --out docs/results/field.csv

A run takes up to a minute of one core with MNIST in full. Runs that the file has are left out. Seconds are CPU seconds
of the whole run, with the accuracy of all past tasks after each. Lightning's progress bars, logs and files are off.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lives
import torch
from torch import Tensor, nn
from torch.nn import functional

import daynight as dn

WIDTHS, BATCH, FREE_AT_END = (784, 256, 256), 128, 0.95
N_WEIGHTS = 784 * 256 + 256 * 256
SETTINGS = ("way", "wake", "night", "seed")
COLUMNS = (*SETTINGS, "accuracy", "by_task", "when_learnt", "owned", "capacity", "steps", "seconds")
#: Inputs (n, 784) and targets (n,) to learn from, and to be tested on.
Examples = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
Epochs = tuple[int, int]
Optimizer = Callable[..., torch.optim.Optimizer]


def examples_of(stream: dn.TaskStream) -> list[Examples]:
    """Return the examples of each task, with the mean and deviation of MNIST taken out."""

    def flat(split: Any) -> tuple[Tensor, Tensor]:
        inputs, targets = split.load()
        return (inputs.flatten(1) - 0.1307) / 0.3081, targets

    return [(flat(task.train), flat(task.test)) for task in stream]


def row(matrix: Sequence[Sequence[float]], owned: int, steps: int, seconds: float) -> dict[str, Any]:
    """Return the columns of a run from the accuracy of each task after each task."""
    return {
        "accuracy": f"{100 * sum(matrix[-1]) / len(matrix[-1]):.3f}",
        "by_task": " ".join(f"{100 * score:.2f}" for score in matrix[-1]),
        "when_learnt": " ".join(f"{100 * scores[day]:.2f}" for day, scores in enumerate(matrix)),
        "owned": owned, "capacity": N_WEIGHTS, "steps": steps, "seconds": f"{seconds:.1f}",
    }  # fmt: skip


def right(outputs: Tensor, targets: Tensor) -> float:
    """Return the share of outputs (n, 2) whose largest is the target (n,)."""
    return float((outputs.argmax(1) == targets).float().mean())


def daynight(policy: Callable[[], dn.SleepPolicy], stream: dn.TaskStream, epochs: Epochs, seed: int) -> dict[str, Any]:
    """Live five days with a policy."""
    began = time.process_time()
    agent = dn.Agent(
        lambda: dn.models.MLP(*WIDTHS), seed=seed, training=dn.Training(batch_size=BATCH),
        capacity=dn.Capacity(free_at_end=FREE_AT_END, days=len(stream)),
    )  # fmt: skip
    wake, night = map(dn.Epochs, epochs)
    history = dn.Clock(agent, stream, policy=policy(), wake=wake, night=night).run()
    return row(history.accuracy.tolist(), sum(agent.owned), agent.n_steps, time.process_time() - began)


def sparselab(
    optimizer: Optimizer, n_networks: int, density: float, stream: dn.TaskStream, epochs: Epochs, seed: int
) -> dict[str, Any]:
    """Train as many sparse networks as tasks, or one that learns the tasks in turn, with a head for each task."""
    import sparselab as library

    tasks, matrix, steps = examples_of(stream), [], 0
    torch.manual_seed(seed)
    began = time.process_time()
    sparsity = 1 - density

    def body() -> nn.Sequential:
        first, second = (library.SparseLinear(*pair, sparsity=sparsity) for pair in itertools.pairwise(WIDTHS))
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())

    bodies = [body() for _ in range(n_networks)] * (len(tasks) // n_networks)
    heads = [nn.Linear(WIDTHS[-1], 2) for _ in tasks]
    for day, ((inputs, targets), _) in enumerate(tasks):
        network = nn.Sequential(bodies[day], heads[day])
        rule, stepper = library.RigL(sparsity=sparsity, seed=seed), optimizer(network.parameters())
        network.apply(rule)
        for _ in range(sum(epochs)):
            for index in torch.randperm(len(inputs)).split(BATCH):
                stepper.zero_grad()
                functional.cross_entropy(network(inputs[index]), targets[index]).backward()
                stepper.step()
                rule.step()
                steps += 1
        with torch.no_grad():
            matrix.append([
                right(heads[past](bodies[past](tasks[past][1][0])), tasks[past][1][1]) for past in range(day + 1)
            ])  # fmt: skip
    owned = sum(module.nnz for each in bodies[:n_networks] for module in each[::2])
    return row(matrix, owned, steps, time.process_time() - began)


def clarena(stream: dn.TaskStream, epochs: Epochs, seed: int) -> dict[str, Any]:
    """Learn with hard attention to the task, by clarena's classes and Lightning's trainer."""
    import lightning
    from clarena.backbones import HATMaskMLP
    from clarena.cl_algorithms import HAT
    from clarena.heads import HeadsTIL
    from torch.utils.data import DataLoader, TensorDataset

    warnings.filterwarnings("ignore")  # Lightning's hints about loaders
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    tasks, matrix, steps = examples_of(stream), [], 0
    lightning.seed_everything(seed)
    began = time.process_time()
    model = HAT(
        HATMaskMLP(WIDTHS[0], list(WIDTHS[1:-1]), WIDTHS[-1], gate="sigmoid"), HeadsTIL(WIDTHS[-1]),
        adjustment_mode="hat", s_max=400, clamp_threshold=50, mask_sparsity_reg_factor=0.75,
    )  # fmt: skip
    for day, (train, _) in enumerate(tasks):
        model.setup_task_id(day + 1, 2, functools.partial(torch.optim.Adam, lr=1e-3), None)
        trainer = lightning.Trainer(
            max_epochs=sum(epochs), accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, DataLoader(TensorDataset(*train), batch_size=BATCH, shuffle=True))
        steps += trainer.global_step
        with torch.no_grad():
            matrix.append([
                right(model.forward(tasks[past][1][0], "test", past + 1)[0], tasks[past][1][1])
                for past in range(day + 1)
            ])  # fmt: skip
    owned = 0
    for name in model.backbone.weighted_layer_names:
        frozen, _ = model.backbone.get_layer_measure_parameter_wise(
            model.cumulative_mask_for_previous_tasks, name, "min"
        )
        owned += int(frozen.sum())
    return row(matrix, owned, steps, time.process_time() - began)


SGD, ADAM = functools.partial(torch.optim.SGD, lr=0.01), functools.partial(torch.optim.Adam, lr=1e-3)
WAYS: dict[str, Callable[[dn.TaskStream, Epochs, int], dict[str, Any]]] = {
    "daynight, one prune a night": functools.partial(daynight, dn.OneShot),
    "daynight, recommended": functools.partial(daynight, dn.recommended_policy),
    "clarena, HAT": clarena,
    "SparseLab, five networks of 10 %, SGD": functools.partial(sparselab, SGD, 5, 0.1),
    "SparseLab, five networks of 1 %, Adam": functools.partial(sparselab, ADAM, 5, 0.01),
    "SparseLab, one network of 5 %, Adam": functools.partial(sparselab, ADAM, 1, 0.05),
}


def main() -> None:
    """Make the runs that the file does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="CSV", help="the rows; a command that was cut off continues them")
    add("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY", help="what to run (all)")
    add("--wake", type=int, default=3, metavar="E", help="epochs of each wake (3)")
    add("--night", type=int, default=6, metavar="E", help="epochs of each night (6); the others train for both")
    add("--first", type=int, default=0, help="the first seed (0)")
    add("--seeds", type=int, default=3, metavar="N", help="number of seeds (3)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    stream = dn.split_mnist()
    wanted = [
        {"way": way, "wake": given.wake, "night": given.night, "seed": seed}
        for seed in range(given.first, given.first + given.seeds) for way in given.ways
    ]  # fmt: skip

    def live(run: dict[str, Any]) -> dict[str, Any]:
        with contextlib.redirect_stderr(io.StringIO()):  # Lightning's seeds and devices
            return WAYS[run["way"]](stream, (run["wake"], run["night"]), run["seed"])

    lives.complete(given.out, stream.source, COLUMNS, wanted, live)


if __name__ == "__main__":
    main()
