"""A study of many small runs, for tests that kill it: python study_script.py STORE LOG JOBS."""

import os
import sys
from pathlib import Path

from daynight.study import Study, grid
from daynight.testing import toy_stream


def slow_sum(stream, *, seed, a, b, log):
    with Path(log).open("a") as lines:
        lines.write(f"{a} {b} {seed}\n")
    print("begun\n", end="", flush=True)  # in one piece: others write as well
    total = 0.0
    for index in range(200_000):
        total += (a * index + b * seed) % 7
    return {"total": total, "n": len(stream)}


def endless(stream, *, seed):
    print("begun\n", end="", flush=True)  # in one piece: others write as well
    while True:
        pass


def runs(log):
    return grid(slow_sum, toy_stream, seeds=range(4), a=[1, 2, 3], b=[5, 7], log=log)


def alone(pipe, store, log, jobs):
    """Run the study in a process group of its own, with what it prints in a pipe."""
    os.setsid()
    os.dup2(pipe.fileno(), 1)
    pipe.close()
    sys.stdout = os.fdopen(1, "w", closefd=False)
    main(store, log, jobs)


def main(store, log, jobs):
    Study(store, jobs=int(jobs)).run(runs(log) if log != "endless" else grid(endless, toy_stream, seeds=range(2)))


if __name__ == "__main__":
    main(*sys.argv[1:])
