import io
import json
import struct
import subprocess
import tarfile

import numpy as np
import pytest
from made_audio import RATE, noise
from made_containers import encoded, recordings, write_tar

from pipeline.audio import tar_shards
from pipeline.audio.corpora import corpus_roots, read_corpus
from pipeline.audio.decode import Decoder
from pipeline.audio.places import Place
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import PassedOver


def candidates(corpus):
    return list(read_corpus(str(corpus), "webdataset", passed_over=PassedOver()))


def reasons(found):
    return {candidate.utterance_id: candidate.problem[0] for candidate in found if candidate.problem}


def whole(decoder, candidate):
    """Decode the recording of a candidate."""
    part = Place(member=candidate.member, byte_offset=candidate.byte_offset, num_bytes=candidate.num_bytes)
    info = decoder.probe(candidate.uri, part=part)
    place = {"offset_samples": 0, "num_samples": info.num_samples, "sample_rate": info.sample_rate, "channel": None}
    return decoder.decode(candidate.uri, part=part, utterance_id="u", **place)


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.ogg", "a.mp3", "a.opus"])
def test_a_member_decodes_to_the_samples_of_the_plain_file(tmp_path, name):
    subtype = {"subtype": "OPUS"} if name.endswith("opus") else {}
    data = [encoded(noise(30_000, seed=seed), name, **subtype) for seed in range(3)]
    write_tar(tmp_path / "s.tar", [(f"{seed}{name}", content) for seed, content in enumerate(data)])
    with Decoder(sample_rate=RATE, roots=[str(tmp_path)]) as decoder:
        for seed, candidate in enumerate(candidates(tmp_path)):
            plain = tmp_path / f"{seed}{name}"
            plain.write_bytes(data[seed])
            place = {"offset_samples": 0, "num_samples": decoder.probe(str(plain)).num_samples, "sample_rate": RATE}
            place["sample_rate"] = decoder.probe(str(plain)).sample_rate
            expected = decoder.decode(str(plain), channel=None, utterance_id="u", **place)
            assert np.array_equal(whole(decoder, candidate), expected)
            part = Place(member="m", byte_offset=candidate.byte_offset, num_bytes=candidate.num_bytes)
            place |= {"offset_samples": 7_000, "num_samples": 9_000, "channel": None, "utterance_id": "u"}
            expected = decoder.decode(str(plain), **place)
            assert np.array_equal(decoder.decode(candidate.uri, part=part, **place), expected)
            assert np.array_equal(np.concatenate([*decoder.stream(candidate.uri, part=part, **place)]), expected)


def test_a_wave_of_unknown_length_is_read_to_the_end_of_its_member(tmp_path):
    samples = noise(5_000)
    header = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16) + b"data\0\0\0\0"
    write_tar(tmp_path / "s.tar", [("a.wav", header + samples.tobytes()), ("b.flac", encoded(samples))])
    with Decoder(sample_rate=RATE) as decoder:
        assert np.array_equal(whole(decoder, candidates(tmp_path)[0]), samples)


def test_labels_come_from_the_text_and_the_json_of_a_sample(tmp_path):
    flac = encoded(noise(8_000))
    fields = {"text": "no", "speaker": 7, "language": "en", "offset": 0.1, "duration": 0.2, "size": [1]}
    write_tar(
        tmp_path / "train" / "s-0.tar",
        [
            *(("d/a.flac", flac), ("d/a.txt", b" yes\n"), ("d/a.json", json.dumps(fields).encode())),
            *(("d/b.json", b'{"duration": 0.4999, "speaker_id": "x"}'), ("d/b.FLAC", flac), ("d/b.png", b"")),
            ("d/c.mic1.wav", b"1"),
            ("d/c.mic2.wav", b"2"),
        ],
    )
    a, b, *c = candidates(tmp_path)
    assert (a.utterance_id, a.text, a.speaker, a.language) == ("train._s-0._d._a", "yes", "7", "en")
    assert (a.offset_seconds, a.duration_seconds) == (0.1, 0.2)
    assert (b.text, b.speaker, b.offset_seconds, b.duration_seconds) == (None, "x", None, None)
    assert [one.utterance_id for one in c] == ["train._s-0._d._c..mic1", "train._s-0._d._c..mic2"]


