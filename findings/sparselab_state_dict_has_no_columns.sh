#!/usr/bin/env bash
# sparselab 0.2.2: the state_dict of a SparseLinear has the weights without their places, and is loaded all the same.
#
# One would guess that load_state_dict gives back the network that was saved, as its README says ("Standard state_dict").
# But the state_dict holds the list of weights alone; which input and output each belongs to is nowhere in it. A new
# layer has random places. If it was made with another seed, their number differs, and loading is refused. If it was made
# with the same seed, as scripts do, loading reports that all keys match. While nothing has moved the places, that is
# right. After RigL or SET has moved some, the weights land in wrong places, and nothing is said. To keep a network, save
# the arrays of layer._csr too; copy.deepcopy and torch.save of the whole layer raise TypeError.
#
# Seen:
#     static: <All keys matched successfully>, same weights True, largest difference of outputs 0.0
#     RigL: <All keys matched successfully>, same weights True, largest difference of outputs above 1: True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"  # Python 3.11 to 3.13
"$place/venv/bin/pip" install -q torch==2.14.1 sparselab==0.2.2
cat > "$place/see.py" <<'PY'
import sparselab
import torch


def made():
    torch.manual_seed(0)
    return sparselab.SparseLinear(64, 32, sparsity=0.9)


torch.manual_seed(1)
inputs, targets = torch.randn(256, 64), torch.randn(256, 32)
for name, rule in ("static", sparselab.Static(0.9)), ("RigL", sparselab.RigL(0.9, update_freq=10, seed=0)):
    layer = made()
    layer.apply(rule)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        (layer(inputs) - targets).square().mean().backward()
        optimizer.step()
        rule.step()
    again = made()
    said = again.load_state_dict(layer.state_dict())
    with torch.no_grad():
        gap = float((layer(inputs) - again(inputs)).abs().max())
    outcome = gap if name == "static" else f"above 1: {gap > 1}"
    print(f"{name}: {said}, same weights {torch.equal(layer._values, again._values)}, largest difference of outputs", outcome)
PY
seen=$("$place/venv/bin/python" "$place/see.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "static: <All keys matched successfully>, same weights True, largest difference of outputs 0.0
RigL: <All keys matched successfully>, same weights True, largest difference of outputs above 1: True" ]
