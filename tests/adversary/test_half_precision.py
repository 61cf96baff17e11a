"""One gradient scaler serves both halves in float16."""

from __future__ import annotations

import torch
from torch import nn

from gankit import Spec, balanced_weight
from gankit.adversary import Adversary


def test_one_scaler_serves_both_halves():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1))
    D = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3))
    adversary = Adversary(D, loss="non_saturating", regularizers=[Spec("r1", weight=1.0)])
    optimizers = [torch.optim.SGD(one.parameters(), 0.1) for one in (model, D)]
    x = torch.rand(4, 1, 8, 8)

    def both_halves(scaler, half):
        with torch.autocast("cpu", torch.float16, enabled=half):
            y = model(x)
            loss = (y.float() - x).square().mean()
            term = adversary.generator_loss(fake=y, real=x)
        weight = balanced_weight(loss, term, at=model[2].weight)
        for optimizer in optimizers:
            optimizer.zero_grad()
        scaler.scale(loss + weight * term).backward()
        assert all(parameter.grad is None for parameter in D.parameters())
        scaler.scale(adversary.discriminator_loss(real=x, fake=y.float())).backward()
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        return [parameter.grad.clone() for network in (model, D) for parameter in network.parameters()]

    expected = both_halves(torch.amp.GradScaler("cpu", enabled=False), False)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = [parameter.detach().clone() for parameter in D.parameters()]
    for one, other in zip(both_halves(scaler, True), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=2e-4)
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**10  # no gradient was infinite
    assert not any(map(torch.equal, before, D.parameters()))
