"""Shards that lhotse has written are read in place: each cut is a range of bytes of its tar."""

import gzip
import json
import shutil

import numpy as np
import pytest
from made_audio import RATE, noise, wav
from made_containers import encoded, write_tar

from pipeline.audio.corpora import corpus_roots, read_corpus
from pipeline.audio.decode import Decoder
from pipeline.audio.makers import _segment
from pipeline.audio.places import Place
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver

lhotse = pytest.importorskip("lhotse")


def read(corpus, passed_over=None):
    found = read_corpus(str(corpus), "lhotse-shar", passed_over=PassedOver() if passed_over is None else passed_over)
    return list(found)


@pytest.fixture
def cuts(tmp_path):
    """Give five cuts out of two recordings, one of them of two channels."""
    mono = lhotse.Recording.from_file(wav(tmp_path / "mono.wav", noise(20_011)))
    stereo = lhotse.Recording.from_file(wav(tmp_path / "stereo.wav", noise(16_000, channels=2, seed=1)))
    made = [
        lhotse.MonoCut(f"d.{number}/c", 0.1 * number, 0.3 + 0.01 * number, 0, recording=mono) for number in range(4)
    ]
    made.append(lhotse.MonoCut("right", 0.1, 0.3, 1, recording=stereo))
    for number, cut in enumerate(made):
        told = lhotse.SupervisionSegment("s", "r", 0, cut.duration, text=f"text {number}", speaker="7")
        cut.supervisions.append(told)
    return lhotse.CutSet.from_cuts(made)


@pytest.fixture
def shar(tmp_path, cuts):
    folder = tmp_path / "shar"
    folder.mkdir()
    cuts.to_shar(folder, fields={"recording": "flac"}, shard_size=2)
    return folder


def samples(candidate, decoder):
    part = Place(member=candidate.member, byte_offset=candidate.byte_offset, num_bytes=candidate.num_bytes)
    info = decoder.probe(candidate.uri, part=part)
    offset, length = _segment(
        {"offset_seconds": candidate.offset_seconds, "duration_seconds": candidate.duration_seconds}, info
    )
    where = {"offset_samples": offset, "num_samples": length, "sample_rate": info.sample_rate}
    decoded = decoder.decode(candidate.uri, part=part, channel=candidate.channel, utterance_id="u", **where)
    return decoded.astype(np.float32) / 32768


def test_a_stored_cut_is_its_audio_from_its_beginning_sample_for_sample(shar, cuts):
    found = read(shar)
    assert [one.utterance_id for one in found] == [f"d..{n}._c" for n in range(4)] + ["right"]
    assert [one.uri.rpartition("/")[2] for one in found] == [f"recording.00000{n // 2}.tar" for n in range(5)]
    assert [one.text for one in found] == [f"text {n}" for n in range(5)]
    with Decoder(sample_rate=RATE) as decoder:
        loaded = lhotse.CutSet.from_shar(in_dir=shar)
        for one, written, kept in zip(found, cuts, loaded, strict=True):
            assert one.offset_seconds == 0
            assert np.array_equal(samples(one, decoder), written.load_audio()[0])
            assert np.array_equal(samples(one, decoder), kept.load_audio()[0])


def test_a_cut_that_was_shortened_after_it_was_stored_is_a_part_of_its_member(shar, cuts):
    rewritten = list(lhotse.CutSet.from_file(shar / "cuts.000000.jsonl.gz"))
    lhotse.CutSet.from_cuts([rewritten[0].truncate(offset=0.1, duration=0.1, preserve_id=True), rewritten[1]]).to_file(
        shar / "cuts.000000.jsonl.gz"
    )
    part = read(shar)[0]
    assert (part.offset_seconds, part.duration_seconds, part.member) == (0.1, 0.1, "d.0/c.flac")


def rewrite(path, change):
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in change(lines)).encode()))


def test_cuts_in_another_order_than_their_tar_find_their_members(shar):
    plain = read(shar)
    rewrite(shar / "cuts.000000.jsonl.gz", lambda rows: rows[::-1])
    assert read(shar)[:2] == plain[1::-1]


def test_members_without_a_cut_are_counted_and_cuts_without_a_member_are_problems(shar):
    rewrite(shar / "cuts.000000.jsonl.gz", lambda rows: rows[1:])
    rewrite(shar / "cuts.000001.jsonl.gz", lambda rows: [{**rows[0], "id": "lost"}, *rows])
    passed_over = PassedOver()
    found = read(shar, passed_over)
    assert passed_over.to_json() == {
        "unlisted_files": {"count": 1, "example": "recording.000000.tar: d.0/c.flac"},
    }
    assert [one.utterance_id for one in found if one.problem] == ["lost"]
    assert found[1].problem[0] == "missing"
    assert "recording.000001.tar has no member lost" in found[1].problem[1]


