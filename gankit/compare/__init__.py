"""The comparison of several variants of a model on several seeds."""

from gankit.compare.comparison import Comparison, Outcome
from gankit.compare.entries import Entry, split_entries

__all__ = ["Comparison", "Entry", "Outcome", "split_entries"]
