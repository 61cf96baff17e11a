"""The comparison of several variants of a model on several seeds."""

from gankit.compare.comparison import Comparison
from gankit.compare.entries import Entry, split_entries
from gankit.compare.outcomes import Outcome
from gankit.compare.paired import Difference, Verdict, paired_difference, student_quantile

__all__ = [
    "Comparison",
    "Difference",
    "Entry",
    "Outcome",
    "Verdict",
    "paired_difference",
    "split_entries",
    "student_quantile",
]