def test_a_cut_without_a_recording_is_a_problem_and_the_others_keep_their_audio(tmp_path, cuts):
    plain = list(cuts)
    features = {"type": "fbank", "num_frames": 3, "num_features": 4, "frame_shift": 0.1, "sampling_rate": RATE}
    features |= {"start": 0, "duration": 0.3, "storage_type": "memory_raw", "storage_path": "", "storage_key": "x"}
    (tmp_path / "shar").mkdir()
    fields = {"recording": "wav"}
    with lhotse.shar.SharWriter(str(tmp_path / "shar"), fields, 3, warn_unused_fields=False) as writer:
        for number, cut in enumerate(plain[:3]):
            bare = lhotse.MonoCut(cut.id, 0, 0.3, 0, features=lhotse.Features.from_dict(features))
            writer.write(bare if number == 1 else cut)
    found = read(tmp_path / "shar")
    assert [one.problem is None for one in found] == [True, False, True]
    assert "only features" in found[1].problem[1]
    assert found[2].member == "d.2/c.wav"


def test_indexes_are_not_counted_and_other_fields_are(shar):
    (shar / "recording.000000.tar.idx").touch()
    (shar / "cuts.000000.jsonl.gz.idxpack").touch()
    (shar / "features.000000.tar").touch()
    (shar / "recording.000007.tar").touch()
    passed_over = PassedOver()
    read(shar, passed_over)
    assert passed_over.to_json() == {
        "other_endings": {"count": 1, "example": "features.000000.tar", "names": {".tar": 1}},
        "unlisted_files": {"count": 1, "example": "recording.000007.tar", "names": {".tar": 1}},
    }


def test_a_damaged_tar_costs_the_cuts_behind_the_damage(shar):
    tar = shar / "recording.000000.tar"
    second = read(shar)[1]
    tar.write_bytes(tar.read_bytes()[: second.byte_offset - 700])
    first, lost, *others = read(shar)
    assert first.problem is None
    assert lost.problem[0] == "truncated"
    assert [one.problem for one in others] == [None] * 3


def test_a_shard_without_its_tar_and_one_without_a_number_are_told_apart(shar, tmp_path, cuts):
    (shar / "recording.000001.tar").unlink()
    with pytest.raises(ManifestError, match=r"no recording\.000001\.tar beside it"):
        read(shar)
    (tmp_path / "one").mkdir()
    cuts.to_shar(tmp_path / "one", fields={"recording": "flac"}, shard_size=None)
    assert (tmp_path / "one/recording.tar").is_file()
    assert len(read(tmp_path / "one")) == 5
    assert corpus_roots(str(tmp_path / "one"), "lhotse-shar") == [str(tmp_path / "one")]


def test_a_folder_of_plain_or_doubled_manifests_is_one_clear_error(shar, tmp_path):
    (tmp_path / "plain").mkdir()
    shutil.copy(shar / "cuts.000000.jsonl.gz", tmp_path / "plain")
    with pytest.raises(ManifestError, match="have the layout lhotse$"):
        read(tmp_path / "plain")
    (shar / "cuts.000000.jsonl").touch()
    with pytest.raises(ManifestError, match="move one of them away"):
        read(shar)


def test_a_compressed_tar_is_refused(tmp_path, shar):
    tar = shar / "recording.000000.tar"
    tar.write_bytes(gzip.compress(tar.read_bytes()))
    with pytest.raises(ManifestError, match="compressed with gzip"):
        read(shar)


def test_an_id_that_ends_as_a_file_is_not_taken_for_the_member_of_another(tmp_path):
    audio = encoded(noise(4000))
    members = [(f"{cut}{end}", data) for cut in ("x", "x.flac") for end, data in ((".flac", audio), (".json", b"{}"))]
    write_tar(tmp_path / "recording.000000.tar", members)
    recording = {"id": "r", "sources": [{"type": "shar", "channels": [0], "source": ""}], "sampling_rate": RATE}
    rows = [
        {"id": cut, "start": 0, "duration": 0.25, "channel": 0, "recording": recording, "type": "MonoCut"}
        for cut in ("x.flac", "x")
    ]
    (tmp_path / "cuts.000000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [one.member for one in read(tmp_path)] == ["x.flac.flac", "x.flac"]


def test_the_second_cut_of_one_id_is_a_duplicate_and_not_a_member_that_is_missing(shar):
    rewrite(shar / "cuts.000000.jsonl.gz", lambda rows: [*rows, rows[0]])
    found = read(shar)
    assert [one.problem and one.problem[0] for one in found] == [None, None, "duplicate_id", None, None, None]
    assert "line 3 of" in found[2].problem[1]
    assert "an earlier cut of the shard is called 'd.0/c' too" in found[2].problem[1]


def test_shards_a_folder_below_are_told_of(shar, tmp_path):
    (tmp_path / "data").mkdir()
    shar.rename(tmp_path / "data" / "train")
    with pytest.raises(ManifestError, match=r"no recordings: .*it holds only the folder train: give it"):
        read(tmp_path / "data")
