"""Compiles KERNEL.cu for an architecture with the real NVRTC, to KERNEL.ptx: `check_nvrtc.py KERNEL OPTION`.

NVRTC needs no card. From PyPI, with the same version and unpacked into one folder, NVRTC_HOME:
nvidia-cuda-nvrtc-cu12, nvidia-cuda-runtime-cu12, nvidia-cuda-cccl-cu12 and nvidia-cuda-nvcc-cu12.
"""

import ctypes
import os
import sys
from pathlib import Path

home = Path(os.environ["NVRTC_HOME"]) / "nvidia"
nvrtc = ctypes.CDLL(str(next((home / "cuda_nvrtc/lib").glob("libnvrtc.so.*"))))
kernel, architecture = Path(sys.argv[1] + ".cu"), sys.argv[2]
folders = ["cuda_runtime/include", "cuda_nvcc/include", "cuda_cccl/include"]
options = [architecture, *(f"--include-path={home / folder}" for folder in folders)]

program, size = ctypes.c_void_p(), ctypes.c_size_t()
nvrtc.nvrtcCreateProgram(ctypes.byref(program), kernel.read_bytes(), None, 0, None, None)
arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
failed = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
log = ctypes.create_string_buffer(size.value)
nvrtc.nvrtcGetProgramLog(program, log)
print(log.value.decode())
if failed:
    sys.exit(1)
nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
ptx = ctypes.create_string_buffer(size.value)
nvrtc.nvrtcGetPTX(program, ptx)
kernel.with_suffix(".ptx").write_bytes(ptx.value)
