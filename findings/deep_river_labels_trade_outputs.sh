#!/usr/bin/env bash
# deep-river 0.3.4: a label that comes late takes over the output that another label has learnt.
#
# One would guess that a class keeps the output of the network that it was trained with. But Classifier numbers the
# classes by their place in the sorted set of labels seen so far. If a label comes that sorts before the others, each of
# them moves to the next output: what was learnt of "late" is now said of "early". Nothing is said. With the labels True
# and False, or 1 and 0, it is wrong at once: after True alone, False is predicted. This happens with rare labels, and
# with streams that begin with one class. model.observed_classes.update(labels) before the first call avoids it.
#
# Seen:
#     late, of a=1, after 200 times late: 0.998
#     late, of a=1, after one early, of a=-1: 0.002
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"  # Python 3.11 or 3.12
"$place/venv/bin/pip" install -q deep-river==0.3.4 pytest==8.4.2  # which it imports, and does not ask for
cat > "$place/see.py" <<'PY'
import torch
from deep_river.classification import Classifier

torch.manual_seed(0)
model = Classifier(
    module=torch.nn.Sequential(torch.nn.Linear(1, 2)), loss_fn="cross_entropy", optimizer_fn="sgd", lr=0.5
)
for _ in range(200):
    model.learn_one({"a": 1.0}, "late")
print("late, of a=1, after 200 times late:", round(float(model.predict_proba_one({"a": 1.0})["late"]), 3))
model.learn_one({"a": -1.0}, "early")  # sorts before "late"
found = model.predict_proba_one({"a": 1.0})
print("late, of a=1, after one early, of a=-1:", round(float(found["late"]), 3))
PY
seen=$("$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "late, of a=1, after 200 times late: 0.998
late, of a=1, after one early, of a=-1: 0.002" ]
