"""When a recogniser writes each symbol: the spikes of CTC, on the greedy path.

CTC says a symbol in one frame or a few, and blanks between; which frames is its own choice and no boundary of a sound.
Letters: T frames, V symbols with the blank.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from pipeline.tasks.asr.text import BLANK, Alphabet


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A symbol of the greedy path.

    Attributes:
        symbol: What is written: a character, or a piece of a BPE.
        frame: Frame of its run of frames in which it is likeliest; of equals the first.
        probability: There, in (0, 1].
    """

    symbol: str
    frame: int
    probability: float


def spikes(log_probs: np.ndarray, alphabet: Alphabet) -> list[Spike]:
    """Find the symbols of an utterance and their frames; ``greedy`` writes the same symbols.

    Args:
        log_probs: Floats (T, V), of real frames alone.
        alphabet: V symbols.
    """
    best_T = log_probs.argmax(axis=1).tolist()
    found = []
    for number, run in groupby(range(len(best_T)), key=best_T.__getitem__):
        symbol, frames = alphabet.symbols[number], list(run)
        if symbol == BLANK:
            continue
        frame = frames[int(log_probs[frames, number].argmax())]
        found.append(Spike(symbol=symbol, frame=frame, probability=float(np.exp(log_probs[frame, number]))))
    return found
