#!/usr/bin/env bash
# torch 2.14.1 with numpy 2.4: torch.as_tensor and torch.from_numpy drop the mask of a NumPy masked array, in silence.
#
# Readers of scientific formats (netCDF4, rasterio) give missing values as a masked array, and NumPy leaves them out of
# every mean. One would guess that PyTorch refuses such an array or makes NaN of what is missing. It takes the numbers
# below the mask, which are the file's fill values, such as -9999: they are finite, so that no check for NaN finds them.
# array.filled(numpy.nan) first makes them visible.
#
# Seen:
#     numpy's mean: 2.0
#     as_tensor: [1.0, -9999.0, 3.0]
#     from_numpy: [1.0, -9999.0, 3.0]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.14.1 numpy==2.4.1
cat > "$place/see.py" <<'PY'
import numpy as np
import torch

values = np.ma.masked_values(np.array([1.0, -9999.0, 3.0]), -9999.0)
print("numpy's mean:", float(values.mean()))
print("as_tensor:", torch.as_tensor(values).tolist())
print("from_numpy:", torch.from_numpy(values).tolist())
PY
seen=$("$place/venv/bin/python" "$place/see.py")
echo "$seen"
[ "$seen" = "numpy's mean: 2.0
as_tensor: [1.0, -9999.0, 3.0]
from_numpy: [1.0, -9999.0, 3.0]" ]
