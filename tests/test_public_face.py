"""What users import, and that it says what it does."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys

import pytest

import gankit
from gankit.cli import REGISTRIES

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(gankit.__path__, "gankit.")
    if name != "gankit.__main__" and not name.rpartition(".")[2].startswith("_")
]

FIXED_NAMES = [
    "AdversarialTrainer",
    "BLOCKS",
    "DATASETS",
    "DISCRIMINATORS",
    "GENERATORS",
    "LOSSES",
    "OPTIMIZERS",
    "PRESETS",
    "REGULARIZERS",
    "Registry",
    "Spec",
]


@pytest.mark.parametrize("name", FIXED_NAMES)
def test_the_fixed_names_are_at_the_top(name):
    assert name in gankit.__all__
    assert hasattr(gankit, name)


def in_a_new_process(code: str) -> str:
    strict = ["-W", "error"] if os.environ.get("GANKIT_TEST_WARNINGS") == "error" else []
    done = subprocess.run([sys.executable, *strict, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_gankit_imports_nothing_optional():
    optional = ["torchvision", "PIL", "matplotlib", "tensorboard", "torchmetrics", "torch_fidelity", "scipy"]
    code = f"import sys, gankit; print([name for name in {optional} if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


def test_without_torchvision_there_are_still_all_the_parts_and_the_trainer():
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from gankit.presets import vanilla_mnist\n"
        "trainer = vanilla_mnist(device='cpu').fit(vanilla_mnist.batches(device='cpu'), steps=2)\n"
        "print(tuple(trainer.sample(3).shape))"
    )
    assert in_a_new_process(code) == "(3, 1, 28, 28)"


def public_members():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        yield module_name, module
        for name, member in vars(module).items():
            if name.startswith("_") or getattr(member, "__module__", None) != module_name:
                continue
            if inspect.isclass(member) or inspect.isfunction(member):
                yield f"{module_name}.{name}", member


MEMBERS = dict(public_members())


@pytest.mark.parametrize("name", MEMBERS)
def test_every_public_name_has_a_docstring(name):
    assert inspect.getdoc(MEMBERS[name]), name


EXPORTED = {
    name: member
    for name in gankit.__all__
    if inspect.isroutine(member := getattr(gankit, name))
    or (inspect.isclass(member) and not issubclass(member, Exception))
}


@pytest.mark.parametrize("name", EXPORTED)
def test_every_class_and_function_at_the_top_has_an_example(name):
    # that the examples run is seen by --doctest-modules
    assert doctest.DocTestParser().get_examples(inspect.getdoc(EXPORTED[name]) or ""), name


def test_every_public_method_has_a_docstring():
    missing = [
        f"{owner}.{name}"
        for owner, member in MEMBERS.items()
        if inspect.isclass(member)
        for name, method in vars(member).items()
        if not name.startswith("_") and callable(method) and not inspect.getdoc(method)
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, n) for k, r in REGISTRIES.items() if k != "optimizers" for n in r.names() if r.get(n).__module__ != "torch"],
)
def test_every_part_has_one_line_that_cites_its_source(kind, name):
    summary = REGISTRIES[kind].summary(name)
    assert summary.endswith((".", ")."))
    if kind in ("losses", "regularizers", "generators", "discriminators", "presets"):
        assert any(year in summary for year in map(str, range(1990, 2027))), summary
