#!/usr/bin/env bash
# torch 2.14.1: making the first object of an optimizer class replaces the class's own step method.
#
# One would guess that making an object leaves its class as it was written. Optimizer.__init__ wraps type(self).step for
# the profiler and puts the wrapper into the class, once: its code is then PyTorch's. Whoever tells a class by its
# methods (a cache of results, a digest of settings, inspect of the code object, pickling by value) sees one class
# before the first object is made, and another one after it, in the same process. step.__wrapped__ is the written one.
#
# Seen:
#     step is the written one: True
#     step is the written one after an object was made: False
#     its __wrapped__ is the written one: True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy
cat > "$place/see.py" <<'PY'
import torch


class SignSGD(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.sub_(parameter.grad.sign(), alpha=0.01)


written = SignSGD.step
print("step is the written one:", SignSGD.step is written)
SignSGD([torch.nn.Parameter(torch.ones(1))])
print("step is the written one after an object was made:", SignSGD.step is written)
print("its __wrapped__ is the written one:", SignSGD.step.__wrapped__ is written)
PY
seen=$("$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "step is the written one: True
step is the written one after an object was made: False
its __wrapped__ is the written one: True" ]
