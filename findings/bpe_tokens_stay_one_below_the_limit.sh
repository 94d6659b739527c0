#!/usr/bin/env bash
# tokenizers 0.23.3: BpeTrainer(max_token_length=n) makes no token of n characters, only shorter ones; and 1 allows 2.
#
# The limit "prevents creating tokens longer than the specified size". A merged token is compared with it by "shorter
# than" instead, so n - 1 is the longest; the pairs of the first merges are not compared at all, so 1 does the same as 2
# and 3. Whoever trains BPE on speech units (one character per unit) and wants at most four units per token, 80 ms at
# 50 Hz, gets three or, where tokens double, two. What helps: give n + 1; for n = 1, train no merges.
#
# Seen (the word abcd, longest token per limit): "1: ab, 2: ab, 3: ab, 4: ab, 5: abcd".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: "tokenizers==0.23.3" 2>/dev/null
cat > "$folder/limit.py" <<'PY'
import sys

from tokenizers import Tokenizer, models, trainers


def longest(limit: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=100, max_token_length=limit, show_progress=False)
    tokenizer.train_from_iterator(["abcd"] * 5, trainer)
    return max(sorted(tokenizer.get_vocab()), key=len)


found = {limit: longest(limit) for limit in (1, 2, 3, 4, 5)}
print(", ".join(f"{limit}: {token}" for limit, token in found.items()))
sys.exit(not (len(found[1]) == 2 and len(found[4]) < 4 and found[5] == "abcd"))
PY
"$folder/venv/bin/python" "$folder/limit.py"
