#!/usr/bin/env bash
# Sets up the project, checks the style and passes the tests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
"$PYTHON" -m ruff check .
"$PYTHON" -m pytest "$@"
