#!/usr/bin/env bash
# The whole road on one machine, with a real Triton server behind a real lossy link: `make testbed-demo` (needs root).
# Arguments: the carbonpilot command, and a folder for everything that is made.
set -euo pipefail
carbonpilot=$1 out=$2
frames=${FRAMES:-300} steps=${STEPS:-300000}
configs=$(cd "$(dirname "${BASH_SOURCE[0]}")/../configs/testbed" && pwd)

say() { printf '\n== %s\n' "$*"; }
on_device() { "$carbonpilot" testbed exec --state "$out/state" -- "$carbonpilot" "$@"; }

mkdir -p "$out"
say "a model for the device: SegFormer-B0 with fixed random weights"
"$carbonpilot" models export --model b0 --height 256 --width 512 --random 0 --out "$out/segformer-b0.onnx"

say "test bed up: namespaces, link, Triton"
trap '"$carbonpilot" testbed down --state "$out/state"' EXIT
"$carbonpilot" testbed up --state "$out/state" --profile lan
on_device doctor || true # says what is missing on this machine; the road goes on

say "calibrate on the LAN"
cp "$configs/deployment.yaml" "$out/deployment.yaml"
on_device calibrate --base "$configs/base.yaml" --deployment "$out/deployment.yaml" --images synthetic:100 \
  --condition lan --out "$out/site.yaml"

say "train on the measured site, freeze"
"$carbonpilot" train "$out/site.yaml" --algo dqn --steps "$steps" --seed 0 --out "$out/run"
"$carbonpilot" export "$out/run" --out "$out/bundle"

say "run $frames frames while the link goes LAN, Emu-B, outage, LAN"
"$(dirname "$carbonpilot")/python" -m carbonpilot.real.testbed.changes --state "$out/state"
on_device run --bundle "$out/bundle" --site "$out/site.yaml" --images "synthetic:$frames" --mode active --log "$out/log"

say "verify: predicted against measured"
"$carbonpilot" verify "$out/log" --site "$out/site.yaml" --json "$out/verify.json" ||
  echo "verify says no: see above; the link was changed on purpose, and other work on this machine shows too"

say "test bed down"
echo "Log: $out/log    Site: $out/site.yaml    Bundle: $out/bundle    Verification: $out/verify.json"
