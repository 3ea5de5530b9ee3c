"""Other ways to compute the outputs of a layer with few visible weights, which `kernels.py` compares."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timing import seconds_of
from torch import Tensor
from torch.nn import functional

#: `torch.compile` is measured for these densities only: each takes seconds to compile.
COMPILED_DENSITIES = (0.01, 0.003)
NAMES = ("dense", "embedding_bag", "CSR product", "gather, sum", "narrow dense", "compiled")


def measure(
    shapes: Sequence[tuple[int, int]], batch_size: int, densities: Sequence[float], seconds: float
) -> list[dict[str, Any]]:
    """Time each way for each layer and density.

    - ``"dense"``: the whole product.
    - ``"embedding_bag"``: what the sparse engine does; inputs have the shape (units, batch), here and below.
    - ``"CSR product"``: `torch.sparse_csr_tensor` times a dense matrix.
    - ``"gather, sum"``: `index_select` the inputs of each weight, multiply, and `index_add_` by outputs.
    - ``"narrow dense"``: a dense product without the rows and columns that have no visible weight.
    - ``"compiled"``: ``"gather, sum"`` by `torch.compile`, if there is a C++ compiler.

    Returns:
        A row for each: shape, density, number of visible weights, and ``seconds`` by name.
    """
    rows = []
    for n_out, n_in in shapes:
        for density in densities:
            mask = torch.rand(n_out, n_in) < density
            weight = torch.rand(n_out, n_in) * mask
            inputs = torch.rand(batch_size, n_in)
            ways = _ways(weight, mask, inputs)
            timed = {name: seconds_of(function, seconds) for name, function in ways.items()}
            row = {"shape": (n_out, n_in), "density": density, "visible": int(mask.sum()), "seconds": timed}
            if density in COMPILED_DENSITIES:
                row |= _compiled(weight, mask, inputs, seconds)
            rows.append(row)
    return rows


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the times in microseconds."""
    print("\nOther ways to compute the outputs, batch 128: microseconds a call")
    print(f"{'layer':>12} {'density':>8} {'visible':>9} " + " ".join(f"{name:>13}" for name in NAMES))
    for row in rows:
        timed = row["seconds"] | ({"compiled": row["compiled"]} if "compiled" in row else {})
        cells = " ".join(f"{timed[name] * 1e6:>13.0f}" if name in timed else f"{'-':>13}" for name in NAMES)
        print(f"{row['shape'][0]:>5} x {row['shape'][1]:<4} {row['density']:>8g} {row['visible']:>9,} {cells}")
    compile_seconds = [row["compile_seconds"] for row in rows if "compile_seconds" in row]
    if compile_seconds:
        print(f"torch.compile took up to {max(compile_seconds):.0f} s before its first call, for each new mask.")
    for reason in sorted({row["not_compiled"] for row in rows if "not_compiled" in row}):
        print(f"torch.compile was not measured: {reason}")


def _ways(weight: Tensor, mask: Tensor, inputs: Tensor) -> dict[str, Callable[[], Tensor]]:
    rows, columns = torch.nonzero(mask, as_tuple=True)
    values, turned = weight[mask], inputs.t().contiguous()
    starts = torch.searchsorted(rows, torch.arange(len(weight)))
    ends = torch.cat([starts, torch.tensor([len(rows)])])
    csr = torch.sparse_csr_tensor(ends, columns, values, tuple(weight.shape))
    live_rows, live_columns = mask.any(1), mask.any(0)
    narrow, narrow_inputs = weight[live_rows][:, live_columns], inputs[:, live_columns]
    ways: dict[str, Callable[[], Tensor]] = {
        "dense": lambda: inputs @ weight.t(),
        "embedding_bag": lambda: functional.embedding_bag(
            columns, turned, starts, mode="sum", per_sample_weights=values
        ),
        "CSR product": lambda: csr @ turned,
        "gather, sum": lambda: gather_and_sum(turned, values, rows, columns, len(weight)),
        "narrow dense": lambda: narrow_inputs @ narrow.t(),
    }
    for name in ("embedding_bag", "CSR product", "gather, sum"):
        torch.testing.assert_close(ways[name](), ways["dense"]().t(), rtol=1e-3, atol=1e-3)
    return ways


def gather_and_sum(turned: Tensor, values: Tensor, rows: Tensor, columns: Tensor, n_out: int) -> Tensor:
    """Return outputs (n_out, batch) for inputs (n_in, batch)."""
    products = turned.index_select(0, columns) * values[:, None]
    return products.new_zeros(n_out, turned.shape[1]).index_add_(0, rows, products)


def _compiled(weight: Tensor, mask: Tensor, inputs: Tensor, seconds: float) -> dict[str, Any]:
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        return {"not_compiled": "there is no C++ compiler."}
    rows, columns = torch.nonzero(mask, as_tuple=True)
    values, turned, n_out = weight[mask], inputs.t().contiguous(), len(weight)
    torch.compiler.reset()
    compiled = torch.compile(gather_and_sum, dynamic=False)
    began = time.perf_counter()
    try:
        compiled(turned, values, rows, columns, n_out)
    except Exception as error:  # any error of a compiler that is not set up
        return {"not_compiled": f"it failed ({type(error).__name__})."}
    compile_seconds = time.perf_counter() - began
    timed = seconds_of(lambda: compiled(turned, values, rows, columns, n_out), seconds)
    return {"compiled": timed, "compile_seconds": compile_seconds}
