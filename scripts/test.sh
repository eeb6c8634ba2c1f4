#!/usr/bin/env bash
# Sets up the project, checks the style and passes the tests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$PYTHON" -m ruff check .
# A worker for each core, but no more than memory allows at 2 GB each (tests/conftest.py fails a run in which one grew
# so far). One thread per process: small tensors lose more to threads that wait than they gain.
count='import os
memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**31
print(max(1, int(min(os.cpu_count(), memory, 8))))'
OMP_NUM_THREADS=1 "$PYTHON" -m pytest -n "$("$PYTHON" -c "$count")" --dist worksteal "$@"
