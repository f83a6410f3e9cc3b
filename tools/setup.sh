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

# From PyPI, `pip install torch` on Linux means a CUDA build of several GB. Where pip has been given a wheel of torch,
# it takes that one; everywhere else uv chooses the build that fits this machine.
echo "Installing (2 GB, some minutes)"
local_torch=
for folder in ${PIP_FIND_LINKS:-}; do
    if compgen -G "$folder/torch-*.whl" >/dev/null; then
        local_torch=yes
    fi
done
if [ -n "$local_torch" ]; then
    .venv/bin/python -m pip install --quiet -c constraints.txt -e '.[book,test]'
else
    .venv/bin/python -m pip install --quiet 'uv>=0.7,<1'
    .venv/bin/uv pip install --quiet --python .venv/bin/python --torch-backend=auto -c constraints.txt -e '.[book,test]'
fi
# For the weights in it alone: what it depends on needs a C compiler, and no longer runs.
.venv/bin/python -m pip install --quiet --no-deps -c constraints.txt Resemblyzer
# Other programs that open notebooks find this environment by a name of its own, not as one of many "python3".
.venv/bin/python -m ipykernel install --sys-prefix --name hmoe --display-name 'HMoE-SiMBA (hmoe)' >/dev/null
