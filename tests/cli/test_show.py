"""`gankit show`: what a part takes and does."""

from __future__ import annotations

from gankit.cli import main


def test_show_gives_arguments_and_documentation(capsys):
    assert main(["show", "regularizers", "r1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        "r1(weight: float = 10.0, every: int = 1, reduction: Reduction = 'mean', sigma: float | None = None)"
    )
    assert "Mescheder et al. 2018" in shown
