"""The arithmetic of a manifest: ids that are safe everywhere, duplicates, and the plan of shards.

Pure functions of the corpus: the same corpus gives the same ids and shards on any machine, under any root.
Cost: O(N) for N utterances (plus a binary search a shard), about 50 bytes an utterance.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

# Ten below the 200 that an id may have: room for a suffix such as ".ch7" of a channel.
MAX_ID_LENGTH = 190
_HASH_DIGITS = 32
_PLAIN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}")
_SPECIAL = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPES = {b".": b"..", b"/": b"._", b"@": b".-"}
_TOKEN = re.compile(r"\.x[0-9a-f]{2}|\..|[^.]")
_PLAIN = {escape: byte for byte, escape in _ESCAPES.items()}
_SHORTENED = re.compile(rf"\.h[0-9a-f]{{{_HASH_DIGITS}}}$")

_MIN_SHARD_MINUTES = 0.5
_MAX_SHARD_MINUTES = 30.0
_SHARDS_WANTED = 256


def encode_id(text: str) -> str:
    """Spell any text in the characters of an utterance id, ``[A-Za-z0-9._-]``.

    The dot is the one escape character, and every escape is complete in itself, so the code can be read back:
    ``..`` a dot, ``._`` a slash, ``.-`` an at sign, ``.x`` and two hex digits any other UTF-8 byte, ``.e`` alone
    the empty text. Letters, digits, ``-`` and ``_`` stay, so ``103-1240-0000`` is its own id and
    ``speaker/take_1`` becomes ``speaker._take_1``. Past 190 characters the rest is replaced by ``.h`` and half a
    SHA-256 of the whole; ``.h`` is no escape, so such an id is never that of a short text.

    Two texts never share an id (long ones: unless 128 bits of SHA-256 collide). Encoding is not idempotent: a
    dot doubles each time, so encode once.

    Args:
        text: Any string, lone surrogates included (undecodable file names).

    Returns:
        1 to 190 characters.
    """
    if _PLAIN_ID.fullmatch(text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    encoded = _SPECIAL.sub(_escape, raw).decode("ascii") or ".e"
    if len(encoded) <= MAX_ID_LENGTH:
        return encoded
    tail = f".h{hashlib.sha256(raw).hexdigest()[:_HASH_DIGITS]}"
    kept = 0
    for token in _TOKEN.finditer(encoded):
        # A token cut in half could join with the tail into an escape and meet the id of another text.
        if token.end() + len(tail) > MAX_ID_LENGTH:
            break
        kept = token.end()
    return encoded[:kept] + tail


def decode_id(utterance_id: str) -> str | None:
    """Give the text that ``encode_id`` spelt; None for an id that was shortened.

    What the code has no meaning for, as the ``.ch1`` of a channel, stays as it is.
    """
    if "." not in utterance_id:
        return utterance_id
    if _SHORTENED.search(utterance_id):
        return None
    if utterance_id == ".e":
        return ""
    try:
        return _TOKEN.sub(_unescape, utterance_id).encode("latin-1").decode("utf-8", "surrogatepass")
    except UnicodeError:
        # No text encodes to it: somebody else has named it.
        return None


def _unescape(match: re.Match[str]) -> str:
    token = match[0]
    plain = _PLAIN.get(token.encode())
    if plain is None and len(token) == len(".x00"):
        plain = bytes.fromhex(token[2:])
    return token if plain is None else plain.decode("latin-1")


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    return _ESCAPES.get(byte) or b".x%02x" % byte[0]


def shard_minutes(total_seconds: float) -> float:
    """Choose the length of a shard from the length of the corpus, and from nothing else.

    Args:
        total_seconds: Audio in the corpus, seconds, at least 0.

    Returns:
        Minutes: a 256th of the corpus, at least 0.5 and at most 30.
    """
    return min(max(total_seconds / 60 / _SHARDS_WANTED, _MIN_SHARD_MINUTES), _MAX_SHARD_MINUTES)


def plan_shards(seconds: np.ndarray, shard_minutes: float) -> np.ndarray:
    """Cut a corpus into shards: as many utterances in a row as fit, then the next shard.

    Lengths are counted in whole microseconds, so the plan does not depend on the order of floating-point sums.

    Args:
        seconds: Length of each utterance in manifest order, shape (N,), finite, at least 0.
        shard_minutes: Most audio in a shard, minutes, above 0; one longer utterance is a shard alone.

    Returns:
        The shard of each utterance, int32 (N,): 0 first, non-decreasing, without gaps.

    Raises:
        ValueError: A length is negative or not finite, or ``shard_minutes`` is not above 0.
    """
    seconds = np.asarray(seconds, dtype=np.float64)
    if not shard_minutes > 0:
        raise ValueError(f"shard_minutes must be above 0, got {shard_minutes}")
    if not (np.isfinite(seconds) & (seconds >= 0)).all():
        raise ValueError("the length of an utterance must be finite and at least 0 seconds")
    ends = np.cumsum(np.rint(seconds * 1e6).astype(np.int64))
    limit = round(shard_minutes * 60e6)
    shards = np.empty(len(ends), dtype=np.int32)
    shard = start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + limit, side="right")), start + 1)
        shards[start:stop] = shard
        shard, start = shard + 1, stop
    return shards


def duplicate_rows(ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Find every row whose id an earlier row has.

    Args:
        ids: Utterance ids in manifest order, N of them.

    Returns:
        int64 (N,): the first row with the same id for each later one, -1 for a row that is the first.
    """
    column = ids if isinstance(ids, (pa.Array, pa.ChunkedArray)) else pa.array(ids, pa.string())
    # 64-bit offsets: the ids of a large corpus together pass 2 GB.
    column = column.cast(pa.large_string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    rows = np.arange(len(codes), dtype=np.int64)
    first = np.empty(len(encoded.dictionary), dtype=np.int64)
    # Of several writes to one place the last stays, so the rows go backwards.
    first[codes[::-1]] = rows[::-1]
    firsts = first[codes]
    return np.where(firsts == rows, -1, firsts)
