# scripts/setup.sh -- sourced by quickstart.sh and run_tests.sh, from the project's root.
#
#   ensure_uv                 find uv, or put it into .tools/ beside the project (needs python3 with pip, no root, and
#                             touches no system package: an "externally managed" Python, PEP 668, stays as it is)
#   sync_project EXTRA ...    make .venv hold exactly what uv.lock says, plus the extras named

ensure_uv() {
  export PATH="$PWD/.tools/bin:$PATH"
  if command -v uv >/dev/null; then return; fi
  if ! command -v python3 >/dev/null; then
    echo "error: there is no python3 on this machine; install Python 3.11 or newer and run this again" >&2
    exit 1
  fi
  if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "error: uv is missing and python3 has no pip to fetch it with; install uv (https://docs.astral.sh/uv/)" \
      "or python3-pip, and run this again" >&2
    exit 1
  fi
  echo "uv is missing: putting it into .tools/ (about 20 MB)"
  python3 -m pip install --quiet --no-input --disable-pip-version-check --root-user-action ignore \
    --target .tools "uv>=0.9"
}

sync_project() {
  local extras=()
  local name
  for name in "$@"; do extras+=(--extra "$name"); done
  # --inexact: extras that the user has added (flash, quant, ...) stay.
  uv sync --locked --inexact "${extras[@]}"
}
