"""A clock that is stopped anywhere, and goes on from its checkpoint, ends as if it had not been."""

import itertools
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from resumable import Dropping, Killed, Killer, clock, outcome, resumed, sgd
from torch.utils.data import Dataset

from daynight import (
    Controlled,
    Epochs,
    GradualPruning,
    LazyDataset,
    NoSleep,
    Rated,
    Rewound,
    Task,
    TaskStream,
    UniformCycles,
    criteria,
    rates,
)
from daynight.testing import toy_stream

pytestmark = pytest.mark.usefixtures("at_every_step")


def falling(optimizer, n_steps):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=n_steps + 1)


def steps(optimizer, n_steps):
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5], gamma=0.5)


def noisy(inputs):
    """Draw from the global generators of Python, NumPy and PyTorch."""
    noise = torch.from_numpy(np.random.normal(size=inputs.shape)).float()  # noqa: NPY002
    return inputs + random.random() * noise + 0.1 * torch.randn_like(inputs)


class Pairs(Dataset):
    def __init__(self, split):
        self.pairs = list(zip(split.inputs, split.targets, strict=True))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


def lazy_stream(n):
    return TaskStream(
        [Task(train=LazyDataset(Pairs(task.train)), test=task.test, n_outputs=2) for task in toy_stream(n)]
    )


SETTINGS = {
    "plain": {},
    "momentum and decay": {"training": {"optimizer": sgd}},
    "scheduler": {"training": {"scheduler": falling}},
    "scheduler of steps": {"training": {"scheduler": steps, "optimizer": sgd}},
    "carried": {"training": {"carry_optimizer": True, "optimizer": sgd, "scheduler": falling}},
    "carried Adam": {"training": {"carry_optimizer": True}},
    "clipped": {"training": {"clip_norm": 0.5}},
    "by module": {"training": {"engine": "module"}},
    "sparse": {"training": {"engine": "sparse"}},
    "dropout and norms": {"network": Dropping},
    "redraw": {"restart": "redraw"},
    "keep": {"restart": "keep"},
    "shared biases": {"biases": "freeze-after-first"},
    "rehearse": {"consolidation": "rehearse"},
    "fine-tune": {"consolidation": "fine-tune"},
    "movement": {"criterion": criteria.movement},
    "bfloat16": {"training": {"autocast": torch.bfloat16}},
    "noisy": {"training": {"augment": noisy}},
    "lazy": {"make_stream": lazy_stream},
    "many short cycles": {"policy": GradualPruning(4, 0.5)},
    "falling rates": {"policy": Rated(UniformCycles(2), rates.Linear())},
    "rewinding": {"policy": Rewound(UniformCycles(2), to=0.5)},
    "reacting": {"policy": Controlled(0.01, 0.2)},
    "no REM": {"policy": NoSleep()},
    "price": {"night": Epochs(2, price=0.2)},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_killed_at_any_step_ends_as_if_it_had_not_been(name, tmp_path):
    settings = SETTINGS[name]
    whole = clock(**settings)
    whole.run()
    wanted = outcome(whole)
    for n_lives in itertools.count(1):
        again = resumed(tmp_path, Killer(4 + n_lives % 3), **settings)
        try:
            again.run()
        except Killed:
            continue
        break
    assert n_lives > 4
    assert outcome(again) == wanted


def test_a_process_killed_at_random_moments_goes_on_to_the_same_end():
    script = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    command = [sys.executable, script, "--kills", "5", "--data", "sample", "--epochs", "3", "--jobs", "2"]
    found = subprocess.run(command, capture_output=True, check=False, text=True)
    assert "5 of 5 ended bit for bit like the run that was not killed." in found.stdout, found.stdout + found.stderr
    assert found.returncode == 0
