#!/usr/bin/env bash
# Sets up the project, checks the style and passes the tests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$PYTHON" -m ruff check .
# One thread per process and one process per core: small tensors lose more to threads that wait than they gain.
OMP_NUM_THREADS=1 "$PYTHON" -m pytest -n logical --maxprocesses 8 "$@"
