#!/usr/bin/env bash
# Runs a command with an emulated CUDA card, on a machine that has none: tests/emulated_card/README.md.
#
#   scripts/emulated_card.sh COMMAND [ARGUMENT…]
#
# CARD_ARCH=80|86|89    compute capability (86)
# CARD_MEMORY_MIB=N     memory of the card (24564)
# CARD_RUNS=0           no kernel runs: memory and launches are still counted
# CARD_REVERSED=1       threads of a block run from the last to the first
# CARD_POISON=1         memory is initialised with NaN
# CARD_TRACE=FILE       writes a line for each launch and allocation
# CARD_SUMMARY=1        launches, copies and the peak of memory at the end
# CARD_DEVICES=N        devices (1)
# CARD_NCCL=1           transfers between devices use an emulated libnccl, else the host
# CARD_NVRTC=1          each kernel must also compile with the real NVRTC, in NVRTC_HOME (nvrtc.py)
set -euo pipefail

sources=$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/emulated_card" && pwd)
place=${CARD_PLACE:-$(dirname "$(dirname "$sources")")/target/emulated_card}
mkdir -p "$place/kernels" "$place/cuda/include"

make_it() { # TARGET SOURCE ARGUMENT…
  local target=$1 source=$2
  shift 2
  [[ $target -nt $source && $target -nt $sources/card.h && $target -nt $sources/translate.py ]] && return
  g++ "$@" -o "$target.part" "$source" && mv "$target.part" "$target"
}

export CARD_SOURCES=$sources CARD_LIBRARIES=$place CARD_KERNELS=$place/kernels
library=(-O2 -std=c++17 -fPIC -shared -Wall -Wextra)
make_it "$place/libcuda.so" "$sources/driver.cpp" "${library[@]}" -Wl,-soname,libcuda.so -pthread -ldl
make_it "$place/libnvrtc.so" "$sources/compiler.cpp" "${library[@]}"
read -ra flags < <(python3 "$sources/translate.py" --flags)
make_it "$place/dialect.h.gch" "$sources/dialect.h" "${flags[@]}" -x c++-header
if [[ ${CARD_NCCL:-0} != 0 ]]; then
  mkdir -p "$place/nccl"
  make_it "$place/nccl/libnccl.so" "$sources/nccl.cpp" "${library[@]}" -pthread
  LD_LIBRARY_PATH=$place/nccl${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
# Tuning results and compiled kernels are kept separately for this card.
cache=$place/cache
if [[ ${CARD_RUNS:-1} == 0 ]]; then cache=$place/cache_without_running; fi
export MOIM_CACHE_DIR=${MOIM_CACHE_DIR:-$cache} CUBECL_AUTOTUNE_LEVEL=${CUBECL_AUTOTUNE_LEVEL:-minimal}
export CUDA_PATH=$place/cuda LD_LIBRARY_PATH=$place${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
if [[ ${CARD_NVRTC:-0} == 0 ]]; then unset CARD_NVRTC; else export CARD_NVRTC=$sources/check_nvrtc.py; fi
exec "$@"
