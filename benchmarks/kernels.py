"""Where the costs in daynight/training/engines/sparse.py come from: linear layers, dense and sparse.

For some layers, batch sizes and densities, this times what the dense and the sparse engine compute in a step: the
outputs, the gradient of the weights, and the gradient of the inputs. The time of a sparse kernel is fitted as overhead
+ cost x visible weights x examples, in units of one multiply-add of the dense products of the same layer and batch, as
in `sparse.py`. Masks are random. Other ways to compute the outputs, which daynight does not use, follow. Takes about
three minutes on one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import alternatives
import machine
import numpy as np
import torch
from timing import seconds_of
from torch.nn import functional

from daynight.support.atomic import replacing
from daynight.training.engines.sparse import BY_INPUTS, BY_WEIGHT, FORWARD, OVERHEAD, sparse_is_faster

SHAPES = ((256, 652), (256, 256), (1024, 8192))  # outputs, inputs
BATCH_SIZES = (32, 128)
DENSITIES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
KINDS = ("outputs", "by weights", "by inputs")
Times = dict[str, float]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.2, help="length of each measurement (0.2)")
    parser.add_argument("--densities", type=float, nargs="+", default=list(DENSITIES))
    parser.add_argument("--out", metavar="FILE", help="write the raw numbers as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure all layers, and print the fitted costs and the constants of `sparse.py`."""
    settings = parse()
    warnings.filterwarnings("ignore", message="Sparse ")  # CSR tensors warn that they are in beta and not checked
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about = machine.describe()
    print(machine.line(about), flush=True)
    layers = []
    for shape in SHAPES:
        for batch_size in BATCH_SIZES:
            layers.append(measure(shape, batch_size, settings.densities, settings.seconds))
            print_layer(layers[-1])
    print_constants(layers)
    print_choices(layers)
    others = alternatives.measure(SHAPES, BATCH_SIZES[-1], settings.densities, settings.seconds)
    alternatives.show(others)
    if settings.out:
        with replacing(settings.out) as path:
            chosen = {"seconds": settings.seconds, "densities": settings.densities}
            result = {"machine": about, "settings": chosen, "layers": layers, "alternatives": others}
            path.write_text(json.dumps(result) + "\n")


def measure(shape: tuple[int, int], batch_size: int, densities: Sequence[float], seconds: float) -> dict[str, Any]:
    """Time a layer, dense and at some densities, and fit its costs.

    Args:
        shape: Outputs and inputs of the layer.
        batch_size: Examples in a step.
        densities: Fractions of the weights that are visible.
        seconds: Length of each measurement.

    Returns:
        ``unit``, the seconds of a dense multiply-add; ``dense``, seconds by kind; ``sparse``, for each
        density the number of visible weights and seconds by kind; ``each`` and ``overhead`` in units.
    """
    dense = time_dense(shape, batch_size, seconds)
    unit = sum(dense.values()) / (3 * shape[0] * shape[1] * batch_size)
    sparse = [time_sparse(shape, batch_size, density, seconds) for density in densities]
    fits = {}
    for kind in KINDS:
        fits[kind] = fit([row["visible"] * batch_size for row in sparse], [row["seconds"][kind] for row in sparse])
    return {
        "shape": shape,
        "batch_size": batch_size,
        "unit": unit,
        "dense": dense,
        "sparse": sparse,
        "each": {kind: slope / unit for kind, (_, slope) in fits.items()},
        "overhead": {kind: overhead / unit for kind, (overhead, _) in fits.items()},
    }


def time_dense(shape: tuple[int, int], batch_size: int, seconds: float) -> Times:
    """Time the three products of the dense engine."""
    n_out, n_in = shape
    inputs, weight, gradient = torch.rand(batch_size, n_in), torch.rand(n_out, n_in), torch.rand(batch_size, n_out)
    by_weight = torch.empty_like(weight)
    return {
        "outputs": seconds_of(lambda: inputs @ weight.t(), seconds),
        "by weights": seconds_of(lambda: torch.mm(gradient.t(), inputs, out=by_weight), seconds),
        "by inputs": seconds_of(lambda: gradient @ weight, seconds),
    }


def time_sparse(shape: tuple[int, int], batch_size: int, density: float, seconds: float) -> dict[str, Any]:
    """Time what the sparse engine computes, including its changes of layout."""
    n_out, n_in = shape
    inputs, gradient = torch.rand(batch_size, n_in), torch.rand(batch_size, n_out)
    rows, columns = torch.nonzero(torch.rand(shape) < density, as_tuple=True)
    weights = torch.rand(len(rows))
    by_column = columns.argsort(stable=True)
    row_starts, column_starts = _starts(rows, n_out), _starts(columns[by_column], n_in)
    rows_by_column = rows[by_column]
    ends = torch.cat([row_starts, torch.tensor([len(rows)])])
    pattern = torch.sparse_csr_tensor(ends, columns, torch.zeros(len(rows)), shape)
    turned, by_outputs, by_weight = inputs.t().contiguous(), gradient.t().contiguous(), torch.empty(len(rows))

    def outputs() -> None:
        _bag(columns, row_starts, weights, inputs.t().contiguous())

    def by_weights() -> None:
        turned_gradient = gradient.t().contiguous()
        by_weight.copy_(torch.sparse.sampled_addmm(pattern, turned_gradient, turned.t(), beta=0.0).values())

    def by_inputs() -> None:
        _bag(rows_by_column, column_starts, weights[by_column], by_outputs)

    timed = {"outputs": outputs, "by weights": by_weights, "by inputs": by_inputs}
    return {
        "density": density,
        "visible": len(rows),
        "seconds": {kind: seconds_of(function, seconds) for kind, function in timed.items()},
    }


