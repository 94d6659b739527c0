from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_audio import RATE, noise
from made_containers import encoded, write_table

from pipeline.audio.corpora import read_corpus
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.audio.places import Place
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import PassedOver

SOUNDS = [noise(3_000 + 100 * seed, seed=seed) for seed in range(40)]
FLACS = [encoded(sound) for sound in SOUNDS]


def candidates(corpus, column=None):
    return list(read_corpus(str(corpus), "parquet", column, passed_over=PassedOver()))


def decode(decoder, candidate):
    part = Place(member=candidate.member, row_group=candidate.row_group, row=candidate.row)
    info = decoder.probe(candidate.uri, part=part)
    place = {"offset_samples": 0, "num_samples": info.num_samples, "sample_rate": RATE, "channel": None}
    return decoder.decode(candidate.uri, part=part, utterance_id="u", **place)


def test_cells_decode_to_the_samples_of_plain_files_in_any_order(tmp_path):
    write_table(tmp_path / "data" / "train-0.parquet", [(flac, "x") for flac in FLACS], row_group_size=25)
    found = candidates(tmp_path)
    assert [one.utterance_id for one in found[:2]] == ["data._train-0._0", "data._train-0._1"]
    assert [(one.row_group, one.row) for one in found[24:26]] == [(0, 24), (1, 0)]
    with Decoder(sample_rate=RATE, roots=[str(tmp_path)]) as decoder:
        for row in [*range(40), 39, 3, 3, 2, 30, 24]:
            assert np.array_equal(decode(decoder, found[row]), SOUNDS[row])


def test_a_segment_of_a_cell_is_that_slice(tmp_path):
    write_table(tmp_path / "a.parquet", [(FLACS[0], None)])
    with Decoder(sample_rate=RATE) as decoder:
        segment = decoder.decode(
            str(tmp_path / "a.parquet"),
            part=Place(member="audio", row_group=0, row=0),
            **{"offset_samples": 1_000, "num_samples": 500, "sample_rate": RATE, "channel": None, "utterance_id": "u"},
        )
    assert np.array_equal(segment, SOUNDS[0][1_000:1_500])


def test_columns_are_labels_by_the_names_of_listings(tmp_path):
    columns = {"id": ["x/1", None], "sentence": ["yes", ""], "speaker_id": [3, None], "language": ["en", "de"]}
    columns |= {"path": ["ignored", "too"], "offset": [0.5, None], "duration": [0.25, 9.0]}
    write_table(tmp_path / "a.parquet", [(b"1", "p"), (b"2", None)], **columns)
    one, two = candidates(tmp_path / "a.parquet")
    assert (one.utterance_id, one.text, one.speaker, one.language) == ("x._1", "yes", "3", "en")
    assert (one.offset_seconds, one.duration_seconds) == (0.5, 0.25)
    assert (two.utterance_id, two.text, two.speaker, two.language) == ("a._1", None, None, "de")
    assert (two.offset_seconds, two.duration_seconds) == (None, None)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_cell_with_a_path_alone_is_a_file_below_the_folder(tmp_path, mixed):
    rows = [(None, "clips/a.flac"), (None, "b.flac"), *([(FLACS[0], "c.flac")] if mixed else [])]
    found = candidates(write_table(tmp_path / "a.parquet", rows))
    assert [one.uri for one in found[:2]] == [str(tmp_path / "clips/a.flac"), str(tmp_path / "b.flac")]
    assert [one.member for one in found] == [None, None, *(["audio"] if mixed else [])]


def test_a_bad_cell_is_one_reject_with_its_reason(tmp_path):
    rows = [
        None,
        (None, None),
        (b"", "e"),
        (b"only text, no audio at all", "t"),
        (FLACS[0], None),
        (FLACS[1][:900], None),
    ]
    found = candidates(write_table(tmp_path / "a.parquet", rows))
    assert [one.problem and one.problem[0] for one in found] == ["empty", "empty", None, None, None, None]
    with Decoder(sample_rate=RATE) as decoder:
        for row, reason in ((2, "empty"), (3, "not_audio"), (5, "truncated")):
            with pytest.raises(AudioDecodeError, match=f"{reason}.*audio, row group 0, row {row}"):
                decode(decoder, found[row])
        assert np.array_equal(decode(decoder, found[4]), SOUNDS[0])
    small = DecodeLimits(max_file_bytes=100)
    with Decoder(sample_rate=RATE, limits=small) as decoder, pytest.raises(AudioDecodeError, match="too_long"):
        decode(decoder, found[4])


def test_a_damaged_or_replaced_table_is_a_fault_of_its_rows(tmp_path):
    path = write_table(tmp_path / "a.parquet", [(flac, None) for flac in FLACS])
    found = candidates(path)
    data = path.read_bytes()
    for broken, reason in ((data[:1000], "unreadable"), (b"", "unreadable"), (None, "missing")):
        path.unlink() if broken is None else path.write_bytes(broken)
        with Decoder(sample_rate=RATE) as decoder, pytest.raises(AudioDecodeError, match=reason):
            decode(decoder, found[0])
    write_table(path, [(FLACS[0], None)])
    with Decoder(sample_rate=RATE) as decoder, pytest.raises(AudioDecodeError, match="bad_row"):
        decode(decoder, found[7])
    other = [str(tmp_path / "b")]
    with Decoder(sample_rate=RATE, roots=other) as decoder, pytest.raises(AudioDecodeError, match="outside_root"):
        decode(decoder, found[0])


def test_a_column_of_audio_is_found_or_asked_for(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": pa.array(FLACS[:2]), "b": pa.array(FLACS[2:4], pa.large_binary())}), path)
    with pytest.raises(ManifestError, match="--audio-column"):
        candidates(path)
    with Decoder(sample_rate=RATE) as decoder:
        assert np.array_equal(decode(decoder, candidates(path, "b")[1]), SOUNDS[3])
    with pytest.raises(ManifestError, match="no column c of audio"):
        candidates(path, "c")
    pq.write_table(pa.table({"audio": ["x.wav"]}), path)
    with pytest.raises(ManifestError, match="layout listing"):
        candidates(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(ManifestError, match="cannot be read as Parquet"):
        candidates(path)


def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


def test_reading_rows_in_order_reads_a_row_group_once(tmp_path):
    filler = np.random.default_rng(0).bytes(1 << 20)
    path = write_table(tmp_path / "a.parquet", [(flac + filler, None) for flac in FLACS])
    found = candidates(path)
    before = bytes_read()
    with Decoder(sample_rate=RATE) as decoder:
        for sound, one in zip(SOUNDS, found, strict=True):
            assert np.array_equal(decode(decoder, one), sound)
        # Before its end the decode child, which reads the recordings from memory, is not in the count.
        assert bytes_read() - before < 1.2 * path.stat().st_size
