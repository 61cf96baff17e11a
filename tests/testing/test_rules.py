"""What users see of the rules: the error, `skip`, and the page that lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from gankit import GankitError
from gankit.errors import BadValueError, ConformanceError
from gankit.losses import Minimax
from gankit.testing import RULES, check_loss
from tests.testing.wrong_losses import Broadcasting


def test_an_error_of_a_part_is_reported_with_the_call_and_the_reason():
    class Raises(Minimax):
        def discriminator_loss(self, real_logits, fake_logits):
            if real_logits.dtype == torch.bfloat16:
                raise RuntimeError("not implemented\nfor 'BFloat16'")
            return super().discriminator_loss(real_logits, fake_logits)

    with pytest.raises(
        ConformanceError,
        match=r"'dtype': discriminator_loss of real logits \(5,\) and fake logits \(5,\), torch.bfloat16, device cpu "
        r"raised RuntimeError: not implemented for 'BFloat16'; the usual cause is",
    ) as caught:
        check_loss(Raises())
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert isinstance(caught.value, GankitError)
    assert isinstance(caught.value, AssertionError)


def test_a_rule_can_be_skipped_and_an_unknown_one_is_refused():
    check_loss(Broadcasting(), skip=["no-broadcast"])
    with pytest.raises(BadValueError, match="skip must name rules of check_loss, got 'no-brodcast'. Did you mean"):
        check_loss(Broadcasting(), skip=["no-brodcast"])


def test_the_page_lists_every_rule():
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    for kind, rules in RULES.items():
        _, _, section = page.partition(f'<a id="rules-{kind}"></a>')
        listed = re.findall(r"^\| `([\w-]+)` \|", section.partition("<a id=")[0], re.MULTILINE)
        assert listed == list(rules), kind
