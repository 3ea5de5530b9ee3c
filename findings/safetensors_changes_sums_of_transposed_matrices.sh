#!/usr/bin/env bash
# safetensors 0.8.0 with torch 2.14.1: a matrix that goes through a file comes back equal, and has another sum.
#
# torch.linalg.qr returns Q column by column in memory. safetensors refuses it as not contiguous; with .contiguous(), as
# its error advises, it writes it row by row. All numbers come back equal, but Q.sum() and products of a vector and Q
# have other bits, since PyTorch adds in the order of the memory. One would guess that equal tensors give equal results.
# An optimizer that keeps such matrices (SOAP and other preconditioned ones do) then takes other steps after it is
# resumed. torch.save keeps the order.
#
# Seen:
#     equal numbers: True, strides (1, 48) -> (48, 1)
#     equal sums and products, safetensors: False
#     equal sums and products, torch.save: True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy safetensors==0.8.0
cat > "$place/see.py" <<'PY'
import sys

import torch
from safetensors.torch import load_file, save_file

path = sys.argv[1]
torch.set_num_threads(1)
torch.manual_seed(0)
before, row = torch.linalg.qr(torch.randn(48, 48)).Q, torch.randn(1, 48)
save_file({"q": before.contiguous()}, path)
after = load_file(path)["q"]
torch.save(before, path + ".pt")
kept = torch.load(path + ".pt", weights_only=True)


def results(matrix):
    return torch.cat([matrix.sum()[None], (row @ matrix)[0], (row @ matrix.T)[0]])


print(f"equal numbers: {torch.equal(before, after)}, strides {before.stride()} -> {after.stride()}")
print(f"equal sums and products, safetensors: {torch.equal(results(before), results(after))}")
print(f"equal sums and products, torch.save: {torch.equal(results(before), results(kept))}")
PY
found=$("$place/venv/bin/python" "$place/see.py" "$place/q")
echo "$found"
test "$found" = "equal numbers: True, strides (1, 48) -> (48, 1)
equal sums and products, safetensors: False
equal sums and products, torch.save: True"
