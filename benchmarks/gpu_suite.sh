#!/bin/sh
# All that a GPU is needed for, on a machine at hand for 25 minutes at most:
#   benchmarks/gpu_suite.sh [parity] [sanitize] [als] [sgd] [bpr] [topk]        (default: all, in this order)
# Results go to benchmarks/results/<device>/ (or RESULTS), each step's output to its log there. Each step has a time of
# its own, and a step that fails does not hold up the next; the exit status says whether one did.
# Needed: a CUDA 13 driver, cupy (with NVRTC), numpy, scipy, ml_dtypes, torch, matplotlib, numba, pytest, hypothesis;
# pytest-xdist makes parity faster; implicit with rmm-cu13 is a peer where it is there; compute-sanitizer for `sanitize`.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
export SHOPSIGHT_BACKEND=cuda PYTHONUNBUFFERED=1
RESULTS=${RESULTS:-benchmarks/results/$($PYTHON -c 'from benchmarks.runner import device_name; print(device_name(slug=True))')} || exit 1
mkdir -p "$RESULTS"
failed=

step() { # name, seconds, command...
    name=$1 seconds=$2
    shift 2
    echo "== $name: at most $seconds s"
    # a pipe would hide the status
    timeout "$seconds" "$@" >"$RESULTS/$name.log" 2>&1 || failed="$failed $name($?)"
    tail -n 40 "$RESULTS/$name.log"
}

parity() {
    workers=
    $PYTHON -c 'import xdist' 2>/dev/null && workers="-n 12"
    # shellcheck disable=SC2086
    step parity 420 $PYTHON -m pytest -q -m gpu $workers -p no:cacheprovider tests/kernels
}

sanitize() {
    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    step tour 60 $PYTHON -m benchmarks.on_gpu.tour # also compiles, so that the sanitizer need not watch that
    for tool in memcheck racecheck; do
        step $tool 100 "$sanitizer" --tool $tool --error-exitcode 9 $PYTHON -m benchmarks.on_gpu.tour
    done
}

bench() {
    limit=150
    [ "$1" = als ] && limit=360
    step "$1" $limit $PYTHON -m benchmarks.runner "$1" "$RESULTS/$1.json"
}

[ $# -gt 0 ] || set -- parity sanitize als sgd bpr topk
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem --format=csv 2>/dev/null
for chosen in "$@"; do
    case $chosen in
    parity | sanitize) $chosen ;;
    als | sgd | bpr | topk) bench "$chosen" ;;
    *) echo "no step '$chosen': parity, sanitize, als, sgd, bpr, topk" >&2; exit 2 ;;
    esac
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
