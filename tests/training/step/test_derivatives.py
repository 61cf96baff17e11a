"""A gradient that does not reach its network is an error of one sentence, before anything has changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from gankit.errors import GradientError
from gankit.regularizers import R1, PathLength, WassersteinGradientPenalty
from tests.training.observing import same, weights
from tests.training.steps import SHAPE, adam


def generator(*layers):
    return nn.Sequential(nn.Linear(3, 16), *layers, nn.Linear(16, 16), nn.Unflatten(1, SHAPE))


def discriminator(*layers):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), *layers, nn.Linear(16, 1), nn.Flatten(0))


class Saves(nn.Module):
    """A network whose activations are computed again in the backward pass."""

    def __init__(self, network, reentrant=True):
        super().__init__()
        self.network, self.reentrant = network, reentrant

    def forward(self, x):
        if self.reentrant and not x.requires_grad:
            x = x.detach().requires_grad_()
        return checkpoint(self.network, x, use_reentrant=self.reentrant)


class Cut(nn.Module):
    def forward(self, x):
        return x.detach()


class Rounds(nn.Module):
    """A layer without a graph: a common mistake is a forward pass under no_grad()."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, x):
        return self.network(x)


def refused(trainer, batches, says):
    """Assert that the first step is refused and changes nothing."""
    before = weights(trainer.generator), weights(trainer.discriminator), trainer.randomness.noise.get_state()
    with pytest.raises(GradientError, match=says):
        trainer.fit(batches, steps=1)
    assert same(weights(trainer.generator), before[0])
    assert same(weights(trainer.discriminator), before[1])
    assert torch.equal(trainer.randomness.noise.get_state(), before[2])
    assert not any(one for optimizer in trainer.state.optimizers for one in optimizer.state.values())
    assert trainer.steps_done == 0


def middle(reentrant=True):
    return Saves(nn.Sequential(nn.Linear(16, 16), nn.Tanh()), reentrant)


CHECKPOINTED = {
    "all of G": lambda: (Saves(generator()), discriminator()),
    "the start of G": lambda: (nn.Sequential(Saves(nn.Linear(3, 16)), nn.Linear(16, 16), nn.Unflatten(1, SHAPE)), None),
    "the middle of G": lambda: (generator(middle()), None),
    "all of D": lambda: (generator(), Saves(discriminator())),
    "the start of D": lambda: (generator(), nn.Sequential(Saves(nn.Flatten()), discriminator(middle()))),
    "the middle of D": lambda: (generator(), discriminator(middle())),
}


@pytest.mark.parametrize(
    "options", [{}, {"regularizers": [R1()]}, {"execution": "compile"}], ids=["", "r1", "compiled"]
)
@pytest.mark.parametrize("where", CHECKPOINTED)
def test_reentrant_checkpointing_is_refused_at_the_first_step(where, options, make_trainer, batches):
    G, D = CHECKPOINTED[where]()
    refused(make_trainer(G, D or discriminator(), **options), batches, "use_reentrant=True .* use use_reentrant=False")


def test_reentrant_checkpointing_is_refused_when_its_network_is_unfrozen_or_put_in(make_trainer, batches):
    trainer = make_trainer(generator(middle()), discriminator())
    trainer.generator.requires_grad_(False)
    trainer.fit(batches, steps=1)
    trainer.generator.requires_grad_(True)
    with pytest.raises(GradientError, match="use_reentrant=False"):
        trainer.fit(batches, steps=2)


def test_reentrant_checkpointing_is_refused_where_g_is_warmed_up(make_trainer, batches):
    trainer = make_trainer(generator(middle()), discriminator(), discriminator_warmup_steps=2)
    trainer.fit(batches, steps=2)
    before = weights(trainer.discriminator)
    with pytest.raises(GradientError, match="in the generator's half, .*use_reentrant=False"):
        trainer.fit(batches, steps=3)
    assert same(weights(trainer.discriminator), before)


