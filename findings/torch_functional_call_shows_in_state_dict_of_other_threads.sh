#!/usr/bin/env bash
# torch 2.14.1: while torch.func.functional_call runs, other threads see its tensors as the module's own.
#
# Its documentation says that it performs a call "by replacing the module parameters and buffers with the provided ones".
# The name, and that the module is as before afterwards, let one guess that the module itself is never changed, as in
# other functional interfaces. It is, for the time of the call: a second thread that takes state_dict() meanwhile, for
# example to write a checkpoint, gets the tensors of the call and no error. A program that computes with several sets of
# weights over one module must not read the module in another thread, or read a copy of it.
#
# Seen:
#     before: 1.0
#     another thread, during the call: 2.0
#     after: 1.0
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy==2.4.1
cat > "$place/see.py" <<'PY'
import threading

import torch
from torch import nn

is_inside, may_end = threading.Event(), threading.Event()


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs):
        is_inside.set()
        may_end.wait(60)
        return inputs * self.weight


module = Slow()
print("before:", float(module.state_dict()["weight"]))
other = {"weight": torch.tensor(2.0)}
call = threading.Thread(target=torch.func.functional_call, args=(module, other, (torch.ones(()),)))
call.start()
is_inside.wait(60)
print("another thread, during the call:", float(module.state_dict()["weight"]))
may_end.set()
call.join()
print("after:", float(module.state_dict()["weight"]))
PY
seen=$("$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "before: 1.0
another thread, during the call: 2.0
after: 1.0" ]
