"""The real NVRTC, which needs no card: `compiled(source, architecture, form)`.

From PyPI, with the same version and unpacked into one folder, NVRTC_HOME (`pip install --target`):
nvidia-cuda-nvrtc-cu12, nvidia-cuda-runtime-cu12, nvidia-cuda-cccl-cu12 and nvidia-cuda-nvcc-cu12.
"""

import ctypes
import os
import sys
from pathlib import Path

HOME = Path(os.environ["NVRTC_HOME"]) / "nvidia"


def compiled(source: bytes, architecture: str, form: str) -> bytes:
    """CUDA C++ as `form`, PTX or CUBIN, for `--gpu-architecture=…`. Prints what the compiler says, and ends
    the program where it refuses."""
    nvrtc = ctypes.CDLL(str(next((HOME / "cuda_nvrtc/lib").glob("libnvrtc.so.*"))))
    folders = ["cuda_runtime/include", "cuda_nvcc/include", "cuda_cccl/include"]
    options = [architecture, *(f"--include-path={HOME / folder}" for folder in folders)]
    program = ctypes.c_void_p()

    def got(what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{what}")(program, text)
        return text.raw

    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source, None, 0, None, None)
    arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
    print(got("ProgramLog").rstrip(b"\0").decode(), end="")
    if failed:
        sys.exit(1)
    return got(form)
