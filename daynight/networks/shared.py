"""The masked networks of the ways to consolidate: with freezing, or shared by all tasks."""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

from torch import nn

from daynight.networks.masked import MaskedNetwork
from daynight.support import checks

Consolidation = Literal["freeze", "rehearse", "fine-tune"]

#: A masked network whose owned weights all keep learning, and are seen by every task. Biases are always shared.
SharedNetwork = functools.partial(MaskedNetwork, freezes=False)


def network_of(consolidation: Consolidation, module: nn.Module, *, biases: Any, **settings: Any) -> MaskedNetwork:
    """Return the masked network of a way to consolidate.

    Args:
        consolidation: See `daynight.Agent`.
        module: The module.
        biases: See `MaskedNetwork`; without freezing they are shared.
        settings: The other arguments of `MaskedNetwork`.

    Raises:
        SettingError: If there is no such way.
        NetworkError: See `MaskedNetwork`.
    """
    checks.one_of("consolidation", consolidation, get_args(Consolidation))
    if consolidation == "freeze":
        return MaskedNetwork(module, biases=biases, **settings)
    return SharedNetwork(module, joins_heads=consolidation == "rehearse", **settings)
