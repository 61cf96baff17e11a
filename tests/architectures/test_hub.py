"""A network with a spec among its arguments goes through a hub's mixin and comes back equal."""

from __future__ import annotations

import inspect
import json

import pytest
import torch
from torch import nn

from gankit import Spec
from gankit.architectures import MLPDiscriminator, MLPGenerator


class HubMixin:
    """What huggingface_hub's `PyTorchModelHubMixin` does with arguments, apart from the network.

    It keeps the arguments of the constructor that JSON can hold, or that one of its coders can encode. Annotations that
    are strings, as after `from __future__ import annotations`, name no class, so that nothing is decoded.
    """

    def __init_subclass__(cls, *, coders=None, **options):
        super().__init_subclass__(**options)
        cls.coders = coders or {}

    def __new__(cls, *args, **kwargs):
        network = super().__new__(cls)
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        network.config = {}
        for name, value in (dict(zip(names, args, strict=False)) | kwargs).items():
            for kind, (encode, _) in cls.coders.items():
                if isinstance(value, kind):
                    value = encode(value)
            network.config[name] = value
        return network

    def save_pretrained(self, folder):
        (folder / "config.json").write_text(json.dumps(self.config))
        torch.save(self.state_dict(), folder / "weights.pt")

    @classmethod
    def from_pretrained(cls, folder):
        network = cls(**json.loads((folder / "config.json").read_text()))
        network.load_state_dict(torch.load(folder / "weights.pt"), strict=False)
        return network


CODERS = {Spec: (Spec.to_dict, Spec.from_dict)}


class HubGenerator(MLPGenerator, HubMixin, coders=CODERS):
    """A generator for a hub."""


class HubDiscriminator(HubMixin, MLPDiscriminator, coders=CODERS):
    """A discriminator for a hub."""


@pytest.mark.parametrize("kind", [HubGenerator, HubDiscriminator])
@pytest.mark.parametrize(
    "block", [Spec("maxout", pieces=3), Spec("linear_leaky_relu", negative_slope=0.3), "linear_relu"], ids=str
)
def test_a_network_with_a_spec_goes_through_a_hub(tmp_path, kind, block):
    shapes = (4, (1, 4, 4)) if kind is HubGenerator else ((1, 4, 4),)
    network = kind(*shapes, widths=(8,), block=block).eval()
    x = torch.randn(3, 4) if kind is HubGenerator else torch.randn(3, 1, 4, 4)
    network.save_pretrained(tmp_path)
    other = kind.from_pretrained(tmp_path).eval()
    assert isinstance(other, nn.Module)
    assert torch.equal(network(x), other(x))
