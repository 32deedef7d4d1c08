#!/bin/sh
# Makes the Pythons of the peers whose packages collide with jetlift's, and lists them for
#     python -m jetlift.benchmarks.peers_bench --pythons FOLDER/pythons.txt
#
#     sh benchmarks/peers/environments.sh FOLDER [PYTHON]
#
# Versions are those that docs/peers.md was measured with. An environment that does not install is
# left out of the list, and its rows say so. torch from PyTorch's CPU index saves gigabytes.
set -u
folder=${1:?name a folder} python=${2:-python3.11}
mkdir -p "$folder" && folder=$(cd "$folder" && pwd) || exit 1
: >"$folder/pythons.txt"

# environment NAME "CONTENDER..." PACKAGE...
environment() {
    name=$1 contenders=$2
    shift 2
    "$python" -m venv "$folder/$name" && "$folder/$name/bin/pip" install -q "$@" || {
        echo "$name: not installed" >&2
        return
    }
    for contender in $contenders; do
        echo "$contender=$folder/$name/bin/python" >>"$folder/pythons.txt"
    done
}

environment torch torch torch==2.13.0 transformers==5.23.0 sentence-transformers==6.2.0 \
    openai-whisper==20250625
environment ct2 faster-whisper faster-whisper==1.2.1 ctranslate2==4.8.5
environment optimum optimum torch==2.13.0 'optimum-onnx[onnxruntime]==0.1.0' \
    onnxruntime==1.32.0 sentence-transformers==5.7.0
environment intel optimum-intel torch==2.13.0 'optimum-intel[openvino]==2.2.0' \
    sentence-transformers==6.2.0
environment nncf nncf nncf==3.4.0 openvino==2026.4.1 onnx==1.23.2
environment ailia ailia ailia==1.6.1.0 numpy
environment vision "ultralytics open-clip anomalib" torch==2.14.1 torchvision==0.29.1 \
    ultralytics==8.4.190 onnxruntime==1.32.0 open_clip_torch==3.3.0 anomalib==2.7.0
# A torchvision that was built for another torch takes transformers' import down with it.
for name in torch optimum intel; do
    "$folder/$name/bin/pip" uninstall -q -y torchvision 2>/dev/null
done
cat "$folder/pythons.txt"
