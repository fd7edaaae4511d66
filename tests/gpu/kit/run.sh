#!/usr/bin/env bash
# Run all GPU tests and benchmarks without a network, in ten minutes at most:
#     tests/gpu/kit/run.sh WHEELS OUT
# from the root of the clone. WHEELS is the folder that collect.sh filled, or "" if its wheels are already
# installed in /tmp/site. OUT receives the tables, the file `summary`, to which each step's exit status and
# time is added as it ends, and an archive of the steps' logs. Plans for TensorRT are compiled only if it is
# installed.
set -uo pipefail
wheels=$1 out=$2
mkdir -p "$out"
if [ -n "$wheels" ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site "$wheels"/*.whl ||
        exit 1
fi
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

test=(python3 -m pytest -q -p no:cacheprovider -m gpu)
bench=(python3 -m tools.benchmark --repeats 3 --pipeline-s 2 --only tensorrt --only "torch cuda")
compile=(env HER2D_PIPELINE__SEGMENTER_BATCH=32 HER2D_PIPELINE__CLASSIFIER_BATCH=32 python3 -m her2d compile)
cp -r engines/her2net-demo /tmp/shipped
step device 60 "${test[@]}" tests/gpu/test_gpu_device.py tests/gpu/test_gpu_runtime.py
step engines 90 "${test[@]}" tests/gpu/test_gpu_engines.py
step daemon 60 "${test[@]}" tests/gpu/test_gpu_daemon.py
for bundle in shipped full-size; do
    if [ $bundle = full-size ]; then step full-size 60 python3 tests/gpu/kit/full_size.py /tmp/full-size; fi
    if python3 -c 'import tensorrt' 2>/dev/null; then
        step compile-$bundle 120 "${compile[@]}" /tmp/$bundle --backend tensorrt --precision fp16 --tiles 8
    fi
    step bench-$bundle 120 "${bench[@]}" --markdown "$out/$bundle.md" /tmp/$bundle
done
step parity 60 python3 tests/gpu/kit/parity.py /tmp/shipped
step training 120 python3 tests/gpu/kit/training_step.py 32 64
tar -czf "$out/logs.tar.gz" -C "$out" --remove-files $(cd "$out" && ls *.log)
