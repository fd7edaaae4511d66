#!/usr/bin/env bash
# Collect wheels for a GPU machine without a network:
#     tests/gpu/kit/collect.sh FOLDER PYTHON
# PYTHON is an interpreter of the same version as on that machine, with its headers. PyCUDA is built with
# it here, against the local CUDA toolkit's headers, so that this takes no time on the GPU machine.
# FOLDER-rtx receives TensorRT for RTX, 90 MB in pieces of 45 MB, for links that limit a file's size.
set -euo pipefail
folder=$1 python=$2
here=$(cd "$(dirname "$0")" && pwd)
version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
mkdir -p "$folder"
platforms=()
for glibc in 2_28 2_27 2_24 2_17 2_5; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
for old in 2014 2010 1; do platforms+=(--platform "manylinux${old}_x86_64"); done
download() {
    "$python" -m pip download -q --no-deps --only-binary=:all: --python-version "$version" \
        --implementation cp "${platforms[@]}" -c "$here/../../../constraints.txt" "$@"
}
download -r "$here/carried.txt" -d "$folder"
download tensorrt-rtx-cu12-libs tensorrt-rtx-cu12-bindings -d "$folder-rtx"
"$python" -m pip wheel -q --no-deps -c "$here/../../../constraints.txt" tensorrt-rtx-cu12 -w "$folder-rtx"
libs=$(basename "$folder-rtx"/*libs*.whl)
split -b 45M "$folder-rtx/$libs" "$folder-rtx/$libs."
rm "$folder-rtx/$libs"

"$python" "$here/../../doubles/simulated_gpu/build.py" "$folder"
du -sh "$folder" "$folder-rtx"/*
