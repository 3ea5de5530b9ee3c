#!/usr/bin/env bash
# clarena 1.1.0: the first step of each epoch of HAT trains the units that the task does not use.
#
# One would guess that the masks of HAT go from soft to hard within an epoch, as in its paper (section 2.4): with batches
# b = 1 to B, the sigmoid's scale grows from 1/s_max to s_max. clarena has that formula, but Lightning numbers batches
# from 0. So the first batch of each epoch has a large negative scale, about -s_max / (B - 1): the masks are hard and
# inverted. Units that the task has chosen are off, all others are on, and weights that no task owns yet are trained for
# them. The last batch does not reach s_max. Nothing is said. The shorter the epoch, the larger the share of such steps:
# with ten batches it is a tenth. AdaHAT and FG-AdaHAT inherit it. (With one batch an epoch, it divides by zero.)
#
# Seen, for units with the embeddings 1, -1 and 1, s_max = 400 and ten batches an epoch:
#     batch 0: [0.0, 1.0, 0.0]
#     batch 1: [0.501, 0.499, 0.501]
#     batch 2: [1.0, 0.0, 1.0]
#     batch 9: [1.0, 0.0, 1.0]
#     mask of the task: [1.0, 0.0, 1.0]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"  # Python 3.10 or later
"$place/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 clarena==1.1.0
cat > "$place/see.py" <<'PY'
import torch
from clarena.backbones import HATMaskMLP

network = HATMaskMLP(input_dim=4, hidden_dims=[3], output_dim=3, gate="sigmoid")
network.setup_task_id(1)
with torch.no_grad():
    network.task_embedding_t["fc/0"].weight.copy_(torch.tensor([[1.0, -1.0, 1.0]]))
for batch in (0, 1, 2, 9):
    mask = network.get_mask("train", s_max=400, batch_idx=batch, num_batches=10)["fc/0"]
    print(f"batch {batch}:", [round(float(value), 3) for value in mask])
print("mask of the task:", network.te_to_binary_mask()["fc/0"].tolist())
PY
seen=$("$place/venv/bin/python" "$place/see.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "batch 0: [0.0, 1.0, 0.0]
batch 1: [0.501, 0.499, 0.501]
batch 2: [1.0, 0.0, 1.0]
batch 9: [1.0, 0.0, 1.0]
mask of the task: [1.0, 0.0, 1.0]" ]
