#!/bin/sh
# All that a GPU is needed for, in three parts of under 400 seconds each:
#   benchmarks/on_gpu/run_all.sh [parity] [sanitize] [als]        (default: all, in this order)
# parity: the tests marked gpu. sanitize: a tour of all kernels under compute-sanitizer, then SGD and BPR.
# als: ALS and top-k, beside their peers and their floors. Results go to benchmarks/results/<device>/ (or RESULTS), each
# step's output to its log there, and all of it into results.tar.gz in OUT, if that is set. A step that fails does not
# hold up the next; the exit status says whether one did.
# Needed: a CUDA 13 driver, Python 3.12, cupy (with NVRTC), torch, numpy, scipy, ml_dtypes, numba, matplotlib, pytest and
# hypothesis; pytest-xdist makes parity faster; implicit with rmm-cu13 is a peer where it is there.
set -u
cd "$(dirname "$0")/../.."
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

bench() { # name, seconds
    step "$1" "$2" $PYTHON -m benchmarks.runner "$1" "$RESULTS/$1.json"
}

parity() {
    workers=
    $PYTHON -c 'import xdist' 2>/dev/null && workers="-n 12"
    # shellcheck disable=SC2086
    step parity 390 $PYTHON -m pytest -q -m gpu $workers -p no:cacheprovider --continue-on-collection-errors tests/kernels
}

sanitize() {
    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    step tour 40 $PYTHON -m benchmarks.on_gpu.tour # also compiles, so that the sanitizer need not watch that
    for tool in memcheck racecheck; do
        step $tool 80 "$sanitizer" --tool $tool --error-exitcode 9 $PYTHON -m benchmarks.on_gpu.tour
    done
    bench sgd 90
    bench bpr 90
}

als() {
    bench als 270
    bench topk 120
}

[ $# -gt 0 ] || set -- parity sanitize als
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,clocks.max.mem --format=csv 2>/dev/null
for part in "$@"; do
    case $part in
    parity | sanitize | als) $part ;;
    *) echo "no part '$part': parity, sanitize, als" >&2; exit 2 ;;
    esac
done
if [ -n "${OUT:-}" ]; then tar -czf "$OUT/results.tar.gz" -C "$RESULTS" . || failed="$failed tar($?)"; fi
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
