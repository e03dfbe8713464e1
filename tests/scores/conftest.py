"""What the tests of the scores share: random weights for both Inception networks, made once."""
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from scores.classifiers import registry


def fill(network: nn.Module, seed: int) -> nn.Module:
    """Weights with which every layer's output is of size 1, and statistics that are not 0 and 1."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("running_var", "bn.weight")):
                value.copy_(torch.rand(value.shape, generator=draws) + 0.5)
            elif name.endswith(("running_mean", "bias")):
                value.copy_(torch.randn(value.shape, generator=draws) * 0.1)
            elif value.dim() > 1:
                value.copy_(torch.randn(value.shape, generator=draws)
                            * (2 / value[0].numel()) ** 0.5)
    return network.eval()


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of each Inception network to a file of random weights for it."""
    folder = tmp_path_factory.mktemp("weights")
    made = {}
    for seed, name in enumerate(("inception-v3", "inception-2015")):
        made[name] = folder / f"{name}.pth"
        torch.save(fill(registry.module_of(name).network(), seed).state_dict(), made[name])
    return made


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where converted networks are kept for the session."""
    return tmp_path_factory.mktemp("classifiers")
