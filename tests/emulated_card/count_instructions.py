"""What a card would run: `count_instructions.py KERNEL.cu [90]` compiles a kernel for a compute capability and
prints its registers, whether it spills, and the instructions of each loop.

Kernels that the emulated card has run lie in target/emulated_card/kernels. Besides nvrtc.py's packages this needs
nvidia-cuda-nvdisasm.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from nvrtc import HOME, compiled

source, capability = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "90"
machine_code = compiled(source.read_bytes(), f"--gpu-architecture=sm_{capability}", "CUBIN")
with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
    file.write(machine_code)
    file.flush()
    disassembler = next(HOME.glob("**/bin/nvdisasm"))
    text = subprocess.run([disassembler, "-c", file.name], capture_output=True, text=True, check=True).stdout

labels, code = {}, []
for line in map(str.strip, text.splitlines()):
    if label := re.match(r"(\.L_x_\d+):", line):
        labels[label[1]] = len(code)
    elif instruction := re.match(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(.*?)\s*;", line):
        code.append(instruction[1])

registers = 1 + max(int(number) for number in re.findall(r"\bR(\d+)\b", "\n".join(code)))
spills = sum(instruction.startswith(("LDL", "STL")) for instruction in code)
print(f"{len(code)} instructions, {registers} registers, {spills} spills")
for end, instruction in enumerate(code):
    target = re.search(r"BRA.*?`\((\.L_x_\d+)\)", instruction)
    start = labels.get(target[1], end) if target else end
    if start < end:
        counts = Counter(re.split(r"[ .]", one)[0] for one in code[start : end + 1])
        print(f"loop of {end + 1 - start}:", ", ".join(f"{count} {name}" for name, count in counts.most_common()))
