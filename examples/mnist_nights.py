"""Five days of MNIST: learn two digits a day, and each night keep only a few of the weights.

Takes about half a minute, less than a minute on a busy machine, and about two minutes with
``--paper``. Writes report.html, hypnogram.png, capacity.png, history.csv and result.json into the folder --out.
"""

from __future__ import annotations

import argparse
import json
import sys

import matplotlib
import torch

import daynight as dn
from daynight.errors import DaynightError, SettingError
from daynight.networks.masked import FREE
from daynight.support.atomic import check_folder, replacing

HIDDEN = (256, 256)  # units
BATCH_SIZE = 128  # examples
DEFAULTS = {  # epochs of each wake, epochs of each night, cycles a night
    "full": {"epochs": 3.0, "budget": 6.0, "rounds": 4},
    "sample": {"epochs": 20.0, "budget": 40.0, "rounds": 4},
    "paper": {"epochs": 72.0, "budget": 72.0, "rounds": 1},
}
TITLE = "Five days of MNIST"
VALIDATION = 0.1  # share of the training data that is held out, for the figure; none with --paper


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", choices=("auto", "full", "sample"), default="auto", help="all of MNIST, or 5,000 images")
    add("--epochs", type=float, metavar="E", help="epochs of each wake (3; of the sample 20)")
    add("--budget", type=float, metavar="B", help="epochs of each night (6; of the sample 40)")
    add("--paper", action="store_true", help="as in the paper: 72 and 72 epochs, N = 1, all training data")
    add("--rounds", type=int, metavar="N", help="cycles a night (4; with --paper 1)")
    add("--free", type=float, default=0.95, metavar="P", help="fraction still free after the last day (0.95)")
    add("--share", choices=("equal", "need"), default="equal", help="what each task keeps (equal)")
    add("--biases", choices=("per-task", "freeze-after-first"), default="per-task")
    add("--seed", type=int, default=0)
    add("--out", default="mnist_nights", help="output folder (mnist_nights)")
    return parser.parse_args()


def main() -> None:
    settings = parse()
    if settings.epochs == settings.budget == 0:
        raise SettingError("--epochs and --budget are both 0, so there is nothing to learn or draw. Raise one of them.")
    out = check_folder(settings.out)
    stream = dn.split_mnist(data=settings.data)
    print(f"Data: {stream.source}.", flush=True)
    n_train = stream.n_train
    kind = "paper" if settings.paper else "full" if n_train > 10_000 else "sample"
    if settings.epochs is None and settings.budget is None:
        long = "about two minutes" if kind == "paper" else "about half a minute, or up to a minute on a busy machine"
        print(f"This takes {long}.", flush=True)
    for name, default in DEFAULTS[kind].items():
        if getattr(settings, name) is None:
            setattr(settings, name, default)
    stream = stream if settings.paper else stream.hold_out(VALIDATION, settings.seed)
    agent = dn.Agent(
        lambda: dn.models.MLP(28 * 28, *HIDDEN),
        capacity=dn.Capacity(free_at_end=settings.free, days=len(stream), share=settings.share),
        training=dn.Training(batch_size=BATCH_SIZE),
        biases=settings.biases,
        seed=settings.seed,
    )
    policy, wake, night = dn.UniformCycles(settings.rounds), dn.Epochs(settings.epochs), dn.Epochs(settings.budget)
    about = "; ".join([
        stream.source, f"{HIDDEN} hidden units, batches of {BATCH_SIZE}", f"{policy!r}, wake {wake!r}, night {night!r}",
        f"{settings.free:g} free at the end, shares {settings.share}, biases {settings.biases}, seed {settings.seed}",
    ])  # fmt: skip
    at_dawn = []  # each task's predictions on its test images

    def remember(event: dn.Record | dn.Progress) -> None:
        if isinstance(event, dn.Record) and event.kind == "day":
            at_dawn.append(agent.predict(stream[event.day].test.inputs, event.day))

    clock = dn.Clock(agent, stream, policy=policy, wake=wake, night=night, on_event=remember, progress=True)
    history = clock.run()
    unmoved = [
        torch.equal(agent.predict(task.test.inputs, index), before)
        for index, (task, before) in enumerate(zip(stream, at_dawn, strict=True))
    ]
    days = history.select(kind="day")
    seconds = sum(day.elapsed_seconds or 0.0 for day in days)
    dawn, end = history.accuracy.diagonal(), history.accuracy[-1]
    print(f"\n{'task':>5} {'at its dawn':>12} {'at the end':>11} {'weights owned':>14} {'private':>8}")
    for task, day in zip(stream, days, strict=True):
        print(f"{task.name:>5} {dawn[day.day]:>12.4f} {end[day.day]:>11.4f} {day.owned:>14,} {day.private:>8,}")
    print(f"{'mean':>5} {dawn.mean():>12.4f} {end.mean():>11.4f}")
    print(f"{agent.n_free:,} of {agent.n_weights:,} weights are free ({agent.n_free / agent.n_weights:.4%}).")
    print(f"Predictions that are bitwise those at dawn: {sum(unmoved)} of {len(unmoved)} tasks.")
    result = {
        "title": TITLE,
        "about": about,
        "metric": history.metric,
        "mean_accuracy": end.mean(),
        "accuracy": {task.name: score for task, score in zip(stream, end, strict=True)},
        "free_fraction": agent.n_free / agent.n_weights,
        "free_per_layer": agent.network.count(FREE),
        "predictions_bitwise_those_at_dawn": all(unmoved),
        "owned": {task.name: n for task, n in zip(stream, agent.owned, strict=True)},
        "private": {task.name: day.private for task, day in zip(stream, days, strict=True)},
        "steps": agent.n_steps,
        "seconds": round(seconds, 1),
        "data": stream.source,
        "n_train": n_train,
        "n_validation": n_train - stream.n_train,
        "settings": vars(settings),
    }
    history.to_csv(out / "history.csv")
    with replacing(out / "result.json") as path:
        path.write_text(json.dumps(result, indent=1) + "\n")
    history.report(out / "report.html", title=TITLE, about=about)
    dn.plots.save(dn.plots.hypnogram(history), out / "hypnogram.png")
    dn.plots.save(dn.plots.capacity(history), out / "capacity.png")
    print(f"Wrote report.html, two figures, history.csv and result.json into {out}/ ({seconds:.0f} s).")


if __name__ == "__main__":
    matplotlib.use("Agg")
    try:
        main()
    except DaynightError as error:
        sys.exit(f"mnist_nights: {error}")
