#!/usr/bin/env bash
# Build the fuzz targets with AddressSanitizer on the nightly toolchain and run each for a while; needs no cargo-fuzz.
# usage: scripts/fuzz.sh [seconds a target] [target...]
set -euo pipefail
cd "$(dirname "$0")/../native/fuzz"
seconds=${1:-120}
shift || true
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
cargo +nightly build --quiet --release --target "$host" --bins
built=${CARGO_TARGET_DIR:-target}/$host/release
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(rtp tcp_framing ps_demux es nal muxers rtsp websocket webrtc_offer)
data=../../tests/data
for target in "${targets[@]}"; do
  case $target in
    rtsp | websocket) seeds=("$data/$target") ;;
    webrtc_offer) seeds=("$data/webrtc") ;;
    *) seeds=("$data/media/good" "$data/media/bad") ;;
  esac
  mkdir -p "corpus/$target" "artifacts/$target"
  echo "==> $target, $seconds s"
  "$built/$target" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="artifacts/$target/" "corpus/$target" "${seeds[@]}"
done
