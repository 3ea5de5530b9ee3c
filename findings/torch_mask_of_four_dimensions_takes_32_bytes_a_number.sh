#!/usr/bin/env bash
# torch 2.14.1: numbers that a boolean mask picks from a tensor of four dimensions take 32 bytes each of scratch memory
# on a CPU, four times what the same pick from the flattened tensor takes.
#
# One would guess that values[mask] costs as much as values.reshape(-1)[mask.reshape(-1)], which gives the same numbers
# in the same order. But the mask is first turned into one int64 index for each dimension, so that a mask of a
# convolution's weight (four dimensions) takes 4 x 8 bytes for each number that it picks, beside the 4 bytes of the
# number itself; the flattened mask takes 8, and torch.masked_select 4 on one thread. Ranking the weights of a
# large layer may so take more memory than its training.
#
# Seen, in bytes of scratch memory for each picked number, rounded (peak of the process, less the result):
#     values[mask], four dimensions: 32
#     values[mask], flattened: 8
#     masked_select, four dimensions: 4
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy
cat > "$place/see.py" <<'PY'
import resource
import sys

import torch

torch.set_num_threads(1)
values = torch.ones(64, 64, 64, 64)
mask = torch.ones(values.shape, dtype=torch.bool)
ways = {
    "values[mask], four dimensions": lambda: values[mask],
    "values[mask], flattened": lambda: values.reshape(-1)[mask.reshape(-1)],
    "masked_select, four dimensions": lambda: torch.masked_select(values, mask),
}
way = sys.argv[1]
small = values[:1, :1, :1, :4].clone()
small[small > 0]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picked = ways[way]()
peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(f"{way}: {round((peak / picked.numel() - 4) / 2) * 2}")
PY
seen=$(for way in "values[mask], four dimensions" "values[mask], flattened" "masked_select, four dimensions"; do
    OMP_NUM_THREADS=1 "$place/venv/bin/python" "$place/see.py" "$way"
done)
echo "$seen"
[ "$seen" = "values[mask], four dimensions: 32
values[mask], flattened: 8
masked_select, four dimensions: 4" ]
