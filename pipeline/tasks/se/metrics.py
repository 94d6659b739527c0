"""Rows and rates of enhanced utterances: the token error rate of the output, and of the noisy tokens beside it.

Knows no torch. Letters: B utterances, L target layers, N rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]

RATE, NOISY_RATE = "token_error_rate", "noisy_token_error_rate"
_WRONG = {RATE: "wrong_", NOISY_RATE: "noisy_wrong_"}
_LENGTH = "tokens_per_layer"


def rows(
    wrong: np.ndarray, noisy_wrong: np.ndarray | None, lengths: np.ndarray, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Say how many tokens of each utterance are wrong.

    Args:
        wrong: Wrong tokens of the output, int64 (B, L).
        noisy_wrong: Wrong tokens of the input, int64 (B, L), below 0 for layers that the input has not; None where it
            is no tokens.
        lengths: Frames of each utterance, int64 (B,).
        columns: Names of the target layers (L).

    Returns:
        For each utterance ``token_error_rate`` over all layers, ``wrong_layer_07`` and so on, ``tokens_per_layer``, and
        the same of the noisy tokens, where the input has the layers.
    """
    counts = {RATE: _by_column(wrong, columns)}
    if noisy_wrong is not None:
        counts[NOISY_RATE] = {name: each for name, each in _by_column(noisy_wrong, columns).items() if each.min() >= 0}
    found: list[dict[str, Any]] = []
    for place, length in enumerate(lengths.tolist()):
        row: dict[str, Any] = {_LENGTH: length}
        for rate, by_column in counts.items():
            if len(by_column) == len(columns):
                row[rate] = sum(int(each[place]) for each in by_column.values()) / (length * len(columns))
            row |= {f"{_WRONG[rate]}{name}": int(each[place]) for name, each in by_column.items()}
        found.append(row)
    return found


def _by_column(wrong: np.ndarray, columns: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: wrong[:, place] for place, name in enumerate(columns)}


def rates(rows: Sequence[Row]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Give the wrong tokens and the tokens of each row, int64 (N,) each, by the name of their rate.

    Returns:
        ``token_error_rate`` over all target layers and ``token_error_rate_layer_07`` of each; the same of the noisy
        tokens with ``noisy_`` before, overall only where the input has every target layer.
    """
    lengths = np.array([row[_LENGTH] for row in rows], np.int64)
    found = {}
    for rate, begins in _WRONG.items():
        names = [name for name in rows[0] if name.startswith(begins)]
        wrong = {name: np.array([row[name] for row in rows], np.int64) for name in names}
        if rate in rows[0]:
            found[rate] = np.sum(list(wrong.values()), axis=0), lengths * len(names)
        found |= {f"{rate}_{name.removeprefix(begins)}": (each, lengths) for name, each in wrong.items()}
    return found


def measure(rows: Sequence[Row]) -> Mapping[str, float]:
    """Give the rates of the set as a whole: wrong tokens of all over the tokens of all."""
    return {name: int(wrong.sum()) / int(total.sum()) for name, (wrong, total) in rates(rows).items()}
