"""Where the costs in daynight/training/engines/sparse_convolution.py come from: convolutions, dense and sparse.

For some layers and densities, with batches of 32, this times what a step computes: the outputs, the gradient of the
weights, and the gradient of the inputs. Compared are PyTorch's own convolution, the sparse engine's between layers of
its own layout and alone within a network, and other ways, which daynight does not use. All take turns, in seconds of
the processor; the table has medians. Masks are random. It takes some minutes on one thread.

    python benchmarks/convolutions.py --out docs/results/speed/convolutions.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import machine
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from daynight.support import threads
from daynight.support.atomic import replacing
from daynight.training.engines import sparse_convolution as engine
from daynight.training.engines.arena import Arena

BATCH = 32
DENSITIES = (0.3, 0.1, 0.03, 0.01, 0.003)
#: Densities at which the other ways are measured.
FEW = (0.1, 0.01)
Step = Callable[[], object]


@attrs.frozen
class Shape:
    """A layer and its images.

    Attributes:
        name: The network that has it.
        channels: Numbers of input and output channels.
        side: Height and width of the images.
        kernel: Height and width of the kernel.
        stride: Stride, vertically and horizontally.
        groups: Number of groups.
    """

    name: str
    channels: tuple[int, int]
    side: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        stride = f" / {self.stride}" if self.stride > 1 else ""
        return f"{self.name}: {self.channels[0]} -> {self.channels[1]}, {self.side}², {self.kernel}²{stride}{groups}"

    def layer(self) -> nn.Conv2d:
        """Return a layer of this shape, without bias."""
        return nn.Conv2d(
            *self.channels, self.kernel, self.stride, self.kernel // 2, groups=self.groups, bias=False
        )  # fmt: skip


SHAPES = (
    Shape("ConvNet", (3, 32), 32), Shape("ConvNet", (32, 64), 32), Shape("ConvNet", (64, 128), 16),
    Shape("ConvNet", (128, 128), 16), Shape("resnet18", (3, 64), 32, 7, 2), Shape("resnet18", (64, 64), 8),
    Shape("resnet18", (64, 128), 8, 3, 2), Shape("resnet18", (64, 128), 8, 1, 2), Shape("resnet18", (128, 128), 4),
    Shape("resnet18", (256, 256), 2), Shape("resnet18", (512, 512), 1), Shape("mobilenet", (16, 72), 8, 1),
    Shape("mobilenet", (96, 576), 1, 1), Shape("mobilenet", (240, 240), 2, 5, groups=240),
)  # fmt: skip


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9, help="how often each way is timed (9)")
    parser.add_argument("--densities", type=float, nargs="+", default=list(DENSITIES))
    parser.add_argument("--out", metavar="FILE", help="write the raw numbers as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure all layers, and print the times, the fitted costs and the choices of the cost model."""
    settings = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about = machine.describe()
    print(machine.line(about), flush=True)
    rows = []
    for shape in SHAPES:
        for density in settings.densities:
            rows.append(measure(shape, density, settings.turns))
            shown = ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in rows[-1]["seconds"].items())
            print(f"{shape}, {density:g}: {shown} ms", flush=True)
    print_constants(rows)
    if settings.out:
        with replacing(settings.out) as path:
            result = {"machine": about | {"torch_threads": 1}, "settings": vars(settings), "rows": rows}
            path.write_text(json.dumps(result) + "\n")


def measure(shape: Shape, density: float, n_turns: int) -> dict[str, Any]:
    """Time each way to compute a step of a layer, in turns."""
    layer = shape.layer()
    visible = torch.rand(layer.weight.shape) < density
    with torch.no_grad():
        layer.weight.mul_(visible)
        images = torch.rand(BATCH, shape.channels[0], shape.side, shape.side)
        gradient = torch.rand_like(layer(images))
    ways = {"dense": dense(layer, images, gradient)} | sparse(layer, visible, images, gradient)
    if density in FEW and shape.groups == 1:
        ways |= others(layer, visible, images, gradient)
    with torch.no_grad(), threads.quiet(category=UserWarning):  # about CSR tensors being in beta
        seconds = in_turns(ways, n_turns)
    size, n_visible = (shape.side, shape.side), int(visible.sum())
    counts = engine.counts_of(layer, visible, shape.channels, size, BATCH)
    return {
        "shape": str(shape), "density": density, "visible": n_visible, "counts": attrs.asdict(counts),
        "seconds": seconds,
        "chosen": {
            name: counts.sparse_is_faster(True, turns) for name, turns in (("between", False), ("alone", True))
        },
    }  # fmt: skip


def in_turns(ways: Mapping[str, Step], n_turns: int) -> dict[str, float]:
    """Return the median seconds of the processor of each way; short calls are repeated."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    repeats = {name: max(1, int(2e-3 / max(timed(way, 1), 1e-6))) for name, way in ways.items()}
    for _ in range(n_turns):
        for name, way in ways.items():
            found[name].append(timed(way, repeats[name]))
    return {name: statistics.median(values) for name, values in found.items()}


def timed(way: Step, n: int) -> float:
    """Return the seconds of the processor of a call."""
    way()
    began = time.process_time()
    for _ in range(n):
        way()
    return (time.process_time() - began) / n


def dense(layer: nn.Conv2d, images: Tensor, gradient: Tensor) -> Step:
    """Return a step of PyTorch's own convolution, by autograd."""
    leaf = images.clone().requires_grad_()

    def step() -> None:
        with torch.enable_grad():
            outputs = layer(leaf)
        torch.autograd.grad(outputs, (leaf, layer.weight), gradient)

    return step


