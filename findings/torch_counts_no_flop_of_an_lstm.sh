#!/usr/bin/env bash
# torch 2.13.0 (CPU): FlopCounterMode counts an LSTM as no work at all, and the gradient of a depthwise convolution as many
# times too much as it has groups.
#
# The counter has formulas for matrix products, convolutions and attention. An LSTM runs as one kernel that it knows
# nothing of, and is passed over without a word: 0, forward and backward, where a layer of 128 on 64 inputs takes 8 * 128 *
# (64 + 128) operations per frame. The formula of a convolution's backward pass leaves groups out of the gradient of the
# weights: of 64 channels in 64 groups it is 64 times what is computed, so that a backward pass seems to cost 65 forward
# passes in place of 2. A recogniser of LSTMs looks free, and a Conformer or ConvNeXt many times too dear.
# What helps: count both by hand, and see what a forward and a backward pass of one layer give before trusting a sum.
#
# Seen: "lstm: 0 of 19660800 counted; depthwise convolution: forward 384000, backward 24960000, which is 65.0 times"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "torch==2.13.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/count.py" <<'PY'
import sys

import torch
from torch.utils.flop_counter import FlopCounterMode

FRAMES, WIDTH, HIDDEN, CHANNELS, TAPS = 100, 64, 128, 64, 3


def counted(run) -> int:
    """Give the operations that are counted while something runs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


lstm = torch.nn.LSTM(WIDTH, HIDDEN, batch_first=True)
frames = torch.randn(1, FRAMES, WIDTH)
of_lstm = counted(lambda: lstm(frames)[0].sum().backward())
by_hand = FRAMES * 8 * HIDDEN * (WIDTH + HIDDEN)

convolution = torch.nn.Conv1d(CHANNELS, CHANNELS, TAPS, padding=1, groups=CHANNELS, bias=False)
signal = torch.randn(1, CHANNELS, 1000, requires_grad=True)
forward = counted(lambda: convolution(signal))
both = counted(lambda: convolution(signal).sum().backward())
backward = both - forward
told = f"forward {forward}, backward {backward}, which is {backward / forward:.1f} times"
print(f"lstm: {of_lstm} of {by_hand} counted; depthwise convolution: {told}")
sys.exit(not (of_lstm == 0 and forward == 2 * 1000 * CHANNELS * TAPS and backward > 20 * forward))
PY
"$folder/venv/bin/python" "$folder/count.py" 2>/dev/null
