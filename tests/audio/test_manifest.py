"""Ids that never meet, plans that never break their limit, duplicates that name their first row."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.audio.manifest import decode_id, duplicate_rows, encode_id, plan_shards, shard_minutes

ESCAPES = {".": ".", "_": "/", "-": "@"}
ANY_TEXT = st.text(st.characters(), max_size=80)
NASTY_TEXT = st.text("./@-_xhea0 \u00e9", max_size=12)


def read_back(encoded):
    """Decode an id that was not shortened: the inverse that injectivity needs."""
    if encoded == ".e":
        return ""
    raw, at = b"", 0
    while at < len(encoded):
        if encoded[at] != ".":
            raw += encoded[at].encode()
            at += 1
        elif encoded[at + 1] == "x":
            raw += bytes.fromhex(encoded[at + 2 : at + 4])
            at += 4
        else:
            raw += ESCAPES[encoded[at + 1]].encode()
            at += 2
    return raw.decode("utf-8", "surrogatepass")


@settings(deadline=None)
@given(ANY_TEXT | NASTY_TEXT)
@example("\udcc3\udca9")
@example("\u00e9")
@example("")
def test_every_id_can_be_read_back(text):
    encoded = encode_id(text)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,190}", encoded)
    if len(text.encode("utf-8", "surrogatepass")) <= 47:
        assert read_back(encoded) == text


@settings(deadline=None)
@given(st.sets(NASTY_TEXT | NASTY_TEXT.map(lambda text: 40 * text) | st.text(max_size=300), max_size=20))
def test_different_texts_have_different_ids(texts):
    assert len({encode_id(text) for text in texts}) == len(texts)


def test_usual_ids_stay_as_they_are():
    assert encode_id("103-1240-0000") == "103-1240-0000"
    assert encode_id("0_george_12") == "0_george_12"
    assert encode_id("speaker/take_1") == "speaker._take_1"
    assert encode_id("a.b@c d") == "a..b.-c.x20d"


@pytest.mark.parametrize("pad", range(150, 162))
def test_a_short_text_cannot_be_made_to_meet_a_shortened_one(pad):
    # The long text's id ends in ".h<hash>"; whoever knows it tries to spell it with literal characters.
    shortened = encode_id("a" * pad + "." * 100)
    assert len(shortened) <= 190
    position = shortened.rindex(".h")
    escapes = re.findall(r"\.x[0-9a-f]{2}|\..|[^.]", shortened[:position])
    assert "".join(escapes) == shortened[:position]
    assert all(piece in ("a", "..") for piece in escapes)


def test_shard_length_is_a_256th_within_half_a_minute_and_thirty():
    assert shard_minutes(0) == 0.5
    assert shard_minutes(256 * 60 * 2.0) == 2.0
    assert shard_minutes(1e9) == 30.0


@settings(deadline=None)
@given(st.lists(st.floats(0, 200), max_size=60), st.floats(0.01, 3))
@example([0.1] * 10, 0.1 / 60)
@example([0.0] * 5, 0.5)
@example([500.0, 0.0, 0.0], 0.5)
def test_shards_are_contiguous_full_and_within_their_limit(lengths, minutes):
    seconds = np.array(lengths, dtype=np.float64)
    shards = plan_shards(seconds, minutes)
    assert shards.dtype == np.int32
    assert len(shards) == len(seconds)
    if not len(seconds):
        return
    assert shards[0] == 0
    assert set(np.diff(shards)) <= {0, 1}
    micros = np.rint(seconds * 1e6).astype(np.int64)
    totals = np.bincount(shards, weights=micros)
    limit = round(minutes * 60e6)
    for shard, total in enumerate(totals):
        members = np.flatnonzero(shards == shard)
        assert total <= limit or len(members) == 1
        if members[-1] + 1 < len(seconds):
            assert total + micros[members[-1] + 1] > limit


def test_plan_ignores_the_error_of_long_sums():
    # Summed as float64 seconds, 0.1 s drifts, and some shards would hold 599 utterances.
    shards = plan_shards(np.full(600_000, 0.1), 1.0)
    assert (np.bincount(shards) == 600).all()


@pytest.mark.parametrize("bad", [[-1.0], [np.nan], [np.inf]])
def test_impossible_lengths_are_refused(bad):
    with pytest.raises(ValueError, match="finite and at least 0"):
        plan_shards(np.array(bad), 1.0)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.booleans())
def test_each_later_duplicate_names_the_first_row(ids, chunked):
    firsts = [ids.index(name) for name in ids]
    expected = [-1 if first == row else first for row, first in enumerate(firsts)]
    column = pa.chunked_array([ids[:7], ids[7:]], type=pa.string()) if chunked else ids
    assert duplicate_rows(column).tolist() == expected


@settings(deadline=None)
@given(ANY_TEXT | NASTY_TEXT)
@example("")
@example("a" * 300)
@example("spk1/utt1")
def test_an_id_that_was_not_shortened_decodes_to_its_text(text):
    encoded = encode_id(text)
    assert decode_id(encoded) == (text if read_back_or_none(encoded) is not None else None)


def read_back_or_none(encoded):
    return None if re.search(r"\.h[0-9a-f]{32}$", encoded) else read_back(encoded)


def test_the_suffix_of_a_channel_survives_decoding():
    assert decode_id(encode_id("spk1/utt1") + ".ch1") == "spk1/utt1.ch1"
