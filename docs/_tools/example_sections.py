"""Let the reference show gankit's `Example:` sections as examples.

The renderer knows the section only in the plural; in the singular, it would take `>>>` for a quotation.
"""

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Read `Example:` as `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
