"""The networks that an adapter names, matched, and called with the captures' tensors."""
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from captures.spec import Spec
from torch_port.adapter.isolation import AdapterError, where
from torch_port.adapter.load import Adapter
from torch_port.adapter.network import MatchingError, UserNetwork, match


class Conversion:
    """Between the captures' tensors (latents N x 100; images N x 3 x H x W as B, G, R in [-1, 1])
    and the user's."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.bgr = adapter.channels == "BGR"

    def latents(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), *self.adapter.latents)

    def images(self, x: Tensor) -> Tensor:
        low, high = self.adapter.range
        x = x if self.bgr else x.flip(1)
        if (low, high) != (-1, 1):
            x = (x + 1) * ((high - low) / 2) + low
        return x.permute(0, 2, 3, 1) if self.adapter.layout == "NHWC" else x

    def into(self, x: Tensor) -> Tensor:
        """Latents or images, on the device that the networks are on."""
        made = self.latents(x) if x.dim() == 2 else self.images(x)
        return made.to(self.adapter.device)

    def from_images(self, x: Tensor) -> Tensor:
        low, high = self.adapter.range
        x = x.permute(0, 3, 1, 2) if self.adapter.layout == "NHWC" else x
        if (low, high) != (-1, 1):
            x = (x - low) * (2 / (high - low)) - 1
        return x if self.bgr else x.flip(1)


def user_networks(adapter: Adapter, spec: Spec, mapping: Mapping[str, str] | None = None
                  ) -> dict[str, UserNetwork]:
    """The networks that are there, matched. Raises AdapterError, MatchingError."""
    made, conversion = {}, Conversion(adapter)
    arrays = {name for network in spec.networks for name in network.arrays}
    for name in mapping or ():
        if name not in arrays:
            raise MatchingError(f"the mapping names {name!r}, which is no array of CNTK's: "
                                "docs/judge-your-port.md shows one, `bin/parity explain-port` all "
                                "layers")
    for network in spec.networks:
        role = "generator" if network.name == spec.maker.name else "discriminator"
        if not adapter.has(role):
            continue
        module = adapter.network(role)
        latents = len(network.input) == 1
        example = torch.randn(2, *network.input, generator=torch.Generator().manual_seed(0))
        out_of = conversion.from_images if latents else _unchanged
        if latents and math.prod(adapter.latents) != math.prod(network.input):
            raise AdapterError(f"{adapter.path}: `latents` is {adapter.latents}, which holds "
                               f"{math.prod(adapter.latents)} values; a latent of CNTK's has "
                               f"{math.prod(network.input)}: give (100,) or (100, 1, 1)")
        with adapter.theirs(role):
            try:
                matched = match(module.to(adapter.device), network, conversion.into(example),
                                mapping, conversion.bgr)
            except MatchingError as error:  # with their file, and their line where it is one
                raise MatchingError(f"{where(error.__cause__ or error, adapter.path)}: {error}"
                                    ) from error
        made[network.name] = UserNetwork(matched, conversion.into, out_of, conversion.bgr)
    return made


def _unchanged(out: Tensor) -> Tensor:
    return out
