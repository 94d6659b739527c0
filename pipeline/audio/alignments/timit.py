"""Times of TIMIT: ``.PHN`` and ``.WRD`` beside the recordings, lines of first sample, end and label at 16 kHz.

The 61 phones stay as they are, the closures and the silences ``h#``, ``pau`` and ``epi`` among them.

Source: Garofolo et al. 1993, DARPA TIMIT acoustic-phonetic continuous speech corpus, NISTIR 4930. Memory: one file.
"""

import io

from pipeline.audio.alignments.timed import Interval, interval, number
from pipeline.audio.lines import Lines, words
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

SAMPLE_RATE = 16_000
ENDINGS = {"phones": ".phn", "words": ".wrd"}
"""How the files of a tier end, in any case."""


def read_timit(data: bytes, where: str, tier: str, passed_over: PassedOver) -> list[Interval]:
    """Read one file.

    Args:
        data: The file.
        where: Its name, for messages.
        tier: Has chosen the file; nothing in it depends on it.
        passed_over: Counts nothing: every line is read.

    Raises:
        ManifestError: A line is no interval, or ends before it begins.
    """
    found = []
    for line_number, line in Lines(io.BytesIO(data)).numbered():
        place = f"line {line_number} of {where}"
        fields = words(line) if isinstance(line, str) else []
        if len(fields) != 3:
            raise ManifestError(f"{place}: first sample, end and label must stand here, separated by blanks")
        start, end = (number(field, place) / SAMPLE_RATE for field in fields[:2])
        found.append(interval(start, end, fields[2], place))
    return found