@pytest.mark.parametrize("options", [{}, {"regularizers": [R1()]}], ids=["plain", "r1"])
def test_other_checkpointing_trains_as_without(options, make_trainer, batches):
    trainers = []
    for reentrant in (False, None):
        torch.manual_seed(0)
        layers = [middle(False), middle(False)]
        if reentrant is None:
            layers = [nn.Sequential(one.network) for one in layers]
        trainers.append(make_trainer(generator(layers[0]), discriminator(layers[1]), **options).fit(batches, steps=2))
    assert same(weights(trainers[0].generator), weights(trainers[1].generator))
    assert same(weights(trainers[0].discriminator), weights(trainers[1].discriminator))


CUTS = {
    "G detaches": (lambda: nn.Sequential(generator(), Cut()), discriminator, "no gradient reaches the generator"),
    "G without a graph": (lambda: Rounds(generator()), discriminator, "no gradient reaches the generator"),
    "D detaches": (generator, lambda: nn.Sequential(discriminator(), Cut()), "no gradient reaches the discriminator"),
    "D without a graph": (generator, lambda: Rounds(discriminator()), "no gradient reaches the discriminator"),
    "D detaches its input": (generator, lambda: nn.Sequential(Cut(), discriminator()), "reaches the generator"),
}


@pytest.mark.parametrize("share", [False, True], ids=["fakes of its own", "shared fakes"])
@pytest.mark.parametrize("where", CUTS)
def test_a_network_that_gets_no_gradient_is_refused_at_the_first_step(where, share, make_trainer, batches):
    G, D, says = CUTS[where]
    refused(make_trainer(G(), D(), share_generator_forward=share), batches, says)


def test_a_penalty_on_an_input_that_d_detaches_is_refused(make_trainer, batches):
    trainer = make_trainer(generator(), nn.Sequential(Cut(), discriminator()), regularizers=[R1()])
    refused(trainer, batches, "in the discriminator's half, a term differentiates what does not depend on the samples")


def test_a_penalty_on_an_input_that_d_changes_in_place_is_refused(make_trainer, batches):
    D = nn.Sequential(nn.LeakyReLU(0.2, inplace=True), discriminator())
    trainer = make_trainer(discriminator=D, regularizers=[R1()])
    refused(
        trainer, batches, "samples, which the discriminator changes in place; let its first layers return new tensors"
    )


def test_a_tensor_that_is_changed_in_place_before_its_gradient_is_refused(make_trainer, batches):
    refused(
        make_trainer(discriminator=discriminator(nn.Sigmoid(), nn.ReLU(inplace=True))), batches, "changes a tensor in"
    )


def test_a_parameter_without_influence_is_left_alone(make_trainer, batches):
    trainer = make_trainer(optimizer=torch.optim.AdamW)
    trainer.generator.register_parameter("idle", nn.Parameter(torch.ones(2)))
    trainer.generator_optimizer.add_param_group({"params": [trainer.generator.idle]})
    trainer.fit(batches, steps=2)
    assert trainer.generator.idle.tolist() == [1.0, 1.0]


