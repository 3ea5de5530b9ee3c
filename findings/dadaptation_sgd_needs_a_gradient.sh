#!/usr/bin/env bash
# dadaptation 3.2: DAdaptSGD raises ZeroDivisionError if the first gradient is zero; its four siblings take the step.
#
# One would guess that a step without a gradient changes nothing, as with every optimizer of PyTorch and with
# DAdaptAdam, DAdaptAdaGrad, DAdaptLion and DAdaptAdan. DAdaptSGD divides by the norm of its first gradient. A dry run
# on zeros, a first batch in which every unit is dead, or a network whose last layer is zero stops the training.
#
# Seen:
#     DAdaptSGD ZeroDivisionError
#     DAdaptAdam takes the step
#     DAdaptAdaGrad takes the step
#     DAdaptLion takes the step
#     DAdaptAdan takes the step
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q setuptools wheel torch==2.14.1 numpy
"$place/venv/bin/pip" install -q dadaptation==3.2
cat > "$place/see.py" <<'PY'
import dadaptation
import torch

for name in ("DAdaptSGD", "DAdaptAdam", "DAdaptAdaGrad", "DAdaptLion", "DAdaptAdan"):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = getattr(dadaptation, name)([parameter])
    parameter.grad = torch.zeros(3)
    try:
        optimizer.step()
        print(name, "takes the step")
    except ZeroDivisionError as error:
        print(name, type(error).__name__)
PY
seen=$("$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "DAdaptSGD ZeroDivisionError
DAdaptAdam takes the step
DAdaptAdaGrad takes the step
DAdaptLion takes the step
DAdaptAdan takes the step" ]
