#!/usr/bin/env bash
# Set up what the tests need, then run them. Nothing has to be there but Python with pip.
#
#   ./run_tests.sh                 lint and every quick test (minutes on 2 cores)
#   ./run_tests.sh --slow          also the long kill, soak and engine matrices
#   ./run_tests.sh -k resume -x    anything else goes to pytest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/setup.sh

marks=(-m "not slow")
if [[ ${1:-} == --slow ]]; then
  marks=()
  shift
fi

ensure_uv
sync_project finetune quant demo scale test
uv run --no-sync ruff check .
uv run --no-sync ruff format --check .
# One file stays in one process: importing torch costs seconds, and fixtures of a file are made once.
exec uv run --no-sync pytest -n "${TEST_WORKERS:-2}" --dist loadfile "${marks[@]}" "$@"
