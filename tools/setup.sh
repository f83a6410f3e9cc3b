#!/usr/bin/env bash
# Makes .venv beside this project and installs it there; called by the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."

# 3.11 first: the versions in constraints.txt were tested with it.
for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "${python:-}" ]; then
    echo "make: no Python 3.11 or newer with the venv module on the PATH; install one (Debian and Ubuntu: apt install" \
        "python3-venv; conda users: conda env create -f environment.yml) or name one: make PYTHON=/path/to/python3" >&2
    exit 2
fi
if [ ! -x .venv/bin/python ]; then
    echo "Making .venv with $("$python" --version)"
    "$python" -m venv .venv
fi

echo "Installing (2 GB)"
.venv/bin/python -m pip install --quiet -c constraints.txt uv
.venv/bin/python tools/install.py -c constraints.txt -e '.[book,test]'
# For the weights in it alone: what it depends on needs a C compiler, and no longer runs.
.venv/bin/python tools/install.py --no-deps -c constraints.txt Resemblyzer
# Other programs that open notebooks find this environment by a name of its own, not as one of many "python3".
.venv/bin/python -m ipykernel install --sys-prefix --name hmoe --display-name 'HMoE-SiMBA (hmoe)' >/dev/null
