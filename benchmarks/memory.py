"""Where the memory of two days goes: the most bytes in use in each phase, over those of a plain loop.

    python benchmarks/memory.py --network resnet18

The life and the plain loop are those of `steps.py`, whose figures are of the whole process, with what the heap keeps of
freed memory. Here, a thread asks the C library every millisecond how many bytes are allocated, so that peaks of less
than that may be missed. Each is measured in a process of its own, on Linux with glibc. Beside a peak stands the
function of daynight at which it was seen.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import steps
import torch

from daynight.history import Event

N_EPOCHS, KEEP = 2, 0.01
SIZES = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip


class Allocated(ctypes.Structure):
    """What glibc's ``mallinfo2`` returns: ten sizes."""

    _fields_ = [(name, ctypes.c_size_t) for name in SIZES]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18", choices=steps.NETWORKS, help=f"{list(steps.NETWORKS)}")
    parser.add_argument("--of", choices=("plain loop", "life"), help=argparse.SUPPRESS)  # in a process of its own
    return parser.parse_args()


def main() -> None:
    """Measure both, and print the peaks of the phases."""
    settings = parse()
    if settings.of:
        torch.set_num_threads(1)
        print(json.dumps(peaks(settings.network, settings.of)))
        return
    found = {}
    for what in ("plain loop", "life"):
        command = [sys.executable, str(Path(__file__).resolve()), "--network", settings.network, "--of", what]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found[what] = json.loads(done.stdout)
    plain = max(size for size, _ in found["plain loop"].values())
    print(f"plain loop: {plain / machine.MIB:.0f} MiB in use at the peak")
    for phase, (size, place) in found["life"].items():
        print(f"{phase}: {size / machine.MIB:.0f} MiB, {size / plain:.2f} of it, in {place}")


def peaks(network: str, what: str) -> dict[str, tuple[int, str]]:
    """Return the most bytes in use above those at the start, and where, by the phase that the last event has named."""
    make, shape = steps.NETWORKS[network]
    inputs = torch.rand(steps.BATCH * steps.N_STEPS, *shape, generator=torch.Generator().manual_seed(0))
    data, now = (inputs, torch.arange(len(inputs)) % 2), ["before the first event"]
    in_use, main_thread, found = counter(), threading.get_ident(), dict[str, tuple[int, str]]()
    before, is_over = in_use(), threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            size = in_use() - before
            if size > found.get(now[0], (0, ""))[0]:
                found[now[0]] = size, place_of(sys._current_frames().get(main_thread))
            time.sleep(0.001)

    def hear(event: Event) -> None:
        now[0] = f"after {type(event).__name__.lower()} of day {event.day}, {event.phase}"

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        if what == "life":
            steps.live(make, data, N_EPOCHS, KEEP, hear)
        else:
            epoch = steps.plain_loop(make, data)
            for _ in range(N_EPOCHS):
                epoch()
    finally:
        is_over.set()
        watcher.join()
    return found


def counter() -> Callable[[], int]:
    """Return a function that returns the number of allocated bytes."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Allocated

    def in_use() -> int:
        found = library.mallinfo2()
        return int(found.uordblks + found.hblkhd)

    return in_use


def place_of(frame: Any) -> str:
    """Return the innermost function of daynight in a stack."""
    while frame is not None:
        code = frame.f_code
        if "daynight" in Path(code.co_filename).parts[:-1] and "benchmarks" not in code.co_filename:
            return f"{Path(code.co_filename).name}: {code.co_name}"
        frame = frame.f_back
    return "no function of daynight"


if __name__ == "__main__":
    main()
