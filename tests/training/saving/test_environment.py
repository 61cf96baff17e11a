"""What has changed between a save and a resume, beside the state, is listed in one warning."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from gankit.architectures import GENERATORS
from gankit.data import TensorData, image_folder, make_batches
from gankit.errors import InexactResumeWarning
from gankit.losses import LOSSES
from gankit.presets import ring, vanilla_mnist
from gankit.runs import Recipe, Run
from gankit.spec import Spec
from gankit.training import Checkpointer, load_newest
from gankit.training.saving.environment import _parts_of_data, sources_of
from tests.training.steps import SHAPE

pytestmark = pytest.mark.filterwarnings("ignore:the (data|batches) are expected to have")  # of one colour

TINY = vanilla_mnist.replace(generator=Spec("mlp", widths=[8]), discriminator=Spec("mlp", widths=[8]), batch_size=4)


def save(trainer, batches) -> None:
    with Checkpointer("checkpoints", every_steps=100) as checkpointer:
        checkpointer.save(trainer.fit(batches, steps=1))


def changes(trainer, batches) -> list[str]:
    """Return what the one warning of a resume lists."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_newest("checkpoints").restore(trainer, batches)
    found = [str(one.message) for one in caught if one.category is InexactResumeWarning]
    if not found:
        return []
    (message,) = found
    return message.removeprefix("training continues from step 1, but not as if it had never stopped: ").split("; ")


# --- machine and settings --------------------------------------------------------------------------------

SETTINGS = {
    "the number of threads is 7": ("get_num_threads", 7),
    "the precision of float32 products is medium": ("get_float32_matmul_precision", "medium"),
    "the default dtype is torch.float64": ("get_default_dtype", torch.float64),
    "the use of deterministic algorithms is True": ("are_deterministic_algorithms_enabled", True),
    "the CPU capability is AVX1024": ("backends.cpu.get_cpu_capability", "AVX1024"),
}


@pytest.mark.parametrize("says", SETTINGS)
def test_a_setting_that_has_changed_is_named(says, make_trainer, batches, monkeypatch):
    name, value = SETTINGS[says]
    save(make_trainer(), batches)
    trainer = make_trainer()
    assert changes(trainer, batches) == []
    monkeypatch.setattr(f"torch.{name}", lambda: value)
    (change,) = changes(trainer, batches)
    assert change.startswith(f"{says}, was ")


def test_all_changes_are_in_one_warning(make_trainer, batches, monkeypatch):
    save(make_trainer(), batches)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "get_default_dtype", lambda: torch.float64)
    threads = torch.get_num_threads.__call__()
    others = [batch + 1 for batch in batches[:3]]
    assert changes(make_trainer(), others) == [
        f"the number of threads is {threads}, was 1",
        "the default dtype is torch.float64, was torch.float32",
        "the number of batches of the data is 3, was 4",
        "the content of the data has changed",
    ]


# --- data ------------------------------------------------------------------------------------------------


class Listed(Dataset):
    """Pictures by file, with the attribute that torchvision's folders have."""

    def __init__(self) -> None:
        self.samples = [(str(file), 0) for file in sorted(Path("pictures").glob("*.png"))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index):
        return torch.zeros(SHAPE)


class Counted(Listed):
    """Samples of which only their number is known."""

    def __init__(self) -> None:
        super().__init__()
        self.count = len(self.__dict__.pop("samples"))

    def __len__(self) -> int:
        return self.count


def samples(count: int = 8, value: float = 0.0):
    return torch.arange(count * 16).reshape(count, *SHAPE) / 1000 + value


def batches_of(data):
    return make_batches(data, batch_size=4, sample_range=None)