def test_bad_labels_cost_their_sample_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_shards, "MAX_LABEL_BYTES", 1000)
    labels = {"a.json": b"{", "b.json": b"[]", "c.txt": b"\xff", "d.txt": bytes(1001), "e.json": b'{"text": {}}'}
    labels |= {"f.json": b"[" * 900, "g.txt": b"fine"}
    members = [pair for name, data in labels.items() for pair in ((name, data), (f"{name[0]}.wav", b"x"))]
    found = candidates(write_tar(tmp_path / "s.tar", members))
    assert reasons(found) == {f"s._{name}": "bad_row" for name in "abcdef"}
    assert found[-1].text == "fine"


def member(name, kind, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "/etc/passwd"
    return info


def test_links_devices_and_names_that_leave_the_tar_are_refused(tmp_path):
    bad = [member(f"{kind.decode()}.wav", kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)]
    names = [("../a.wav", b"x"), ("d/../../b.wav", b"x"), ("/c.wav", b"x"), ("bad\nname.wav", b"x"), ("ok.wav", b"x")]
    found = candidates(write_tar(tmp_path / "s.tar", [*bad, member("t.txt", tarfile.SYMTYPE), *names]))
    assert sorted(reasons(found).values()) == ["bad_row"] * 4 + ["not_a_file"] * 3
    assert [one.utterance_id for one in found if not one.problem] == ["s._ok"]


@pytest.mark.parametrize("cut", [600, 1500, 20_000, 40_000])
def test_a_truncated_tar_keeps_what_is_whole(tmp_path, cut):
    path = write_tar(tmp_path / "s.tar", recordings().items())
    ends = [one.byte_offset + one.num_bytes for one in candidates(path)]
    path.write_bytes(path.read_bytes()[:cut])
    found = candidates(path)
    assert [one.byte_offset + one.num_bytes for one in found if not one.problem] == [end for end in ends if end <= cut]
    assert set(reasons(found).values()) == {"truncated"}


def test_damage_in_the_middle_is_one_reject(tmp_path):
    path = write_tar(tmp_path / "s.tar", recordings().items())
    data = bytearray(path.read_bytes())
    third = candidates(path)[2].byte_offset - 512
    data[third : third + 512] = bytes(range(256)) * 2
    path.write_bytes(data)
    found = candidates(path)
    assert [one.utterance_id for one in found] == ["s._000", "s._001", "s._.-lost"]
    assert found[-1].problem[0] == "truncated"


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100])
def test_a_file_that_is_no_tar_is_one_reject(tmp_path, data):
    write_tar(tmp_path / "a.tar", recordings(1).items())
    (tmp_path / "b.tar").write_bytes(data)
    assert list(reasons(candidates(tmp_path))) == ["b._.-lost"]