def fit(products: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Return overhead and slope, both 0 or more, of seconds = overhead + slope x products: least squares, relative."""
    y = np.asarray(seconds)
    design = np.stack([np.ones(len(y)), np.asarray(products, dtype=float)], axis=1) / y[:, None]
    overhead, slope = np.linalg.lstsq(design, np.ones(len(y)), rcond=None)[0]
    return max(0.0, float(overhead)), max(0.0, float(slope))


def print_layer(layer: Mapping[str, Any]) -> None:
    """Print the times of a layer in microseconds, and the total cost of a visible weight at each density."""
    (n_out, n_in), batch_size, unit = layer["shape"], layer["batch_size"], layer["unit"]
    print(f"\n{n_out} x {n_in}, batch {batch_size}: {2e-9 / unit:.1f} GFLOP/s dense; microseconds a call,")
    print("in brackets the units per visible weight and example, overhead included")
    print(f"{'density':>8} {'visible':>9}  {'outputs':>17} {'by weights':>17} {'by inputs':>17} {'all':>9}")
    dense = layer["dense"]
    cells = "".join(f"{dense[kind] * 1e6:>9.0f}" + " " * 9 for kind in KINDS)
    print(f"{'dense':>8} {n_out * n_in:>9,}  {cells}{sum(dense.values()) * 1e6:>9.0f}")
    for row in layer["sparse"]:
        cells = ""
        for kind in KINDS:
            each = row["seconds"][kind] / (row["visible"] * batch_size * unit)
            cells += f"{row['seconds'][kind] * 1e6:>9.0f} ({each:>5.1f}) "
        print(f"{row['density']:>8g} {row['visible']:>9,}  {cells}{sum(row['seconds'].values()) * 1e6:>9.0f}")


def print_constants(layers: Sequence[Mapping[str, Any]]) -> None:
    """Print the fitted costs and the constants of `sparse.py`."""
    print("\nFitted: units per visible weight and example, and overhead of a step in millions of units")
    print(f"{'layer':>22}  {'outputs':>10} {'by weights':>10} {'by inputs':>10} {'overhead':>10}")
    for layer in layers:
        name = f"{layer['shape'][0]} x {layer['shape'][1]}, batch {layer['batch_size']}"
        cells = "".join(f"{layer['each'][kind]:>11.2f}" for kind in KINDS)
        print(f"{name:>22} {cells} {sum(layer['overhead'].values()) / 1e6:>10.2f}")
    medians = "".join(f"{statistics.median(layer['each'][kind] for layer in layers):>11.2f}" for kind in KINDS)
    overhead = statistics.median(sum(layer["overhead"].values()) for layer in layers)
    print(f"{'median':>22} {medians} {overhead / 1e6:>10.2f}")
    constants = "".join(f"{value:>11.2f}" for value in (FORWARD, BY_WEIGHT, BY_INPUTS))
    print(f"{'sparse.py':>22} {constants} {OVERHEAD / 1e6:>10.2f}")


def print_choices(layers: Sequence[Mapping[str, Any]]) -> None:
    """Print how often `sparse.py` would choose the faster engine, and what its wrong choices cost."""
    n_right, n_all, losses = 0, 0, [0.0]
    for layer in layers:
        for row in layer["sparse"]:
            for kinds in (KINDS, KINDS[:2]):
                dense, sparse = (sum(times[kind] for kind in kinds) for times in (layer["dense"], row["seconds"]))
                chosen = sparse_is_faster(row["visible"], layer["shape"], layer["batch_size"], len(kinds) == 3)
                n_all += 1
                n_right += chosen == (sparse < dense)
                losses.append((sparse if chosen else dense) / min(sparse, dense) - 1)
    print(f"\nsparse.py chooses the faster engine in {n_right} of {n_all} cases; its worst costs {max(losses):.0%}.")


def _bag(columns: torch.Tensor, starts: torch.Tensor, weights: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    return functional.embedding_bag(columns, dense, starts, mode="sum", per_sample_weights=weights)


def _starts(sorted_rows: torch.Tensor, n_rows: int) -> torch.Tensor:
    return torch.searchsorted(sorted_rows, torch.arange(n_rows))


if __name__ == "__main__":
    main()
