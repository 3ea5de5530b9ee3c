"""The convolution of the sparse engine: one multiply-add for each visible weight, place of the outputs and example."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import attrs
import torch
from torch import Tensor, fx, nn

from daynight.support import threads
from daynight.training.engines.arena import Slot
from daynight.training.engines.sparse import multiply, numbered, starts
from daynight.training.engines.stages import Autograd, Stage, Units, bias_of, is_turned, trained

#: What a convolution costs, in multiply-adds of a dense one: a multiply-add by a visible weight, a row of such, and
#: bringing one number of the inputs or outputs into the kernel's layout and back. Rounded from measurements by
#: benchmarks/convolutions.py.
PER_PRODUCT, PER_ROW, PER_NUMBER = 5.0, 50.0, 130.0
#: A multiply-add of a dense convolution of several groups. On small images it may cost ten times more.
PER_GROUPED = 10.0
#: The calls in a step of a dense and of a sparse convolution.
DENSE_CALLS, SPARSE_CALLS = 20_000_000.0, 10_000_000.0
#: Weights are listed if at most this share of a layer is visible. With more, there is little to gain, a list takes more
#: memory than the layer, and it takes a while to make.
MOST = 1 / 8


@attrs.frozen
class Geometry:
    """Which places of an image a convolution reads.

    Attributes:
        kernel: Height and width of the kernel.
        stride: Distance of the places of neighbouring outputs, vertically and horizontally.
        padding: Zeros above and to the left of the image.
        padded: Zeros on both sides together, vertically and horizontally.
        dilation: Distance of the places that neighbouring weights read, vertically and horizontally.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    padded: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Geometry:
        """Return the geometry of a layer that is padded with zeros."""
        reach = tuple(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        if isinstance(layer.padding, str):
            padded = reach if layer.padding == "same" else (0, 0)
            padding = tuple(n // 2 for n in padded)
        else:
            padding, padded = tuple(layer.padding), tuple(2 * n for n in layer.padding)
        return cls(tuple(layer.kernel_size), tuple(layer.stride), padding, padded, tuple(layer.dilation))

    def outputs(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return height and width of the outputs for an image of the height and width `size`."""
        return tuple(
            (n + padded - dilation * (kernel - 1) - 1) // stride + 1
            for n, padded, dilation, kernel, stride in zip(
                size, self.padded, self.dilation, self.kernel, self.stride, strict=True
            )
        )

    def reads(self, axis: int, size: int, n_outputs: int) -> list[tuple[int, int, int]]:
        """Return what each place of the kernel reads along an axis: its first and last output, and its first input.

        Args:
            axis: 0 is vertical, 1 is horizontal.
            size: Number of places of the image.
            n_outputs: Number of places of the outputs.

        Returns:
            For each place of the kernel the first output that reads within the image, the output after the last one (as
            large as the first one if there are none), and the place that the first one reads.
        """
        stride, found = self.stride[axis], []
        for index in range(self.kernel[axis]):
            offset = index * self.dilation[axis] - self.padding[axis]
            first = max(0, -(offset // stride))
            last = max(first, min(n_outputs, (size - 1 - offset) // stride + 1))
            found.append((first, last, first * stride + offset))
        return found


def can_be_sparse(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether there are kernels for a layer: two-dimensional, in usual memory, on a CPU."""
    return (
        type(layer) is nn.Conv2d and layer.padding_mode == "zeros"
        and layer.weight.device.type == "cpu" and layer.weight.dtype in (torch.float32, torch.float64)
        and layer.weight.is_contiguous()
    )  # fmt: skip


def are_few(visible: Tensor) -> bool:
    """Return whether visible weights (bool) are few enough to be listed."""
    return int(torch.count_nonzero(visible)) <= MOST * visible.numel()


@attrs.frozen
class Counts:
    """What a convolution computes in a step, once for each of outputs, gradient by weights, and gradient by inputs.

    Attributes:
        dense: Multiply-adds of the dense convolution.
        products: Multiply-adds by the visible weights, within the images.
        rows: Pairs of a visible weight and a row of the outputs for which it reads the image.
        numbers: Numbers of the inputs and outputs.
        is_grouped: Whether the convolution has several groups.
    """

    dense: int
    products: int
    rows: int
    numbers: int
    is_grouped: bool

    def sparse_is_faster(self, needs_inputs: bool, turns: bool) -> bool:
        """Return whether the convolution is computed faster from the list of its visible weights.

        Args:
            needs_inputs: Whether the gradient by the inputs is needed.
            turns: Whether its neighbours have the usual layout, so that inputs, outputs and their gradients must be
                brought into that of the kernel, and back.
        """
        n = 2 + needs_inputs
        listed = n * (self.products * PER_PRODUCT + self.rows * PER_ROW) + SPARSE_CALLS
        listed += self.numbers * PER_NUMBER if turns else 0.0
        dense = n * self.dense * (PER_GROUPED if self.is_grouped else 1.0) + DENSE_CALLS
        return listed < dense


def counts_of(
    layer: nn.Conv2d, visible: Tensor, shape: tuple[int, int], size: tuple[int, ...], batch_size: int
) -> Counts:  # fmt: skip
    """Count what a convolution computes.

    Args:
        layer: The layer.
        visible: Which weights are not zero: bool (outputs, inputs, height, width).
        shape: Numbers of input and output channels of the dense engine.
        size: Height and width of the inputs.
        batch_size: Examples per step.
    """
    geometry = Geometry.of(layer)
    height, width = geometry.outputs(size)
    n_reads = [
        [(last - first) * (right > left) for left, right, _ in geometry.reads(1, size[1], width)]
        for first, last, _ in geometry.reads(0, size[0], height)
    ]
    used = torch.nonzero(visible.reshape(-1))[:, 0] % math.prod(geometry.kernel)
    n_rows = int(torch.tensor(n_reads).reshape(-1)[used].sum())
    return Counts(
        dense=math.prod(shape) // layer.groups * math.prod(geometry.kernel) * height * width * batch_size,
        products=n_rows * width * batch_size, rows=n_rows,
        numbers=(shape[0] * math.prod(size) + shape[1] * height * width) * batch_size, is_grouped=layer.groups > 1,
    )  # fmt: skip


class SparseConvolution(Stage):
    """A two-dimensional convolution, as the list of its visible weights, row of the image by row.

    Activations are laid out as (channels, height, width, batch), so that a row of an image, of all examples, is
    contiguous in memory. A weight in row i and column j of the kernel adds rows of the inputs, moved by j, to rows of
    the outputs. So there is a table of rows (column of the kernel, channel, row of the image), which hold the inputs as
    that column reads them, and a sparse matrix S with a number for each visible weight and row of the outputs. With the
    table X and the gradient G by the outputs, as rows (channel, row of the outputs):

    - outputs S X: ``embedding_bag`` sums, for each row of the outputs, the rows of X that its weights read, times the
      weights;
    - gradient by the table S^T G: the same, column by column; moved back, its parts for the columns of the kernel sum
      to the gradient by the inputs;
    - gradient by a weight, the sum of the products of the rows of G and X that it connects: ``sampled_addmm``.

    Args:
        layer: The layer, for which `can_be_sparse` is true.
        inputs: The input channels that the layer gets; None is all of them.
        outputs: The output channels to compute; None is all of them.
        visible: Which weights are not zero: bool, of the weight's shape.
        mine: Which weights the day's task may move: bool, of the weight's shape.

    Attributes:
        is_due: Whether `backward` has not followed the last `forward`.
    """

    def __init__(self, layer: nn.Conv2d, inputs: Units, outputs: Units, visible: Tensor, mine: Tensor) -> None:
        self._rows = numbered(outputs, layer.out_channels, visible)
        self._columns = numbered(inputs, layer.in_channels, visible)
        self._geometry, self._shape = Geometry.of(layer), layer.weight.shape
        self._group = layer.out_channels // layer.groups
        places = torch.nonzero(visible.reshape(-1))[:, 0]
        own = self._own(places)
        places = places[(own[0] >= 0) & (own[1] >= 0)]
        self._weight = Slot(layer.weight, places, mine.reshape(-1)[places])
        self._places, self._bias = places, bias_of(layer, outputs)
        self._n_channels = (
            layer.out_channels if outputs is None else len(outputs),
            layer.in_channels if inputs is None else len(inputs),
        )
        self._layout: _Layout | None = None
        self._table: Tensor | None = None
        self.is_due = False

    def slots(self) -> list[Slot]:
        """Return the slots that are trained in arenas."""
        return trained(self._weight, self._bias)

    def bind(self) -> None:
        """View the bias as a column."""
        self._offset = None if self._bias is None else self._bias.values[:, None]
        self._by_weight = [slot.gradient for slot in trained(self._weight)]
        self._by_bias = [slot.gradient for slot in trained(self._bias)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, given, height, width) to outputs, stored as (computed, height, width, batch)."""
        turned = turn(inputs)
        size = turned.shape[1], turned.shape[2]
        if self._layout is None or self._layout.size != size:
            own, dtype = self._own(self._places), self._weight.values.dtype
            self._layout, self._table = _Layout(self._geometry, size, self._n_channels, own, dtype), None
        layout = self._layout
        self._table = layout.table(turned, self._table)
        self.is_due = True
        weights = self._weight.values.index_select(0, layout.which)
        outputs = multiply(layout.columns, layout.row_starts, weights, _rows(self._table))
        if self._offset is not None:
            outputs.view(self._n_channels[0], -1).add_(self._offset)
        return outputs.view(self._n_channels[0], *layout.output_size, -1).permute(3, 0, 1, 2)

    def backward(self, gradient: Tensor, needs_inputs: bool) -> Tensor | None:
        """Write the gradients by weight and bias into the arena, and return the gradient by the inputs."""
        layout, table = self._layout, self._table
        assert layout is not None
        assert table is not None
        self.is_due = False
        turned = turn(gradient)
        rows = _rows(turned)
        for by_weight in self._by_weight:
            by_weight.zero_()
            if len(layout.which):
                products = torch.sparse.sampled_addmm(layout.pattern, rows, _rows(table).t(), beta=0.0)
                by_weight.index_add_(0, layout.which, products.values())
        for by_bias in self._by_bias:
            torch.sum(turned.flatten(1), 1, out=by_bias)
        if not needs_inputs:
            return None
        weights = self._weight.values.index_select(0, layout.which_by_column)
        by_table = multiply(layout.rows_by_column, layout.column_starts, weights, rows)
        return layout.by_inputs(by_table.view(table.shape)).permute(3, 0, 1, 2)

    def _own(self, places: Tensor) -> Tensor:
        """Return the output and the input channel of weights, -1 if left out, and their rows and columns in the kernel.

        Args:
            places: Places in the flattened weight, int64 (n,).

        Returns:
            int64 (4, n).
        """
        output, given, row, column = torch.unravel_index(places, self._shape)
        given = given + output // self._group * self._shape[1]  # each group of outputs reads its own inputs
        return torch.stack([self._rows[output], self._columns[given], row, column])


class _Layout:
    """The sparse matrix of a convolution for images of one size.

    Args:
        geometry: Which places of an image the convolution reads.
        size: Height and width of the images.
        n_channels: Numbers of output and of input channels.
        own: For each weight its output and input channel, and its row and column in the kernel: int64 (4, weights).
        dtype: Type of the weights.

    Attributes:
        size: Height and width of the images.
        output_size: Height and width of the outputs.
        which: For each number of the matrix, row by row, the index of its weight: int32.
        columns: Their columns, rows of the table: int32.
        row_starts: For each row, a row of the outputs, the index of its first number: int32.
        which_by_column: As `which`, column by column.
        rows_by_column: As `columns`: the rows of the numbers, column by column.
        column_starts: As `row_starts`: for each column, the index of its first number.
        pattern: The matrix with zeros as its numbers.
    """

    def __init__(
        self, geometry: Geometry, size: tuple[int, int], n_channels: tuple[int, int], own: Tensor, dtype: torch.dtype
    ) -> None:  # fmt: skip
        self.size, self.output_size = size, geometry.outputs(size)
        self._n_inputs, self._stride = n_channels[1], geometry.stride[1]
        n_rows, width = self.output_size
        channel, channel_read, kernel_row, kernel_column = own
        reads = geometry.reads(1, size[1], width)
        used = [j for j in kernel_column.unique().tolist() if reads[j][1] > reads[j][0]]
        #: For each part of the table the first output that reads within the image, the output after the last one, and
        #: the place that the first one reads.
        self._moves = [reads[j] for j in used]
        part = torch.full((len(reads),), -1)
        part[used] = torch.arange(len(used))
        part, row = part[kernel_column][:, None], torch.arange(n_rows)
        read = row * geometry.stride[0] - geometry.padding[0] + kernel_row[:, None] * geometry.dilation[0]
        is_within = (read >= 0) & (read < size[0]) & (part >= 0)  # (weights, rows of the outputs)
        rows = (channel[:, None] * n_rows + row)[is_within]
        columns = ((part * n_channels[1] + channel_read[:, None]) * size[0] + read)[is_within]
        which = torch.arange(len(channel))[:, None].expand_as(is_within)[is_within].int()
        shape = n_channels[0] * n_rows, len(used) * n_channels[1] * size[0]
        order = (rows * shape[1] + columns).argsort()
        self.which, self.columns = which[order], columns[order].int()
        self.row_starts = starts(rows[order], shape[0]).int()
        order = (columns * shape[0] + rows).argsort()
        self.which_by_column, self.rows_by_column = which[order], rows[order].int()
        self.column_starts = starts(columns[order], shape[1]).int()
        ends = torch.cat([self.row_starts, torch.tensor([len(which)], dtype=torch.int32)])
        with threads.quiet(category=UserWarning):  # about CSR tensors being in beta
            self.pattern = torch.sparse_csr_tensor(ends, self.columns, torch.zeros(len(which), dtype=dtype), shape)

    def table(self, images: Tensor, last: Tensor | None) -> Tensor:
        """Return the table: (columns of the kernel, channels, rows of the image, outputs in a row, batch).

        Args:
            images: (channels, height, width, batch).
            last: The table of other images, which may be overwritten; None if there is none.
        """
        if self._is_plain:
            return images[None]
        shape = len(self._moves), *images.shape[:2], self.output_size[1], images.shape[3]
        # The places that read beyond the image stay zero.
        table = images.new_zeros(shape) if last is None or last.shape != shape else last
        for part, (first, last_output, begin) in zip(table, self._moves, strict=True):
            part[:, :, first:last_output] = images[:, :, self._read(first, last_output, begin)]
        return table

    def by_inputs(self, by_table: Tensor) -> Tensor:
        """Return the gradient by the images (channels, height, width, batch) from that by the table."""
        if self._is_plain:
            return by_table[0]
        found = by_table.new_zeros(self._n_inputs, *self.size, by_table.shape[-1])
        for part, (first, last, begin) in zip(by_table, self._moves, strict=True):
            found[:, :, self._read(first, last, begin)] += part[:, :, first:last]
        return found

    @property
    def _is_plain(self) -> bool:
        """Whether the table is the images themselves."""
        width = self.size[1]
        return self._stride == 1 and self.output_size[1] == width and self._moves == [(0, width, 0)]

    def _read(self, first: int, last: int, begin: int) -> slice:
        return slice(begin, begin + (last - first - 1) * self._stride + 1, self._stride)


def _rows(images: Tensor) -> Tensor:
    """Return images (..., height, width, batch) as a matrix of their rows: (rows, width x batch)."""
    return images.reshape(-1, images.shape[-2] * images.shape[-1])


class Whole(Autograd):
    """A traced module, by autograd, but for some convolutions within it.

    Args:
        module: The module.
        needs_inputs: Whether the gradient by its inputs is ever needed.
        inner: By the names of convolutions, each of which is called once, the stages that compute them.
    """

    def __init__(self, module: fx.GraphModule, needs_inputs: bool, inner: Mapping[str, SparseConvolution]) -> None:
        for stage in inner.values():
            for slot in stage.slots():
                slot.parameter.grad = None
        super().__init__(_changed(module, {name: Inner(stage) for name, stage in inner.items()}), needs_inputs)
        self._inner = list(inner.values())

    def slots(self) -> list[Slot]:
        """Return the slots that are trained in arenas."""
        return [slot for stage in self._inner for slot in stage.slots()]

    def bind(self) -> None:
        """Prepare the convolutions, after their slots are put into arenas."""
        for stage in self._inner:
            stage.bind()

    def missed(self) -> list[Slot]:
        """Return the slots of layers that autograd has not reached, or whose parameters it has reached elsewhere."""
        found = list[Slot]()
        for stage in self._inner:
            for slot in stage.slots():
                if stage.is_due:
                    slot.gradient.zero_()
                if stage.is_due or slot.parameter.grad is not None:
                    found.append(slot)
        return found


def _changed(module: nn.Module, inner: Mapping[str, nn.Module]) -> nn.Module:
    """Return a copy of a module with others in the place of some modules within it; all else is shared."""
    parts, within = dict(vars(module)["_modules"]), dict[str, dict[str, nn.Module]]()
    for name, part in inner.items():
        first, _, rest = name.partition(".")
        if rest:
            within.setdefault(first, {})[rest] = part
        else:
            parts[first] = part
    parts |= {first: _changed(parts[first], some) for first, some in within.items()}
    # Not as a new graph module: PyTorch keeps the code of each for ever.
    changed: nn.Module = object.__new__(type(module))
    vars(changed).update(vars(module), _modules=parts)
    return changed


class Inner(nn.Module):
    """A sparse convolution in the place of a layer within a network, for autograd.

    Args:
        stage: The convolution.
    """

    def __init__(self, stage: SparseConvolution) -> None:
        super().__init__()
        # Autograd goes back through a function only if an input of it needs a gradient.
        self._stage, self._leaf = stage, torch.zeros((), requires_grad=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, channels, height, width) to outputs, contiguous in memory."""
        outputs: Tensor = _Convolve.apply(inputs, self._leaf, self._stage)
        return outputs


class _Convolve(torch.autograd.Function):
    """Calls a stage; its gradients by parameters go into its slots."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, leaf: Tensor, stage: SparseConvolution) -> Tensor:
        ctx.stage = stage
        return turn_back(stage.forward(inputs))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        by_inputs = ctx.stage.backward(gradient, ctx.needs_input_grad[0])
        return None if by_inputs is None else turn_back(by_inputs), None, None


def turn(images: Tensor) -> Tensor:
    """Return images (batch, channels, height, width) in the layout (channels, height, width, batch)."""
    if is_turned(images):
        return images.permute(1, 2, 3, 0)
    # As a matrix: PyTorch turns matrices in a third of the time.
    return images.flatten(1).t().contiguous().view(*images.shape[1:], len(images))


def turn_back(images: Tensor) -> Tensor:
    """Return images (batch, channels, height, width), which are stored as `turn` returns them, contiguous in memory."""
    back = images.new_empty(images.shape)
    back.flatten(1).copy_(images.flatten(1))
    return back
