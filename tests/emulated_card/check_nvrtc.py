"""Compiles KERNEL.cu for an architecture with the real NVRTC, to KERNEL.ptx: `check_nvrtc.py KERNEL OPTION`."""

import sys
from pathlib import Path

from nvrtc import compiled

kernel = Path(sys.argv[1] + ".cu")
kernel.with_suffix(".ptx").write_bytes(compiled(kernel.read_bytes(), sys.argv[2], "PTX").rstrip(b"\0"))