IN_MEMORY = {
    "data in memory": batches_of,
    "a list": lambda data: list(data.split(4)),
    "a list with labels": lambda data: [(part, None) for part in data.split(4)],
    "a loader": lambda data: batches_of(DataLoader(TensorDataset(data), 4)),
    "a Dataset": lambda data: batches_of(TensorDataset(data)),
    "a part of a Dataset": lambda data: batches_of(Subset(TensorDataset(data), list(range(len(data))))),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_data_in_memory_are_recognised_by_their_content(kind, make_trainer):
    make = IN_MEMORY[kind]
    save(make_trainer(), make(samples()))
    assert changes(make_trainer(), make(samples())) == []
    other = samples()
    other[7, 0, 0, 0] += 1e-3
    assert changes(make_trainer(), make(other)) == ["the content of the data has changed"]
    count = "batches" if kind.startswith("a list") else "samples"
    more = changes(make_trainer(), make(samples(12)))
    assert more[0].startswith(f"the number of {count} of the data is ")
    assert more[1] == "the content of the data has changed"


def test_other_labels_are_other_data():
    def batches(label):
        data = TensorData(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.full((4,), label))
        return conditional.batches(data, device="cpu")

    conditional = TINY.replace(num_classes=3)
    save(conditional(device="cpu"), batches(0))
    assert changes(conditional(device="cpu"), batches(0)) == []
    assert changes(conditional(device="cpu"), batches(2)) == ["the content of the data has changed"]


def picture(name: str, grey: int = 7, folder: str = "pictures") -> Path:
    path = Path(folder, name)
    path.parent.mkdir(exist_ok=True)
    Image.new("L", (28, 28), grey).save(path)
    return path


FILES = {
    "added": (lambda: picture("9.png"), ["the number of files of the data is 9, was 8"]),
    "renamed": (lambda: Path("pictures/7.png").rename("pictures/8.png"), []),
    "other pixels": (lambda: os.utime(picture("3.png", 9), (1, 1)), None),
}


@pytest.mark.parametrize("change", FILES)
@pytest.mark.parametrize("lazy", ["own", "torchvision"])
def test_files_are_recognised_by_names_sizes_and_times(change, lazy):
    def batches():
        data = image_folder("pictures", in_memory=False) if lazy == "own" else Listed()
        loader = DataLoader(data, 4, collate_fn=lambda parts: torch.zeros(len(parts), 1, 28, 28))
        return TINY.batches(loader, device="cpu")

    for number in range(8):
        picture(f"{number}.png")
    save(TINY(device="cpu"), batches())
    assert changes(TINY(device="cpu"), batches()) == []
    act, first = FILES[change]
    act()
    expected = ["the sizes and times of the files of the data has changed"]
    if first is not None:
        expected = [*first, "the names of the files of the data has changed", *(expected if first else [])]
    assert changes(TINY(device="cpu"), batches()) == expected


def test_of_any_other_data_set_the_length_is_compared(make_trainer):
    for number in range(8):
        picture(f"{number}.png")
    save(make_trainer(), batches_of(DataLoader(Counted(), 4)))
    picture("more.png")
    assert changes(make_trainer(), batches_of(DataLoader(Counted(), 4))) == [
        "the number of samples of the data is 9, was 8"
    ]


def test_a_run_whose_pictures_have_changed_says_so_and_one_that_is_told_other_data_does_not():
    for number in range(8):
        picture(f"{number}.png")
        picture(f"{number}.png", folder="others")
    preset = TINY.replace(data=Spec("image_folder", root="pictures"), steps=1)
    Run("run", Recipe(preset=preset, device="cpu")).train(progress=False)
    picture("3.png", 200)
    with pytest.warns(InexactResumeWarning, match="from step 1, .*: the content of the data has changed$"):
        Run("run", Recipe(preset=preset.replace(steps=2), device="cpu")).resume(progress=False)
    others = preset.replace(data=Spec("image_folder", root="others"), steps=3)
    Run("run", Recipe(preset=others, device="cpu")).resume(progress=False, override=True)


# --- code ------------------------------------------------------------------------------------------------

LOSS = """
from gankit.losses import Minimax, LOSSES

@LOSSES.register("own", replace=True)
class Own(Minimax):
    def generator_loss(self, fake_logits, real_logits=None):
        return {scale} * super().generator_loss(fake_logits)
"""
NETWORK = """
from torch import nn
from gankit.architectures import GENERATORS

@GENERATORS.register("own", replace=True)
def own(latent_dim, sample_shape):
    return nn.Sequential(nn.Linear(latent_dim, 2), nn.Linear(2, 2), nn.Tanh() if {scale} else nn.Identity())
"""


@pytest.fixture
def own_part(monkeypatch):
    """Import a module of somebody's own part, as a new process does after it was edited."""
    monkeypatch.syspath_prepend(str(Path.cwd()))

    def make(source, scale):
        Path("own_part.py").write_text(source.format(scale=scale))
        sys.modules.pop("own_part", None)
        importlib.invalidate_caches()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        try:
            return importlib.import_module("own_part")
        finally:
            sys.dont_write_bytecode = before

    yield make
    for registry in (LOSSES, GENERATORS):
        registry._factories.pop("own", None)
    sys.modules.pop("own_part", None)


@pytest.mark.parametrize(
    ("source", "field", "name"), [(LOSS, "loss", "Own"), (NETWORK, "generator", "own")], ids=["a class", "a function"]
)
def test_a_registered_part_whose_source_has_changed_is_named(source, field, name, own_part):
    preset = ring.replace(**{field: "own"}, batch_size=8)

    def batches():
        return preset.batches(device="cpu")

    own_part(source, 1)
    save(preset(device="cpu"), batches())
    own_part(source, 1)
    assert changes(preset(device="cpu"), batches()) == []
    own_part(source, 0)
    assert changes(preset(device="cpu"), batches()) == [f"the source of own_part.{name} has changed"]


def test_an_object_of_a_class_is_recognised_too_and_a_file_that_is_edited_meanwhile_is_not(
    own_part, make_trainer, batches
):
    own = own_part(LOSS, 1).Own
    trainer = make_trainer(loss=own())
    save(trainer, batches)
    Path("own_part.py").write_text(LOSS.format(scale=3))  # what runs is what was imported
    with Checkpointer("checkpoints", every_steps=100) as checkpointer:
        checkpointer.save(trainer)
    own_part(LOSS, 1)
    assert changes(make_trainer(loss=sys.modules["own_part"].Own()), batches) == []
    own_part(LOSS, 3)
    assert changes(make_trainer(loss=sys.modules["own_part"].Own()), batches) == [
        "the source of own_part.Own has changed"
    ]


def test_code_that_cannot_be_read_is_no_change(make_trainer, batches):
    typed: dict = {}
    exec("from gankit.losses import Minimax\nclass Typed(Minimax):\n    pass", typed)
    save(make_trainer(loss=typed["Typed"]()), batches)
    assert changes(make_trainer(loss=typed["Typed"]()), batches) == []


def test_data_are_read_once_for_all_saves(make_trainer, batches, monkeypatch):
    read = []
    monkeypatch.setattr("gankit.training.feed.data_fingerprint", lambda source: read.append(source) or {})
    with Checkpointer("checkpoints", every_steps=1) as checkpointer:
        make_trainer(callbacks=[checkpointer]).fit(batches, steps=3)
    assert len(read) == 1


class Added:
    """A transform of the user's."""


def own(x):
    return x


def names_in(sources):
    return sorted((name.rpartition(".")[2] for name in sources), key=str.lower)


def test_all_data_sets_and_transforms_are_looked_at():
    dataset = Listed()
    dataset.target_transform, dataset.transforms = own, SimpleNamespace(transforms=[nn.Identity(), Added()])
    loader = DataLoader(ConcatDataset([TensorDataset(torch.zeros(2)), dataset]))
    assert names_in(sources_of(_parts_of_data(loader))) == ["Added", "Listed", "own"]


class Decorates(contextlib.ContextDecorator):
    """A part of the user's."""


def test_code_of_the_standard_library_is_known_by_its_version():
    assert names_in(sources_of([Decorates()])) == ["Decorates"]


class Broken(Dataset):
    """A data set whose attributes raise errors of their own."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index):
        return torch.zeros(SHAPE)

    @property
    def samples(self):
        raise RuntimeError("not loaded")


def test_data_that_raise_an_error_are_not_compared_and_end_nothing(make_trainer):
    save(make_trainer(), batches_of(Broken()))
    assert changes(make_trainer(), batches_of(Broken())) == []