# --- derivatives of derivatives ------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention over four tokens of four numbers, by torch's fused operation."""

    def forward(self, x):
        tokens = x.view(len(x), 1, 4, 4)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).flatten(1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.layer(x.view(len(x), 4, 4)).flatten(1)


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


class Once(nn.Module):
    def forward(self, x):
        return Square.apply(x)


PENALTIES = {"r1": R1, "wgan_gp": WassersteinGradientPenalty, "path_length": PathLength}
MATH = r"differentiates twice, which \S*attention\S* cannot be; .*sdpa_kernel\(SDPBackend.MATH\)"
ONCE = "a layer marked with @once_differentiable cannot be"


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(
    ("layer", "says"), [(Attention, MATH), (Encoder, MATH), (Once, ONCE)], ids=["fused", "encoder", "once"]
)
def test_a_layer_that_is_differentiated_only_once_is_refused_with_the_way_out(
    penalty, layer, says, make_trainer, batches
):
    trainer = make_trainer(generator(layer()), discriminator(layer()), regularizers=[PENALTIES[penalty]()])
    refused(trainer, batches, says)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_way_out_of_fused_attention_works(penalty, make_trainer, batches):
    trainer = make_trainer(generator(Encoder()), discriminator(Attention()), regularizers=[PENALTIES[penalty]()])
    with sdpa_kernel(SDPBackend.MATH):
        assert trainer.fit(batches, steps=2).steps_done == 2


@pytest.mark.parametrize("layer", [Attention, Encoder, Once])
def test_such_a_layer_is_fine_without_a_penalty(layer, make_trainer, batches):
    assert make_trainer(generator(layer()), discriminator(layer())).fit(batches, steps=2).steps_done == 2


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's compiler causes it
@pytest.mark.parametrize("penalty", ["r1", "path_length"])
def test_penalties_refuse_a_compiled_network_and_name_the_execution(penalty, make_trainer, batches):
    G, D = (torch.compile(network(nn.Tanh()), backend="aot_eager") for network in (generator, discriminator))
    trainer = make_trainer(G, D, regularizers=[PENALTIES[penalty]()])
    refused(trainer, batches, "a network made by torch.compile cannot be; .* execution='compile'")


# --- around fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("execution", ["eager", "compile"])
def test_training_where_torch_records_no_gradients_is_refused(mode, execution, make_trainer, batches):
    trainer = make_trainer(execution=execution)
    with mode(), pytest.raises(GradientError, match=r"call inside torch.no_grad\(\) or torch.inference_mode\(\)"):
        trainer.fit(batches, steps=1)
    with mode(), pytest.raises(GradientError, match=r"call inside torch.no_grad\(\) or torch.inference_mode\(\)"):
        trainer.step(batches[0])
    assert trainer.fit(batches, steps=1).steps_done == 1
    assert trainer.feed.taken == 1


def test_networks_that_were_made_in_inference_mode_are_refused(make_trainer, batches):
    with torch.inference_mode():
        trainer = make_trainer()
        assert trainer.sample(2).shape == (2, *SHAPE)
    with pytest.raises(GradientError, match=r"must be made outside torch.inference_mode\(\)"):
        trainer.fit(batches, steps=1)


def test_batches_that_were_made_in_inference_mode_are_refused(make_trainer):
    with torch.inference_mode():
        batch = torch.randn(6, *SHAPE)
    trainer = make_trainer()
    with pytest.raises(GradientError, match=r"must be made outside torch.inference_mode\(\)"):
        trainer.step(batch)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_default_device_does_not_matter(device, make_trainer, batches):
    plain, trainer = make_trainer(regularizers=[R1(), PathLength()], averaging_decay=0.9), None
    plain.fit(batches, steps=3)
    trainer = make_trainer(regularizers=[R1(), PathLength()], averaging_decay=0.9)
    with torch.device(device):
        trainer.fit(batches, steps=3)
        assert torch.equal(trainer.sample(3, seed=1), plain.sample(3, seed=1))


def test_a_wider_default_dtype_leaves_the_networks_in_their_own(make_trainer, batches):
    trainer = make_trainer(regularizers=[R1(), PathLength()], averaging_decay=0.9)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert trainer.fit(batches, steps=3).sample(3).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


def test_deterministic_algorithms_train_too(make_trainer, batches):
    plain, trainer = (make_trainer(regularizers=[R1(), PathLength()], optimizer=adam) for _ in range(2))
    plain.fit(batches, steps=2)
    torch.use_deterministic_algorithms(True)
    try:
        trainer.fit(batches, steps=2)
    finally:
        torch.use_deterministic_algorithms(False)
    assert same(weights(trainer.generator), weights(plain.generator))
