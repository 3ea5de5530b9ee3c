"""Export into files that other programs run. Each file is read back and checked before it replaces an older file."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from daynight.errors import ExportError, MissingPackageError, SettingError
from daynight.networks.compact import check_equal
from daynight.support import atomic, threads

#: Largest difference between outputs of an exported file and the agent's, in units of the largest output (or 1).
TOLERANCE = 1e-5


class Transformed(nn.Module):
    """A task's network, and the transform that is applied to its inputs first.

    Args:
        network: The network.
        transform: Applied to the inputs; None is no transform.
    """

    def __init__(self, network: nn.Module, transform: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.network, self.transform = network, transform

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (batch, ...) to outputs (batch, n_outputs)."""
        outputs: Tensor = self.network(inputs if self.transform is None else self.transform(inputs))
        return outputs


def export(
    path: str | os.PathLike[str],
    network: nn.Module,
    transform: Callable[[Tensor], Tensor] | None,
    inputs: Tensor,
    expected: Tensor,
) -> None:
    """Write a task's network, in the format that the ending of the path names.

    Args:
        path: Ends in ``.pt`` (a state dict), ``.safetensors``, ``.pt2`` (`torch.export`) or ``.onnx``. In the last two
            formats, the network takes any number of inputs, and applies the transform.
        network: The network, in evaluation mode.
        transform: Applied to the inputs; None is no transform.
        inputs: Two or more inputs (batch, ...), before the transform.
        expected: The agent's predictions for `inputs`.

    Raises:
        SettingError: If the ending of the path is not valid.
        MissingPackageError: If ONNX is not installed.
        ExportError: If the network cannot be exported, or the network in the file has different outputs.
        OutputError: If the file cannot be written.
    """
    forms = {".pt": _state_dict, ".safetensors": _safetensors, ".pt2": _program, ".onnx": _onnx}
    form = Path(path).suffix.lower()
    if form not in forms:
        raise SettingError(
            f"path must end in {', '.join(forms)}, which name the format of the file, not {str(path)!r}."
        )
    module = Transformed(network, transform).eval()
    with atomic.replacing(path) as temporary, torch.no_grad():
        check_equal(form, forms[form](temporary, module, inputs), expected, TOLERANCE)


def _state_dict(path: Path, module: Transformed, inputs: Tensor) -> Tensor:
    torch.save(module.network.state_dict(), path)
    return _loaded(module, torch.load(path, weights_only=True), inputs)


def _safetensors(path: Path, module: Transformed, inputs: Tensor) -> Tensor:
    import safetensors.torch

    state = {name: tensor.contiguous().clone() for name, tensor in module.network.state_dict().items()}
    safetensors.torch.save_file(state, path)
    return _loaded(module, safetensors.torch.load_file(path), inputs)


def _loaded(module: Transformed, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the outputs of the module with the tensors that were read from the file."""
    other = copy.deepcopy(module)
    for tensor in other.network.state_dict().values():
        tensor.zero_()
    other.network.load_state_dict(state)
    outputs: Tensor = other(inputs)
    return outputs


def _program(path: Path, module: Transformed, inputs: Tensor) -> Tensor:
    torch.export.save(_exported(module, inputs), path)
    outputs: Tensor = torch.export.load(path).module()(inputs)
    return outputs


def _onnx(path: Path, module: Transformed, inputs: Tensor) -> Tensor:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("ONNX needs two packages. Install them with: pip install 'daynight[onnx]'") from error
    exported = _exported(module, inputs)
    try:
        with threads.quiet():  # about the exporter itself
            program: Any = torch.onnx.export(
                exported, (), dynamo=True, verbose=False, input_names=["inputs"], output_names=["outputs"]
            )
    except Exception as error:  # its errors have no common base class
        cause = error.__cause__ or error
        reason = next(iter(str(cause).splitlines()), "")
        raise ExportError(
            f"torch.onnx has no form for a part of the network: {type(cause).__name__}: {reason} Write .pt2, .pt or "
            ".safetensors."
        ) from error
    program.save(str(path), external_data=False)
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs.cpu().numpy()})
    except Exception as error:  # onnxruntime's errors have no common base class
        reason = next(iter(str(error).splitlines()), "")
        raise ExportError(
            f"onnxruntime cannot run the exported network of {inputs.dtype}: {type(error).__name__}: {reason} It lacks "
            "kernels for some types, such as bfloat16. Write .pt2, .pt or .safetensors, or train in float32."
        ) from error
    return torch.from_numpy(outputs).to(inputs.device)


def _exported(module: Transformed, inputs: Tensor) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(module, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # tracing runs the user's own code, which can fail in any way
        reason = next(iter(str(error).splitlines()), "")
        raise ExportError(
            f"torch.export cannot follow the network, or its transform: {type(error).__name__}: {reason} A state dict "
            "(.pt or .safetensors) is possible for any network."
        ) from error
