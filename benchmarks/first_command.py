"""How long the README's example takes, on an idle machine and beside two busy processes.

    DAYNIGHT_DATA=/data python benchmarks/first_command.py --out docs/results/speed/first_command.json

Each run is `python examples/mnist_nights.py` in a process of its own. With all of MNIST and with the 5,000 packaged
images, it has the threads that daynight chooses. With the packaged images, there are also runs with as many threads as
cores, which wait as daynight lets them wait ("all") or as by default, by computing ("spinning"), and runs with one
thread. Reported are the seconds of the processor, start and imports included, and those of the clock on the wall.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

from daynight.support.atomic import replacing

EXAMPLE = Path(__file__).parents[1] / "examples" / "mnist_nights.py"
BUSY = "while True: pass"
#: By name, variables of the environment.
ALL = dict.fromkeys(machine.ONE_THREAD, f"{len(os.sched_getaffinity(0))}")
THREADS = {"chosen": {}, "all": ALL, "spinning": {**ALL, "GOMP_SPINCOUNT": "300000"}, "one": machine.ONE_THREAD}


def main() -> None:
    """Run the example, and write what each run took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each kind (3)")
    parser.add_argument(
        "--data", nargs="+", default=["full", "sample"], choices=("full", "sample"), help="images (both)"
    )
    parser.add_argument("--threads", nargs="+", default=list(THREADS), choices=list(THREADS), help="see above (all)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the raw numbers, as JSON")
    settings = parser.parse_args()
    runs = []
    for _ in range(settings.repeats):
        for busy in (0, 2):
            for data, threads in (("full", "chosen"), *(("sample", threads) for threads in THREADS)):
                if data in settings.data and threads in settings.threads:
                    runs.append({"data": data, "threads": threads, "busy": busy, **timed(data, threads, busy)})
                    print(runs[-1], flush=True)
                    with replacing(settings.out) as path:
                        path.write_text(json.dumps({"machine": machine.describe(), "runs": runs}) + "\n")


def timed(data: str, threads: str, n_busy: int) -> dict[str, Any]:
    """Return the seconds that one run takes beside some busy processes."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_busy)]
    usual = {name: value for name, value in os.environ.items() if name not in machine.ONE_THREAD}
    try:
        with tempfile.TemporaryDirectory() as folder:
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [sys.executable, str(EXAMPLE), "--data", data, "--out", folder]
            subprocess.run(command, check=True, env=usual | THREADS[threads], stdout=subprocess.DEVNULL)
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        for process in busy:
            process.kill()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    for process in busy:
        process.wait()
    return {"cpu_seconds": round(used, 1), "wall_seconds": round(wall, 1)}


if __name__ == "__main__":
    main()
