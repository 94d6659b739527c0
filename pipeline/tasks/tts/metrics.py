"""Rows and rates of text to speech under teacher forcing: wrong tokens of each layer, and stops too early or late.

Letters: B batch, S steps, L layers, K clusters.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from pipeline.tasks.tts.model import Written

Row = Mapping[str, Any]

WRONG = "wrong_"
"""What begins the columns of a layer's wrong tokens."""
NEVER = -1
"""Frame of a stop that never comes."""


def rows(
    written: "Written", tokens: "torch.Tensor", present: "torch.Tensor", texts: Sequence[str], columns: Sequence[str]
) -> list[Row]:
    """Compare the likeliest tokens and the stop decision with what is right.

    Args:
        written: What the network gives.
        tokens: int64 (B, S, L).
        present: bool (B, S, L), which layers have a token; the first one tells the frames.
        texts: Of the utterances.
        columns: Names of the layers.

    Returns:
        For each utterance ``reference``, its text; ``hypothesis``, what was written in words; ``num_tokens`` of each
        layer; ``wrong_LAYER``; ``last_frame``; ``stop_frame``, the first frame that says it is the last, -1 for none.
    """
    right_BSL, there_BSL = tokens.cpu().numpy(), present.cpu().numpy()
    likeliest_BSL = np.stack([logits.argmax(dim=-1).cpu().numpy() for logits in written.logits], axis=-1)
    wrong_BL = ((likeliest_BSL != right_BSL) & there_BSL).sum(axis=1).tolist()
    real_BS = there_BSL[..., 0]
    stops_BS = (written.stop > 0).cpu().numpy() & real_BS
    firsts = np.where(stops_BS.any(axis=1), stops_BS.argmax(axis=1), NEVER).tolist()
    lasts = (real_BS.sum(axis=1) - 1).tolist()
    return [
        {
            "reference": text,
            "hypothesis": _told(wrong, last, first),
            "num_tokens": last + 1,
            **{f"{WRONG}{column}": count for column, count in zip(columns, wrong, strict=True)},
            "last_frame": last,
            "stop_frame": first,
        }
        for text, wrong, last, first in zip(texts, wrong_BL, lasts, firsts, strict=True)
    ]


def _told(wrong: Sequence[int], last: int, first: int) -> str:
    error = sum(wrong) / (len(wrong) * (last + 1))
    if first == NEVER:
        return f"{error:.1%} of the tokens wrong, no stop"
    return f"{error:.1%} of the tokens wrong, stop {first - last:+d} frames"


def measure(rows: Sequence[Row]) -> Mapping[str, float]:
    """Give the rates of a set as a whole.

    Returns:
        ``token_error_rate``, of all layers and of each as ``token_error_LAYER``; ``stop_early`` and ``stop_late``:
        shares of utterances that stop before their last frame, or not in it.
    """
    columns = [name.removeprefix(WRONG) for name in rows[0] if name.startswith(WRONG)]
    frames = sum(row["num_tokens"] for row in rows)
    wrong = {column: sum(row[f"{WRONG}{column}"] for row in rows) for column in columns}
    return {
        "token_error_rate": sum(wrong.values()) / (frames * len(columns)),
        **{f"token_error_{column}": count / frames for column, count in wrong.items()},
        "stop_early": sum(early(row) for row in rows) / len(rows),
        "stop_late": sum(late(row) for row in rows) / len(rows),
    }


def early(row: Row) -> bool:
    """Whether an utterance stops before its last frame."""
    return bool(NEVER != row["stop_frame"] < row["last_frame"])


def late(row: Row) -> bool:
    """Whether an utterance does not stop in its last frame, where it may not go on."""
    return bool(row["stop_frame"] == NEVER)
