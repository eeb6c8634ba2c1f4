#!/usr/bin/env bash
# All that a first run on a GPU should tell, in less than 25 minutes: one JSON and one page. --help says more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv/bin/python ] && python=.venv/bin/python || python=python3
exec "${PYTHON:-$python}" scripts/benchmark_gpu.py "$@"
