#!/usr/bin/env bash
# torch 2.14.1: making the first optimizer of a process keeps the local variables of all calling functions in memory
# until Python's cycle collector runs.
#
# One would guess that an object that only a local variable holds is freed when its function returns, as everywhere in
# CPython. But the first call of torch.optim.Optimizer.__init__ imports torch._dynamo (it goes through
# torch._compile._disable_dynamo), and what is left of that import is a cycle of references that holds the frames of
# all callers, and so their locals: a data set, a batch, a network. The second optimizer of the process leaves nothing.
# A test that a day's memory is free at its end, or a job that is short of memory, sees it once per process; to make an
# optimizer of one number before the data are loaded, or gc.collect() afterwards, avoids it.
#
# Seen:
#     after the first optimizer: kept
#     after the second optimizer: freed
#     after gc.collect(): freed
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy
cat > "$place/see.py" <<'PY'
import gc
import weakref

import torch


class Data:
    """Stands for a data set."""


def train():
    data = Data()
    torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    return weakref.ref(data)


gc.disable()
first, second = train(), train()
print("after the first optimizer:", "kept" if first() else "freed")
print("after the second optimizer:", "kept" if second() else "freed")
gc.collect()
print("after gc.collect():", "kept" if first() else "freed")
PY
seen=$("$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "after the first optimizer: kept
after the second optimizer: freed
after gc.collect(): freed" ]
