#!/usr/bin/env bash
# transformers 5.23.0: Wav2Vec2FeatureExtractor normalises a short utterance over its padding, by its defaults.
#
# do_normalize promises zero mean and unit variance for each utterance. It runs after the batch was padded, and takes
# the attention mask to know where an utterance ends. The class returns no mask by default, as the base sizes of
# wav2vec 2.0 and HuBERT ask for, and without one the padding is part of the utterance: beside one that is four times as
# long, it comes out twice as loud, and its padding is not zero any more. So features depend on what else is in the
# batch. Beside others of its length, or alone, an utterance is right; with return_attention_mask=True too. What helps
# for a model that takes no mask: ask for one, and do not hand it on; or normalise before padding.
#
# Seen: "standard deviation of half a second: alone 1.000, beside two seconds 2.000, with a mask 1.000;
#       its padding is -0.0003, with a mask 0"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: \
    "transformers==5.23.0" "numpy==2.4.6" 2>/dev/null
cat > "$folder/normalize.py" <<'PY'
import sys

import numpy as np
from transformers import Wav2Vec2FeatureExtractor

chance = np.random.default_rng(0)
short, long = (0.1 * chance.standard_normal(size).astype(np.float32) for size in (8_000, 32_000))


def first_of(batch, **how):
    found = Wav2Vec2FeatureExtractor(**how)(batch, sampling_rate=16_000, padding=True, return_tensors="np")
    return found["input_values"][0]


alone, beside = first_of([short]), first_of([short, long])
masked = first_of([short, long], return_attention_mask=True)
print(
    f"standard deviation of half a second: alone {alone.std():.3f}, beside two seconds {beside[:8_000].std():.3f}, "
    f"with a mask {masked[:8_000].std():.3f}; its padding is {beside[-1]:.4f}, with a mask {masked[-1]:g}"
)
sys.exit(not (abs(alone.std() - 1) < 1e-3 and beside[:8_000].std() > 1.9 and abs(masked[:8_000].std() - 1) < 1e-3))
PY
"$folder/venv/bin/python" "$folder/normalize.py" 2>/dev/null
