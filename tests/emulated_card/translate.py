"""Makes KERNEL.so, which runs on the processor, of KERNEL.cu: `translate.py KERNEL`.

What g++ does not know of CUDA C++ is in dialect.h; rewritten here are shared memory and assembly, an
instruction of which becomes a call: `mma.sync.aligned.m16n8k16…` of `mma_sync_aligned_m16n8k16…`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
libraries = os.environ["CARD_LIBRARIES"]
flags = [
    *("-std=c++17", "-O1", "-march=native", "-w", "-fPIC", "-fno-strict-aliasing"),
    # Kernels of one name must not share anything.
    *("-fno-gnu-unique", "-fvisibility=hidden"),
    # A card faults where an address is not aligned.
    *("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"),
]


def operands(text: str) -> list[str]:
    """The expressions of `"=r"(a.x), "f"(b[1])`."""
    found, end = [], 0
    for start in re.finditer(r'"[=+]?\w+"\(', text):
        if start.start() < end:
            continue
        depth, end = 1, start.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[start.end() : end - 1])
    return found


def call(match: re.Match) -> str:
    instruction, outputs, inputs = match.groups(default="")
    name = re.sub(r"\W", "_", instruction.split()[0])
    return f"{name}({', '.join(operands(outputs) + operands(inputs))});"


def translated(source: str) -> str:
    source = re.sub(r"^#include <.*>$", "", source, flags=re.M)
    source = re.sub(r"typedef (unsigned|signed) [a-z ]*u?int\d+_t;", "", source)
    shared = r"extern __shared__ __align__\(\d+\) char (\w+)\[\];"
    source = re.sub(shared, r"char *\1 = (char *)card_shared_memory;", source)
    part = r"(?::([^;:]*(?:::[^;:]*)*))?"
    assembly = r'asm(?:\s+volatile)?\s*\("([^"]*)"\s*' + part + part + r"(?::[^;]*)?\);"
    source = re.sub(assembly, call, source)
    kernel = r'extern "C" __global__ void\s+(?:__cluster_dims__\([^)]*\)\s*)?__launch_bounds__\(\d+\)\s+(\w+)'
    name = re.search(kernel, source).group(1)
    return f'#include "dialect.h"\n{source}\nCARD_KERNEL({name})\n'


def main() -> None:
    kernel = sys.argv[1]
    # Another process or device may be at the same kernel; the last one wins.
    own = f"{kernel}.{os.getpid()}"
    unit, part = own + ".cc", own + ".so"
    Path(unit).write_text(translated(Path(kernel + ".cu").read_text()))
    header = f"-I{libraries}"  # dialect.h, precompiled
    command = ["g++", *flags, "-shared", header, f"-I{here}", "-o", part, unit]
    if subprocess.call([*command, f"-L{libraries}", "-l:libcuda.so"]):
        sys.exit(1)
    os.replace(unit, kernel + ".cc")
    os.replace(part, kernel + ".so")


if sys.argv[1:] == ["--flags"]:
    print(" ".join(flags))
else:
    main()
