"""What is set before torch is imported, for the tests alone: benchmarks measure with the defaults."""

import os

# OpenMP's threads spin while they wait, which stalls everything where other programs use the cores too
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
