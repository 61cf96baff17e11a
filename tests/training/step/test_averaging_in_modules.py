"""An average that is an attribute of somebody's module is saved, loaded, moved and copied with it."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils import swap_tensors

from gankit.errors import BadArgumentsError, DeviceError
from gankit.training import WeightAverage


class Model(nn.Module):
    """Stands for a LightningModule, whose checkpoint is its `state_dict`."""

    def __init__(self, dtype=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).to(dtype)
        self.average = WeightAverage(self.net, 0.999)

    def advance(self, updates, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(updates):
            with torch.no_grad():
                for one in (*self.net.parameters(), self.net[1].running_mean):
                    one.add_(0.1 * torch.randn(one.shape, generator=generator).to(one))
            self.average.update()
        return self


def assert_equal(first, second):
    found, wanted = first.state_dict(), second.state_dict()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


def dtype_ids(dtype):
    return str(dtype).removeprefix("torch.")


# --- saved and loaded ------------------------------------------------------------------------------------


def test_the_state_holds_the_averaged_network_once_and_tensors_only():
    model = Model(torch.bfloat16).advance(3)
    state = model.state_dict()
    names = list(model.net.state_dict())
    masters = [name for name in names if name != "1.num_batches_tracked"]
    assert sorted(state) == sorted(
        [f"net.{name}" for name in names]
        + [f"average.network.{name}" for name in names]
        + [f"average.masters.{name}" for name in masters]
        + ["average.updates_done"]
    )
    assert all(isinstance(one, torch.Tensor) for one in state.values())
    assert state["average.updates_done"] == 3
    assert [name for name, _ in model.named_children()] == ["net", "average"]
    assert [name for name, _ in model.average.named_children()] == ["network"]


@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
def test_a_module_resumes_exactly(dtype, assign):
    model = Model(dtype).advance(5)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    resumed = Model(dtype)
    resumed.load_state_dict(torch.load(file), assign=assign)
    assert_equal(resumed, model)
    assert resumed.average.present_decay == model.average.present_decay == 6 / 15
    for one in (model, resumed):
        one.advance(5, seed=1)
    assert_equal(resumed, model)


def test_what_is_missing_or_too_much_in_a_state_is_refused_as_torch_does():
    model, state = Model(), Model().state_dict()
    del state["average.updates_done"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"average.updates_done"'):
        model.load_state_dict(state)
    assert model.load_state_dict(state, strict=False).missing_keys == ["average.updates_done"]
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"average.masters.0.weight"'):
        model.load_state_dict(Model(torch.bfloat16).state_dict())
    half, state = Model(torch.bfloat16), Model(torch.bfloat16).state_dict()
    state["average.masters.0.weight"] = torch.zeros(2)
    with pytest.raises(RuntimeError, match=r"the average of 0.weight must be of shape \(3, 4\), got \(2,\)"):
        half.load_state_dict(state)


def test_a_state_in_float32_is_loaded_into_half_precision_with_its_precision():
    model, half = Model().advance(5), Model(torch.bfloat16)
    half.load_state_dict(model.state_dict())
    masters = half.average.nested_state_dict()["masters"]
    assert torch.equal(masters["0.weight"], model.average.network[0].weight)
    assert half.average.updates_done == 5


def test_statistics_that_are_estimated_after_an_assigning_load_are_those_of_the_average():
    model = Model(torch.bfloat16).advance(3)
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    model.average.estimate_statistics([(torch.randn(8, 4, dtype=torch.bfloat16),)])
    masters, network = model.average.nested_state_dict()["masters"], model.average.network
    assert torch.equal(masters["1.running_mean"], network[1].running_mean.float())


# --- modes and gradients ---------------------------------------------------------------------------------


def test_the_average_trains_nothing_and_stays_in_eval_mode():
    model = Model()
    model.train()
    assert model.net[1].training
    assert not any(layer.training for layer in (model.average, *model.average.network.modules()))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == [f"net.{name}" for name, _ in model.net.named_parameters()]


@pytest.mark.parametrize("way", ["module", "parameters", "average"])
def test_no_averaged_weight_becomes_trainable_or_gets_into_an_optimizer(way):
    model = Model().advance(3)
    if way == "parameters":
        for parameter in model.parameters():
            parameter.requires_grad = True
    else:
        (model if way == "module" else model.average).requires_grad_(True)
    averaged = list(model.average.network.parameters())
    assert len(averaged) == 4
    assert not any(parameter.requires_grad for parameter in averaged)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    trained = {id(one) for group in optimizer.param_groups for one in group["params"]}
    assert trained == {id(one) for one in model.net.parameters()}
    # a loss towards the averaged network, as of a teacher, trains the network alone
    (model.net(torch.ones(2, 4)) - model.average.network(torch.ones(2, 4))).square().sum().backward()
    assert all(parameter.grad is None for parameter in averaged)
    assert all(parameter.grad is not None for parameter in model.net.parameters())


def test_the_average_is_listed_without_its_network_and_each_listing_is_torchs():
    model = Model()
    both = nn.ModuleList([model.average, model.average])
    assert [name for name, _ in both.named_modules(remove_duplicate=False)] == ["", "0", "1"]
    assert [name for name, _ in both.named_modules()] == ["", "0"]
    assert list(model.average.modules()) == [model.average]
    assert [name for name, _ in model.named_modules()] == ["", "net", "net.0", "net.1", "average"]
    assert not list(model.average.parameters())
    assert model.get_parameter("average.network.0.weight") is model.average.network[0].weight


# --- moved and converted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=dtype_ids)
def test_a_conversion_of_the_module_converts_the_average_which_goes_on(dtype):
    model = Model().advance(5)
    before = {name: value.clone() for name, value in model.average.network.state_dict().items()}
    model.to(dtype)
    for name, value in model.average.network.state_dict().items():
        assert value.dtype == (dtype if before[name].is_floating_point() else torch.int64), name
        assert torch.equal(value, before[name].to(value.dtype)), name
    share, tolerance = 1 - model.average.present_decay, 0.01 if dtype == torch.bfloat16 else 1e-7
    model.average.update()
    for name, value in model.average.network.state_dict().items():
        if name != "1.num_batches_tracked":
            wanted = torch.lerp(before[name].to(dtype).double(), model.net.state_dict()[name].double(), share)
            torch.testing.assert_close(value, wanted.to(dtype), rtol=tolerance, atol=1e-7)
    assert bool(model.average.nested_state_dict().get("masters")) == (dtype == torch.bfloat16)


def test_a_conversion_to_half_precision_keeps_the_average_in_float32():
    model = Model().advance(5)
    before = {name: value.clone() for name, value in model.average.network.state_dict().items()}
    model.bfloat16()
    for name, value in model.average.nested_state_dict()["masters"].items():
        assert torch.equal(value, before[name]), name


def test_an_average_in_half_precision_is_not_rounded_by_a_move_and_is_exact_in_float32():
    model = Model(torch.bfloat16).advance(5)
    kept = [id(one) for one in model.average.tensors()]
    masters = {name: one.clone() for name, one in model.average.nested_state_dict()["masters"].items()}
    model.to(torch.bfloat16)
    assert [id(one) for one in model.average.tensors()] == kept  # which a captured step may hold
    for name, value in model.average.nested_state_dict()["masters"].items():
        assert torch.equal(value, masters[name]), name
    model.to(torch.float32)
    for name, value in masters.items():
        assert torch.equal(model.average.network.state_dict()[name], value), name


@pytest.mark.parametrize("overwrite", [False, True], ids=["in place", "other parameters"])
def test_the_average_follows_a_network_that_is_converted_alone(overwrite):
    model, whole = Model().advance(5), Model().advance(5)
    whole.load_state_dict(model.state_dict())
    torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
    try:
        model.net.double()
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    whole.double()
    for one in (model, whole):
        one.advance(3, seed=1)
    assert_equal(model, whole)
    model.average.float()  # which the next update undoes
    model.average.update()
    assert model.average.network[0].weight.dtype == torch.float64


def there_and_back(module):
    dtype = next(module.parameters()).dtype
    return module.double().to(dtype)


# each of them leaves the tensors as they are, but torch can be set to make other parameters all the same
UNCHANGING = {
    "to a device": lambda module: module.to("cpu"),
    "cpu": lambda module: module.cpu(),
    "to its type": lambda module: module.to(next(module.parameters()).dtype),
    "there and back": there_and_back,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
@pytest.mark.parametrize("way", ["overwrite", "swap"])
@pytest.mark.parametrize(
    ("change", "moved"),
    [
        *((change, "whole") for change in UNCHANGING),
        # of a network alone that is converted twice, nobody tells the average
        *((change, "network") for change in UNCHANGING if change != "there and back"),
    ],
)
def test_a_conversion_that_changes_nothing_does_not_restart_the_average(change, way, moved, dtype):
    model = Model(dtype).advance(5)
    other = copy.deepcopy(model)
    setting = getattr(torch.__future__, f"set_{way}_module_params_on_conversion")
    setting(True)
    try:
        module = model if moved == "whole" else model.net
        before = list(module.parameters())
        convert = UNCHANGING[change]
        convert(module)
        assert any(a is not b for a, b in zip(before, module.parameters(), strict=True)) == (way == "overwrite")
    finally:
        setting(False)
    for one in (model, other):
        one.advance(3, seed=1)
    assert_equal(model, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
def test_a_network_without_values_is_refused_and_the_average_kept(dtype):
    model = Model(dtype).advance(5)
    other = copy.deepcopy(model)
    kept = {name: value.clone() for name, value in model.net.state_dict().items()}
    model.net.to("meta")
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"^network must be on a device that holds values, got its 0.weight on"):
            model.average.update()
    assert model.average.updates_done == 5
    model.net.to_empty(device="cpu").load_state_dict(kept)
    for one in (model, other):
        one.advance(3, seed=1)
    assert_equal(model, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
def test_an_average_without_values_is_refused_until_it_is_loaded(dtype):
    model = Model(dtype).advance(5)
    other, state = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    model.average.to("meta")
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"^the averaged network must be .* got its 0.weight on 'meta'; load the"):
            model.average.update()
    model.to("meta")
    with pytest.raises(DeviceError, match="^network must be on a device that holds values"):
        model.average.update()
    model.to_empty(device="cpu").load_state_dict(state)
    for one in (model, other):
        one.advance(3, seed=1)
    assert_equal(model, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
@pytest.mark.parametrize("filled", ["loaded", "whole", "network"])
def test_a_module_that_is_made_without_values_can_be_filled_later(filled, dtype):
    wanted = Model(dtype)
    with torch.device("meta"):
        model = Model(dtype)
    with pytest.raises(DeviceError, match="^network must be on a device that holds values, got its 0.weight on 'meta'"):
        model.average.update()
    if filled == "loaded":
        model.load_state_dict(copy.deepcopy(wanted.state_dict()), assign=True)
    else:
        (model if filled == "whole" else model.net).to_empty(device="cpu")
        model.net.load_state_dict(wanted.net.state_dict())
    for one in (model, wanted):
        one.advance(3)
    assert_equal(model, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("moved", ["whole", "network"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
def test_an_average_goes_on_on_another_device(dtype, moved):
    model = Model(dtype).advance(5)
    on_host = copy.deepcopy(model)
    (model if moved == "whole" else model.net).to("cuda")
    for one in (model, on_host):
        one.advance(5, seed=1)
    assert model.average._device_weight is not None
    assert {one.device.type for one in model.average.tensors()} == {"cuda"}
    torch.testing.assert_close(model.cpu().state_dict(), on_host.state_dict())
    model.advance(1)
    assert model.average._device_weight is None


def test_buffers_that_are_moved_there_and_back_keep_their_averages():
    model, other = Model().advance(5), Model()
    other.load_state_dict(model.state_dict())
    model.double().float()
    for one in (model, other):
        one.advance(3, seed=1)
    assert_equal(model, other)


def test_the_first_update_copies_whatever_was_there():
    model = Model()
    for tensor in model.average.tensors():
        if tensor.is_floating_point():
            tensor.detach().fill_(float("nan"))  # such as memory that was never written
    model.average.update()
    for name, value in model.net.state_dict().items():
        assert torch.equal(model.average.network.state_dict()[name], value), name


def assign(layer):
    layer.weight = nn.Parameter(torch.ones(3, 4))


def swap(layer):
    swap_tensors(layer.weight, nn.Parameter(torch.ones(3, 4)))


def set_data(layer):
    layer.weight.data = torch.ones(3, 4)


def parametrize_and_change(layer):
    parametrizations.weight_norm(layer)
    with torch.no_grad():
        layer.weight = torch.ones(3, 4)


def parametrize_and_remove(layer):
    parametrizations.orthogonal(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assign(layer)


REPLACEMENTS = [assign, swap, set_data, parametrize_and_change, parametrize_and_remove]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
@pytest.mark.parametrize("replace", REPLACEMENTS, ids=[one.__name__ for one in REPLACEMENTS])
def test_the_weights_that_are_averaged_are_those_that_the_network_uses_now(replace, dtype):
    model = Model().advance(3)
    bias = model.average.network[0].bias
    replace(model.net[0])
    model.to(dtype)  # torch makes few parametrizations in half precision
    for _ in range(200):
        model.average.update()
    torch.testing.assert_close(model.average.network[0].weight, torch.ones(3, 4, dtype=dtype))
    assert list(model.average.network.state_dict()) == list(model.net.state_dict())
    assert not any(parameter.requires_grad for parameter in model.average.network.parameters())
    if replace in (assign, swap, set_data):  # the others have changed the layers of the averaged network
        assert model.average.network[0].bias is bias


def test_reshaped_parameters_begin_a_new_average():
    model = Model().advance(2)
    model.net[0].weight.data = torch.zeros(3, 5)
    model.average.update()
    assert torch.equal(model.average.network[0].weight, torch.zeros(3, 5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
@pytest.mark.parametrize("replace", ["assign", "load", "layer"])
def test_averages_that_the_owner_puts_into_the_averaged_network_go_on(replace, dtype):
    model = Model(dtype).advance(3)
    network, ones = model.average.network, torch.ones(3, 4, dtype=dtype)
    if replace == "assign":
        network[0].weight = nn.Parameter(ones.clone(), requires_grad=False)
    elif replace == "load":
        network.load_state_dict(network.state_dict() | {"0.weight": ones.clone()}, assign=True)
    else:
        network[0] = nn.Linear(4, 3, dtype=dtype)
        nn.init.ones_(network[0].weight)
    nn.init.zeros_(model.net[0].weight)
    share = model.average.present_decay
    model.average.update()
    torch.testing.assert_close(model.average.network[0].weight, share * ones)
    assert not any(parameter.requires_grad for parameter in model.average.network.parameters())


def test_a_network_that_contains_its_own_average_is_refused():
    model = nn.Sequential(nn.Linear(1, 1))
    model.append(WeightAverage(model, 0.9))
    with pytest.raises(BadArgumentsError, match="network must not contain its own average, got Sequential"):
        model[1].update()


# --- copied ----------------------------------------------------------------------------------------------

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("make", COPIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=dtype_ids)
def test_a_copy_averages_its_own_network(dtype, make):
    model = Model(dtype).advance(5)
    before = copy.deepcopy(model.state_dict())
    made = COPIES[make](model)
    made.advance(5, seed=1)
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name
    model.advance(5, seed=1)
    assert_equal(made, model)


# --- in Lightning ----------------------------------------------------------------------------------------


@pytest.mark.slow  # the import alone takes seconds
@pytest.mark.skipif(not find_spec("lightning"), reason="needs the extra `frameworks`: lightning")
def test_a_lightning_checkpoint_holds_the_average_and_continues_exactly(tmp_path):
    from lightning.pytorch import LightningModule, Trainer

    class Averaged(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
            self.average = WeightAverage(self.net, 0.999)

        def training_step(self, batch):
            return self.net(batch).square().mean() + self.net[0].weight.square().sum()

        def on_train_batch_end(self, *_):
            self.average.update()

        def configure_optimizers(self):
            return torch.optim.Adam(self.net.parameters(), lr=0.01)

    def fitted(module, epochs, path=None):
        trainer = Trainer(
            max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about workers and the like
            trainer.fit(module, batches, ckpt_path=path)
        return trainer

    batches = torch.utils.data.DataLoader(torch.randn(32, 4), batch_size=8)
    whole, path = Averaged(), str(tmp_path / "half.ckpt")
    half, resumed = copy.deepcopy(whole), Averaged()
    fitted(whole, 4)
    fitted(half, 2).save_checkpoint(path)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert saved["average.updates_done"] == 8
    assert sum(name.endswith("0.weight") for name in saved) == 2  # the network's and the average's
    fitted(resumed, 4, path)
    assert_equal(resumed, whole)
    assert not resumed.average.network.training
