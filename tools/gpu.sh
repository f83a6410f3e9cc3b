#!/usr/bin/env bash
# A quarter of an hour on a GPU, prepared to the minute: every stage in a time box of its own. See book/cluster.md.
#   tools/gpu.sh                 all stages; with what `tools/gpu.sh carry` packed, if that is there
#   tools/gpu.sh run checks grid these alone
#   tools/gpu.sh carry           pack what a machine without network lacks: packages, corpus
# DEVICE (cuda), OUT (_build/gpu/out), PYTHON (.venv's, else python3) and CASIA, or CORPUS and ROOT, may be set.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
if [ -z "${PYTHON:-}" ] && [ -x .venv/bin/python ]; then
    python=.venv/bin/python
fi
export PYTHONPATH="$PWD:$PWD/book${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

# What was carried comes first, and is unpacked once: 2 s. Packages that are installed here stay as they are.
carried=$PWD/_build/gpu/packages.tar.xz
if ! "$python" -c 'import librosa, papermill, pydantic' 2>/dev/null && [ -f "$carried" ]; then
    unpacked=${TMPDIR:-/tmp}/hmoe-gpu-$(cksum <"$carried" | cut -d' ' -f1)
    if [ ! -d "$unpacked" ]; then
        "$python" -m tarfile -e "$carried" "$unpacked.part"
        mv "$unpacked.part" "$unpacked"
    fi
    export PYTHONPATH="$unpacked:$PYTHONPATH"
fi
if [ -f _build/gpu/commit ] && ! git rev-parse HEAD >/dev/null 2>&1; then
    HMOE_COMMIT=$(cat _build/gpu/commit)
    export HMOE_COMMIT
fi
exec "$python" tools/gpu.py "${@:-run}"
