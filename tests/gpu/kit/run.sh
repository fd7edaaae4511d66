#!/usr/bin/env bash
# What the README and RESULTS.md ask of a GPU, in one go of ten minutes at most, without a network:
#     run.sh WHEELS OUT
# in the repository's root. WHEELS is what collect.sh filled. OUT gets one log a step, the tables, and
# `summary`: what each step ended in, as it ends. TensorRT is tried where it is installed.
set -uo pipefail
wheels=$1 out=$2
mkdir -p "$out"
python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site "$wheels"/*.whl ||
    exit 1
export PYTHONPATH=/tmp/site:$PWD:${PYTHONPATH:-} PYTHONUNBUFFERED=1

step() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 started=$SECONDS
    shift 2
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    echo "$name: exit $? after $((SECONDS - started)) s: $(tail -1 "$out/$name.log")" | tee -a "$out/summary"
}

{
    nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv
    python3 -c '
import numpy, onnx, onnxruntime, torch
for each in (torch, onnxruntime, onnx, numpy): print(each.__name__, each.__version__)'
} 2>&1 | tee "$out/machine.log"

test="python3 -m pytest -q -p no:cacheprovider -m gpu"
bench="python3 -m her2d bench --turns 3 --pipeline-s 2"
step device 60 $test tests/gpu/test_gpu_device.py tests/gpu/test_gpu_runtime.py
step engines 120 $test tests/gpu/test_gpu_engines.py
step bench-shipped 90 $bench --only tensorrt --only 'torch cuda' --markdown "$out/shipped.md" engines/her2net-demo
step full-size 60 python3 tests/gpu/kit/full_size.py /tmp/full-size
step bench-full-size 120 $bench --only tensorrt --only 'torch cuda' --markdown "$out/full-size.md" /tmp/full-size
step daemon 60 $test tests/gpu/test_gpu_daemon.py
step bench-all 90 $bench --turns 1 --batch 8 --markdown "$out/all.md" engines/her2net-demo
