"""What the tests of wrong parts share: each part is caught by the rule that it breaks."""

from __future__ import annotations

import pytest

from gankit.errors import ConformanceError


def wrong_parts(cases, names=("part", "rule")):
    """Parametrize a test with wrong parts; in each case the part is first and the rule is last."""
    return pytest.mark.parametrize(names, [pytest.param(*case, id=f"{title(case[0])}-{case[-1]}") for case in cases])


def title(part):
    return getattr(part, "__name__", type(part).__name__)


def assert_caught(check, part, rule, **options):
    with pytest.raises(ConformanceError) as caught:
        check(part, **options)
    message = str(caught.value)
    assert caught.value.rule == rule, message
    assert f"breaks the rule {rule!r}: " in message
    assert "; the usual cause is " in message
    assert "\n" not in message