def sparse(layer: nn.Conv2d, visible: Tensor, images: Tensor, gradient: Tensor) -> dict[str, Step]:
    """Return steps of the sparse engine: between layers of its own layout, and alone within a network."""
    stage = engine.SparseConvolution(layer, None, None, visible, visible)
    Arena(stage.slots())
    stage.bind()
    turned = engine.turn(images).permute(3, 0, 1, 2)
    by_outputs = engine.turn(gradient).permute(3, 0, 1, 2)
    inner, leaf = engine.Inner(stage), images.clone().requires_grad_()

    def between() -> None:
        stage.forward(turned)
        stage.backward(by_outputs, True)

    def alone() -> None:
        with torch.enable_grad():
            outputs = inner(leaf)
        torch.autograd.grad(outputs, leaf, gradient)

    return {"between": between, "alone": alone}


def others(layer: nn.Conv2d, visible: Tensor, images: Tensor, gradient: Tensor) -> dict[str, Step]:
    """Return steps of other ways, on unfolded images: rows (input channel, place of the kernel) of all outputs' places.

    - ``"unfolded, listed"``: ``embedding_bag`` and ``sampled_addmm`` over these rows.
    - ``"unfolded, CSR"``: products of CSR matrices with them.
    - ``"unfolded, dense"``: dense products with those rows that a visible weight reads.
    """
    n_outputs = len(layer.weight)
    fold = {
        "kernel_size": layer.kernel_size, "padding": layer.padding, "stride": layer.stride, "dilation": layer.dilation
    }  # fmt: skip
    weight, mask = layer.weight.detach().view(n_outputs, -1), visible.view(n_outputs, -1)
    used = torch.nonzero(mask.any(0))[:, 0]
    weight, mask = weight[:, used], mask[:, used]
    csr, turned = weight.to_sparse_csr(), weight.t().to_sparse_csr()
    few, few_turned = weight.contiguous(), weight.t().contiguous()

    def bag(matrix: Tensor, rows: Tensor) -> Tensor:
        return functional.embedding_bag(
            matrix.col_indices(), rows, matrix.crow_indices()[:-1], mode="sum", per_sample_weights=matrix.values()
        )

    def step(product: Callable[[Tensor, Tensor], Tensor], one: Tensor, other: Tensor) -> Step:
        def run() -> None:
            rows = functional.unfold(images, **fold).permute(1, 2, 0).reshape(-1, gradient[0, 0].numel() * BATCH)[used]
            product(one, rows).view(n_outputs, *gradient.shape[2:], BATCH).permute(3, 0, 1, 2).contiguous()
            by_outputs = gradient.permute(1, 2, 3, 0).reshape(n_outputs, -1)
            if one is few:
                by_outputs @ rows.t()
            else:
                torch.sparse.sampled_addmm(csr, by_outputs, rows.t(), beta=0.0)
            by_rows = by_outputs.new_zeros(layer.weight[0].numel(), by_outputs.shape[1])
            by_rows[used] = product(other, by_outputs)
            back = by_rows.view(len(by_rows), -1, BATCH).permute(2, 0, 1)
            functional.fold(back, images.shape[2:], **fold)

        return run

    return {
        "unfolded, listed": step(bag, csr, turned), "unfolded, CSR": step(torch.mm, csr, turned),
        "unfolded, dense": step(torch.mm, few, few_turned),
    }  # fmt: skip


def print_constants(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the fitted costs in multiply-adds of a dense convolution, and how good the choices of the engine are."""
    rows = [row for row in rows if row["density"] <= engine.MOST]
    one_group = [row for row in rows if not row["counts"]["is_grouped"]]
    unit, calls = fit(one_group, "dense", ("dense",))
    unit /= 3  # of outputs, gradient by weights, and gradient by inputs
    print(f"dense: {unit * 1e9:.3f} ns a multiply-add; calls {calls / unit:.2g} (engine: {engine.DENSE_CALLS:.2g})")
    costs = {"products": engine.PER_PRODUCT, "rows": engine.PER_ROW, "numbers": engine.PER_NUMBER}
    *fitted, calls = fit(rows, "alone", list(costs))
    each = [cost / unit / (1 if name == "numbers" else 3) for name, cost in zip(costs, fitted, strict=True)]
    shown = [f"{name} {cost:.3g} ({costs[name]:g})" for name, cost in zip(costs, each, strict=True)]
    print(f"alone: {', '.join(shown)}, calls {calls / unit:.2g} ({engine.SPARSE_CALLS:.2g})")
    for way in ("between", "alone"):
        n_right, worst = 0, 1.0
        for row in rows:
            own, dense = row["seconds"][way], row["seconds"]["dense"]
            n_right += row["chosen"][way] == (own < dense)
            worst = max(worst, (own if row["chosen"][way] else dense) / min(own, dense))
        print(f"{way}: the faster one is chosen in {n_right} of {len(rows)} cases; the worst costs {worst - 1:.0%}")


def fit(rows: Sequence[Mapping[str, Any]], way: str, names: Sequence[str]) -> list[float]:
    """Return the seconds of each of some counts, and of the calls: least squares of the relative errors."""
    seconds = np.array([row["seconds"][way] for row in rows])
    design = np.array([[*(row["counts"][name] for name in names), 1] for row in rows])
    found: list[float] = np.linalg.lstsq(design / seconds[:, None], np.ones(len(rows)), rcond=None)[0].tolist()
    return found


if __name__ == "__main__":
    main()
