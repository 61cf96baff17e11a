"""A preset reads folders of pictures in its own shape, and needs labels only if it has classes."""

from __future__ import annotations

import warnings

import pytest
import torch

from gankit import cli
from gankit.errors import DataError, DataWarning, ShapeError
from gankit.presets import dcgan_mnist, vanilla_mnist
from gankit.spec import Spec
from tests.data.making_pictures import notices, save

WIDE = vanilla_mnist.replace(sample_shape=(3, 4, 6), batch_size=2)


def make(*names):
    for number, name in enumerate(names):
        save(f"pictures/{name}.png", (10 * number, 0, 0), size=(12, 8))


@pytest.mark.parametrize("in_memory", [True, False])
def test_pictures_get_the_presets_shape_and_range(in_memory):
    make("a", "b")
    for preset in (WIDE, WIDE.replace(sample_range=(-1.0, 1.0))):
        real = next(iter(preset.batches(Spec("image_folder", in_memory=in_memory), root="pictures", device="cpu")))
        assert real.shape == (2, 3, 4, 6)
        assert real.min() == preset.sample_range[0]


@pytest.mark.parametrize("arguments", [{"size": 28}, {"channels": 1}, {"size": (6, 4)}])
def test_arguments_for_another_shape_are_refused_before_a_file_is_read(arguments):
    with pytest.raises(ShapeError, match=r"shape \(3, 4, 6\), got size and channels for .*; leave both out, or change"):
        WIDE.batches(Spec("image_folder", **arguments), root="nowhere")


def test_colours_are_lost_with_a_word():
    make("a", "b", "c", "d")
    _, said = notices(lambda: vanilla_mnist.batches("image_folder", root="pictures", batch_size=2, device="cpu"))
    assert said[0] == "channels=1 makes pictures grey, got 2 of 4 pictures with colours; channels=3 keeps them"


def test_a_loose_picture_matters_only_to_models_with_classes():
    make("cats/a", "dogs/a", "loose")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        WIDE.batches("image_folder", root="pictures", device="cpu")
    with pytest.raises(DataError, match="^for labels, every picture must be in a class folder, got 'pictures.loose"):
        WIDE.replace(num_classes=2).batches("image_folder", root="pictures", device="cpu")


@pytest.mark.parametrize("in_memory", [True, False])
def test_classes_and_class_folders_are_counted(in_memory):
    make("cats/a", "dogs/a", "eels/a")
    data = Spec("image_folder", in_memory=in_memory, root="pictures")
    with pytest.raises(DataError, match="labels must be from 0 to 1 for num_classes=2, got 0 to 2"):
        WIDE.replace(num_classes=2).batches(data, device="cpu")
    with pytest.warns(DataWarning, match="^num_classes is 10, but there are 3 class folders, .* label above 2$"):
        WIDE.replace(num_classes=10).batches(data, device="cpu")
    batches = WIDE.replace(num_classes=3).batches(data, device="cpu", batch_size=3)
    assert next(iter(batches))[1].sort().values.tolist() == [0, 1, 2]


def test_own_pictures_are_trained_on_from_the_command_line_alone(capsys):
    make("a", "b")
    flags = ["--root", "pictures", "--sample-shape", "3,8,8", "--batch-size", "2", "--steps", "1", "--device", "cpu"]
    flags += ["--generator", "dcgan:hidden_dim=2", "--discriminator", "dcgan:hidden_dim=2", "--no-progress"]
    assert cli.main(["train", "dcgan_mnist", "--data", "image_folder", *flags, "--out", "run"]) == 0
    assert capsys.readouterr().err == ""


def test_the_shape_on_the_command_line_must_be_integers(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "dcgan_mnist", "--sample-shape", "3,x"])
    assert "must be integers with commas between them, got '3,x'" in capsys.readouterr().err


def test_pictures_from_the_disk_train_on_where_fit_stopped():
    make(*"abcdefgh")
    preset = dcgan_mnist.replace(
        sample_shape=(3, 8, 8),
        generator=Spec("dcgan", hidden_dim=2),
        discriminator=Spec("dcgan", hidden_dim=2),
        data=Spec("image_folder", root="pictures", in_memory=False),
        batch_size=2,
    )
    whole = preset(device="cpu", seed=1).fit(preset.batches(device="cpu"), steps=7)
    first, batches = preset(device="cpu", seed=1), preset.batches(device="cpu")
    first.fit(batches, steps=5)
    assert torch.equal(
        first.fit(batches, steps=7).sample(2, seed=0),
        whole.sample(2, seed=0),
    )


def test_pictures_on_the_disk_that_are_named_again_continue_where_fit_stopped():
    make(*"abcdefgh")
    data = Spec("image_folder", root="pictures", in_memory=False)

    def train(batches_of):
        trainer = WIDE(generator=Spec("mlp", widths=[2]), discriminator=Spec("mlp", widths=[2]), device="cpu", seed=1)
        for steps in (1, 2, 3):
            trainer.fit(batches_of(), steps=steps)
        return trainer.sample(2, seed=0)

    once = WIDE.batches(data, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(train(lambda: WIDE.batches(data, device="cpu")), train(lambda: once))