@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK]
)
@pytest.mark.parametrize("size", [1 << 40, 1 << 62, -512])
def test_a_huge_or_negative_declared_size_is_one_reject_and_no_memory(tmp_path, kind, size):
    header = member("b.wav", kind, size).tobuf(tarfile.GNU_FORMAT)
    path = write_tar(tmp_path / "s.tar", recordings(1).items())
    end = candidates(path)[0].byte_offset + candidates(path)[0].num_bytes
    with path.open("r+b") as file:
        file.truncate(-(-end // 512) * 512)
        file.seek(0, 2)
        file.write(header + bytes(20_000))
    found = candidates(path)
    assert not found[0].problem
    assert set(reasons(found).values()) == {"truncated"}


def test_long_and_foreign_names_are_read(tmp_path):
    names = ["x" * 150 + ".wav", "Gr\u00fc\u00dfe/" + "y" * 90 + ".wav"]
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        write_tar(tmp_path / f"{number}.tar", [(name, b"x") for name in names], format=form)
    assert [one.member for one in candidates(tmp_path)] == names * 2


@pytest.mark.parametrize("name", ["s.tar.gz", "s.tgz", "s.tar"])
def test_a_compressed_tar_is_refused_in_a_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(write_tar(tmp_path / "x", recordings(1).items(), format=0).read_bytes())
    with tarfile.open(tmp_path / name, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.wav"), io.BytesIO())
    with pytest.raises(ManifestError, match="compressed"):
        candidates(tmp_path)


def test_a_pattern_and_a_list_name_shards_in_order(tmp_path):
    for name in ("a-08", "a-09", "a-10", "b-09"):
        write_tar(tmp_path / f"{name}.tar", [("k.wav", b"x")])
    assert [one.utterance_id for one in candidates(tmp_path / "a-{08..10}.tar")] == ["a-08._k", "a-09._k", "a-10._k"]
    assert [one.utterance_id for one in candidates(tmp_path / "{b,a}-09.tar")] == ["b-09._k", "a-09._k"]
    (tmp_path / "l.txt").write_text("b-09.tar\n\na-{09..10}.tar\n")
    assert [one.utterance_id for one in candidates(tmp_path / "l.txt")] == ["b-09._k", "a-09._k", "a-10._k"]
    assert corpus_roots(str(tmp_path / "a-{08..10}.tar"), "webdataset") == [str(tmp_path.resolve())]
    for wrong, what in (("a-{08..11}.tar", "a-11.tar"), ("a-{08.tar", "braces"), ("c.zip", "no corpus folder")):
        with pytest.raises(ManifestError, match=what):
            candidates(tmp_path / wrong)


def test_a_member_is_held_to_the_roots_and_limits_of_files(tmp_path):
    path = write_tar(tmp_path / "s.tar", [*recordings(1).items(), ("b.wav", b""), ("c.wav", b"text, no audio")])
    good, empty, text = candidates(path)
    other = [str(tmp_path / "other")]
    with Decoder(sample_rate=RATE, roots=other) as decoder, pytest.raises(AudioDecodeError, match="outside_root"):
        whole(decoder, good)
    with Decoder(sample_rate=RATE, roots=[str(tmp_path)]) as decoder:
        for bad, reason in ((empty, "empty"), (text, "not_audio")):
            with pytest.raises(AudioDecodeError, match=reason):
                whole(decoder, bad)
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(AudioDecodeError, match="truncated.*000.flac ends at byte"):
            whole(decoder, good)


def test_a_cut_recording_cannot_read_past_its_member(tmp_path):
    cut = encoded(noise(4_000), "a.wav")[:-2000]
    write_tar(tmp_path / "s.tar", [("a.wav", cut), ("b.wav", encoded(noise(4_000), "b.wav"))])
    with Decoder(sample_rate=RATE) as decoder, pytest.raises(AudioDecodeError, match="truncated"):
        whole(decoder, candidates(tmp_path)[0])


@pytest.mark.parametrize("form", ["gnu", "oldgnu", "posix"])
@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0"])
def test_members_behind_a_sparse_one_are_rows(tmp_path, form, version):
    """At 5237d84 they were neither rows nor rejects, and the tar "cut or damaged"."""
    folder = tmp_path / "made"
    folder.mkdir()
    with open(folder / "a.bin", "wb") as file:
        file.write(b"x" * 4096)
        file.seek(1 << 30)
        file.write(b"y" * 4096)
        file.truncate(1 << 31)
    sounds = {f"{name}.flac": encoded(noise(9_000, seed=seed)) for seed, name in enumerate("bcd")}
    for name, data in sounds.items():
        (folder / name).write_bytes(data)
    # A recording that is sparse itself is a reject, and those behind it are rows.
    with open(folder / "c.wav", "wb") as file:
        file.write(encoded(noise(9_000), "c.wav"))
        file.truncate(1 << 30)
    names = ["a.bin", "b.flac", "c.wav", "c.flac", "d.flac"]
    options = ["--format", form, *(["--sparse-version", version] if form == "posix" else ["--sparse"])]
    subprocess.run(["tar", "--sparse", *options, "-cf", tmp_path / "s.tar", *names], cwd=folder, check=True)
    assert (tmp_path / "s.tar").stat().st_size < 1 << 20
    found = candidates(tmp_path / "s.tar")
    assert [one.utterance_id for one in found] == [f"s._{name}" for name in "bccd"]
    assert [one.problem is None for one in found] == [True, False, True, True]
    assert found[1].problem[0] == "not_a_file"
    with Decoder(sample_rate=RATE, roots=[str(tmp_path)]) as decoder:
        for one, seed in ((found[0], 0), (found[2], 1), (found[3], 2)):
            assert np.array_equal(whole(decoder, one), noise(9_000, seed=seed))
