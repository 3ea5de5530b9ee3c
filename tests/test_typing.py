"""A program of a user's own, checked as strictly as mypy can."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import daynight

SAMPLE = """
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

import daynight as dn
from daynight.loggers import CSVLogger
from daynight.testing import toy_stream


class Halves(dn.SleepPolicy):
    def __init__(self, n: int) -> None:
        self.n = n

    def cycles(self, night: dn.Night) -> Generator[dn.Cycle, dn.Night, None]:
        for _ in range(self.n - 1):
            night = yield dn.Cycle(keep=max(night.density / 2, night.dawn_density), length=night.left / 2)
        yield dn.Cycle(keep="dawn", length=night.left)


def heard(event: dn.Record | dn.Progress) -> None:
    print(event.step)


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs, targets)


def main(folder: Path) -> np.ndarray:
    agent = dn.Agent(
        lambda: torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)),
        capacity=dn.Capacity(free_at_end=0.5, days=2),
        training=dn.Training(loss=loss, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)),
    )
    clock = dn.Clock(
        agent, toy_stream(2), policy=Halves(3), wake=dn.Epochs(1), night=dn.Seconds(0.1),
        on_event=[heard, CSVLogger(folder / "run.csv")], checkpoint=folder,
    )
    history = clock.run()
    owned: tuple[int, ...] = agent.owned
    print(owned, [record.owned for record in history.select(kind="day")])
    module: torch.nn.Module = agent.subnetwork(0, compact=True)
    outputs: torch.Tensor = module(torch.ones(1, 6))
    agent.save(folder / "agent.dn")
    upper, lower = dn.plots.hypnogram(history)
    dn.plots.save(upper, folder / "hypnogram.png")
    return history.accuracy + float(outputs.sum())
"""


def test_a_users_program_is_typed(tmp_path):
    package = Path(daynight.__file__).parent
    assert (package / "py.typed").is_file()
    environment = {**os.environ, "MYPYPATH": str(package.parent)}  # where mypy sees an editable installation, too
    wrong = SAMPLE.replace("dn.Epochs(1)", "1").replace("Halves(3)", "UniformCycles")
    for name, text in (("sample.py", SAMPLE), ("wrong.py", wrong)):
        (tmp_path / name).write_text(text)
    # With the settings by which the library is checked, so that one cache serves both.
    root = Path(__file__).parents[1]
    command = ["mypy", "--config-file", str(root / "setup.cfg"), "--cache-dir", str(root / ".mypy_cache")]

    def said(name):
        run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True)
        found = run([sys.executable, "-m", *command, name], check=False)
        return found.stdout + found.stderr

    right = said("sample.py")
    assert right.startswith("Success"), right
    assert 'Argument "wake" to "Clock" has incompatible type "int"' in said("wrong.py")
