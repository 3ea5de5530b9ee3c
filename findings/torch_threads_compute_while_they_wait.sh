#!/usr/bin/env bash
# torch 2.14.1 (wheel for Linux, with GNU's OpenMP): after a kernel, its other threads go on computing, and an idle team
# of threads in the same process ends that.
#
# One would guess that a process with nothing to do takes no time of the processor. After each kernel that has computed on
# several threads, the others wait for the next one in a loop, for some milliseconds. A process that sleeps between small
# kernels keeps a core busy; beside other programs, its threads take the cores from each other. OpenMP shortens that wait
# from 300,000 turns to 100 if it manages more threads than there are cores. One more Python thread that has computed one
# kernel and then does nothing is enough for that, without an environment variable and after torch is imported. The number
# of threads of a kernel, and so its bits, stay.
#
# Seen, of 200 kernels with a sleep of 5 ms after each, on two cores (it needs two): 6 to 13 ms of the processor a kernel,
# and 0.2 ms with the idle team. This fails if the first is less than five times the second.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy==2.4.1
cat > "$place/see.py" <<'PY'
import os, threading, time
import torch

torch.set_num_threads(len(os.sched_getaffinity(0)))
numbers = torch.ones(2**17)


def seconds_of_a_kernel():
    began = time.process_time()
    for _ in range(200):
        numbers.add_(1)
        time.sleep(0.005)
    return (time.process_time() - began) / 200


def idle():
    torch.ones(2**17).add_(1)
    ready.set()
    threading.Event().wait()


seconds_of_a_kernel()
alone = seconds_of_a_kernel()
ready = threading.Event()
threading.Thread(target=idle, daemon=True).start()
ready.wait()
seconds_of_a_kernel()
beside = seconds_of_a_kernel()
print(f"{1e3 * alone:.2f} ms a kernel, {1e3 * beside:.2f} ms with an idle team")
raise SystemExit(alone < 5 * beside)
PY
env -u OMP_NUM_THREADS -u MKL_NUM_THREADS -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT "$place/venv/bin/python" "$place/see.py"
