#!/usr/bin/env bash
# torch 2.13.0 on a CPU with AMX: a bfloat16 convolution of few channels gives other values, and says nothing.
#
# Where a group has 2 to 14 channels in, and these times the taps of the last axis are 64, 96, 128 and so on, what comes
# out has nothing to do with what should: it is wrong by more than its own size. 16 and 24 channels without padding are
# wrong alike where a stride of 4 or more divides the taps. Gradients are right, but for the input of a transposed
# convolution, which is such a convolution. With float32, other widths, odd taps, or a CPU whose bfloat16 instructions
# are those of AVX-512, all is right, so a model trained or checked on one machine is broken on another: the positional
# convolution of a small HuBERT (192 wide, 16 groups: 12 channels) is one, that of the base size (48 channels) is not.
# Part of it is known: pytorch issue 169688 (open) reports a stride of 3 on such a CPU.
# What helps: compute these in float32; or ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, which costs AMX everywhere.
#
# Seen: "12 channels in a group, 8 taps: wrong by 1.15 of the mean, held to AVX-512 by 0.003;
#       48 channels by 0.003; 7 taps by 0.003; transposed, 12 channels, 16 taps: gradient wrong by 0.73, held by 0.002"
set -euo pipefail
if ! grep -qw amx_bf16 /proc/cpuinfo; then
    echo "This CPU has no AMX, so there is nothing to see here."
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "torch==2.13.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/convolve.py" <<'PY'
import json

import torch
from torch.nn.functional import conv1d, conv_transpose1d

torch.manual_seed(0)


def wrong(found, right):
    """Give the mean error over the mean absolute value."""
    return round(((found.float() - right).abs().mean() / right.abs().mean()).item(), 3)


def convolved(channels, taps, groups=4):
    values, weight = torch.randn(2, channels * groups, 50), torch.randn(channels * groups, channels, taps)
    right = conv1d(values, weight, padding=taps // 2, groups=groups)
    return wrong(conv1d(values.bfloat16(), weight.bfloat16(), padding=taps // 2, groups=groups), right)


def transposed(channels, taps):
    values, weight = torch.randn(2, 4, 50), torch.randn(4, channels, taps)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        given = values.to(dtype).clone().requires_grad_()
        spoken = conv_transpose1d(given, weight.to(dtype), stride=taps // 2)
        spoken.backward(torch.ones_like(spoken) * torch.linspace(-1, 1, spoken.shape[-1]).to(dtype))
        gradients.append(given.grad)
    return wrong(gradients[1], gradients[0])


print(json.dumps([convolved(12, 8), convolved(48, 8), convolved(12, 7), transposed(12, 16)]))
PY
plain=$("$folder/venv/bin/python" "$folder/convolve.py" 2>/dev/null)
held=$(ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 "$folder/venv/bin/python" "$folder/convolve.py" 2>/dev/null)
python3 - "$plain" "$held" <<'PY'
import json
import sys

(narrow, wide, odd, gradient), held = map(json.loads, sys.argv[1:])
print(
    f"12 channels in a group, 8 taps: wrong by {narrow:.2f} of the mean, held to AVX-512 by {held[0]:.3f}; "
    f"48 channels by {wide:.3f}; 7 taps by {odd:.3f}; "
    f"transposed, 12 channels, 16 taps: gradient wrong by {gradient:.2f}, held by {held[3]:.3f}"
)
sys.exit(not (narrow > 0.9 and gradient > 0.5 and max(wide, odd, *held) < 0.01))
PY
