#!/usr/bin/env bash
# Makes or reuses the environment in .venv (or $MIMICMOTION_VENV) from requirements.txt, -dev.txt, -cluster.txt and -web.txt.
# Sourced by demo.sh and test.sh: afterwards $PYTHON runs the project. Reinstalls only when a requirement changes.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
VENV=${MIMICMOTION_VENV:-$ROOT/.venv}
PYTHON=$VENV/bin/python
STAMP=$VENV/requirements.sha256
WANTED=$(cat requirements.txt requirements-dev.txt requirements-cluster.txt requirements-web.txt | sha256sum | cut -d' ' -f1)

base_python() {
    for candidate in "${MIMICMOTION_PYTHON:-}" python3.11 python3.12 python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or 3.12 is needed; put one on PATH or name it in MIMICMOTION_PYTHON" >&2
    exit 3
}

install() {
    "$PYTHON" -m pip install --quiet --disable-pip-version-check \
        -r requirements.txt -r requirements-dev.txt -r requirements-cluster.txt -r requirements-web.txt
}

if [ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ]; then
    echo "Setting up the environment in $VENV (about 3 GB without CUDA; a few minutes, once)"
    [ -x "$PYTHON" ] || "$(base_python)" -m venv "$VENV"
    # Downloads break now and then: what was fetched is kept, so a second try is short.
    install || install
    # OpenCV's wheel wants one system library that slim images lack.
    if ! "$PYTHON" -c 'import cv2' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq && apt-get install -y -qq libgl1 libglib2.0-0 >/dev/null
        fi
        "$PYTHON" -c 'import cv2' || { echo "OpenCV cannot start; install libgl1 and libglib2.0-0" >&2; exit 3; }
    fi
    echo "$WANTED" > "$STAMP"
fi
