#!/usr/bin/env bash
# Run the tests and the benchmark of TensorRT for RTX, which does not support Hopper cards:
#     tests/gpu/kit/rtx.sh OUT
# from the root of the clone, after run.sh, and after all pieces of FOLDER-rtx were copied to /tmp/rtx.
set -uo pipefail
out=$1
mkdir -p "$out"
cat /tmp/rtx/*libs*.whl.* > "/tmp/rtx/$(basename /tmp/rtx/*libs*.whl.aa .aa)" && rm /tmp/rtx/*.whl.??
python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/site /tmp/rtx/*.whl || exit 1
export PYTHONPATH=/tmp/site:$PWD PYTHONUNBUFFERED=1
cp -r engines/her2net-demo /tmp/rtx/bundle
HER2D_PIPELINE__SEGMENTER_BATCH=32 HER2D_PIPELINE__CLASSIFIER_BATCH=32 timeout 120 python3 -m her2d compile \
    /tmp/rtx/bundle --backend tensorrt-rtx --precision fp16 --tiles 8 2>&1 | tee "$out/rtx-compile.log"
timeout 120 python3 -m pytest -q -p no:cacheprovider -m gpu -k rtx tests/gpu 2>&1 | tee "$out/rtx-tests.log"
timeout 120 python3 -m tools.benchmark --repeats 3 --pipeline-s 2 --only tensorrt_rtx --markdown "$out/rtx.md" \
    /tmp/rtx/bundle 2>&1 | tee "$out/rtx-bench.log"
