"""What is imported only when it is used."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

LAZY = ["gankit", "gankit.training"]
WITHOUT_TORCH = {
    "import gankit": "import gankit",
    "import gankit.errors": "import gankit.errors",
    "gankit --help": "sys.argv[1:] = ['--help']; run()",
    "gankit --version": "sys.argv[1:] = ['--version']; run()",
    "gankit list": "sys.argv[1:] = ['list']; run()",
}
SCRIPT = """
import importlib.metadata
import runpy
import sys

importlib.metadata.entry_points = lambda **_: ()  # parts of other packages would have to be imported

def run():
    try:
        runpy.run_module("gankit", run_name="__main__")
    except SystemExit as leaving:
        assert not leaving.code

{}
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("what", WITHOUT_TORCH)
def test_torch_is_not_imported_for(what):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(WITHOUT_TORCH[what])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def promised(package: str) -> dict[str, object]:
    """The names that a lazy package shows to type checkers, and what they are."""
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    found = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            if statement.module == package:
                found[alias.name] = importlib.import_module(f"{package}.{alias.name}")
            else:
                home = importlib.import_module(statement.module)
                found[alias.asname or alias.name] = getattr(home, alias.name)
    return found


@pytest.mark.parametrize("package", LAZY)
def test_a_lazy_package_exports_what_it_promises_to_type_checkers(package):
    module = importlib.import_module(package)
    for name, member in promised(package).items():
        assert getattr(module, name) is member, name
    assert set(module.__all__) - {"__version__"} == promised(package).keys()
    assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("package", LAZY)
def test_a_name_that_does_not_exist_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Adversarry'"):
        importlib.import_module(package).Adversarry  # noqa: B018
    with pytest.raises(ImportError, match="Adversarry"):
        exec(f"from {package} import Adversarry")


def test_modules_need_no_import_of_their_own():
    code = "import gankit; print(gankit.optimizers.OPTIMIZERS.kind, gankit.runs.Run.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["optimizer", "Run"]
