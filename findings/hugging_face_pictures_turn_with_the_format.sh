#!/usr/bin/env bash
# datasets 5.2.0: the pictures of one column are (3, height, width) under with_format("torch") and (height, width, 3)
# under with_format("numpy").
#
# One would guess that a format chooses the type of array, and not its meaning. Both arrays are uint8, and a network
# without convolutions learns from either. A data set that was prepared in one format and is read in the other has its
# pixels in another order, in silence.
#
# Seen:
#     torch (3, 8, 10)
#     numpy (8, 10, 3)
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy datasets==5.2.0 pillow
cat > "$place/see.py" <<'PY'
import datasets
import numpy as np
from PIL import Image

picture = Image.fromarray(np.zeros((8, 10, 3), "uint8"))
data = datasets.Dataset.from_dict({"image": [picture]}, features=datasets.Features({"image": datasets.Image()}))
for form in ("torch", "numpy"):
    print(form, tuple(data.with_format(form)[0]["image"].shape))
PY
seen=$(HF_HUB_OFFLINE=1 HF_HOME="$place/cache" "$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "torch (3, 8, 10)
numpy (8, 10, 3)" ]
