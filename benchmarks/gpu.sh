#!/usr/bin/env bash
# On a machine with a GPU: the tests that need one, then the benchmark; both are stopped at a limit, nine minutes in all.
# Results are in benchmarks/results, and copied to $OUT where that is set.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
python3 -c "import torch; assert torch.cuda.is_available(), 'no GPU here'" || exit 1

failed=0
timeout 100 python3 -m pytest tests -q -m "not slow" -k cuda || failed=1
# a row that has begun goes on to its end; results are written after each row
timeout 440 python3 -m pytest benchmarks -q -rs --benchmark --benchmark-minutes 6 || failed=1
if [ -n "${OUT:-}" ]; then
  cp benchmarks/results/* "$OUT"/
fi
exit $failed
