"""Lines of tarred NeMo manifests meet the members that NeMo has written for them, or are rejects that say so."""

import json
import posixpath

import numpy as np
import pytest
from made_audio import RATE, noise
from made_containers import encoded, write_tar

from pipeline.audio.corpora import corpus_roots, read_corpus
from pipeline.audio.decode import Decoder
from pipeline.audio.layouts import nemo
from pipeline.audio.makers import _segment
from pipeline.audio.places import Place
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver


def read(corpus, passed_over=None):
    return list(read_corpus(str(corpus), "nemo", passed_over=PassedOver() if passed_over is None else passed_over))


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def tarred(folder, entries, shards=2, *, whole=True, sharded=True, slices=False, codec=None):
    """Lay a dataset out as NeMo's conversion script does: names without folders or dots, ``-sub`` for repeated files.

    Args:
        folder: Its folder.
        entries: Lines of a plain manifest with the samples of each.
        shards: How many; each gets as many lines.
        whole: Whether to write the manifest of all shards.
        sharded: Whether to write those of each.
        slices: Whether members are cut to the segments of their lines, which then have no offset.
        codec: What members are transcoded to; the lines keep the ending of their files.
    """
    found = []
    size = len(entries) // shards
    for shard in range(shards):
        count, members, rows = {}, [], []
        for row, samples in entries[shard * size : (shard + 1) * size]:
            base, ending = posixpath.splitext(row["audio_filepath"])
            base = base.replace("/", "_").replace(".", "_")
            name, row = base + ending, dict(row)
            if slices:
                offset = row.pop("offset")
                begin = round(offset * RATE)
                samples = samples[begin : begin + round(row["duration"] * RATE)]
                name = f"{base}_{str(offset).replace('.', '_')}_{str(row['duration']).replace('.', '_')}{ending}"
                row["source_audio_offset"] = offset
            if slices or name not in count:
                kept = name.rpartition(".")[0] + f".{codec}" if codec else name
                members.append((kept, encoded(samples, kept)))
                count[name] = 1
            else:
                count[name] += 1
                name = f"{base}-sub{count[name] - 1}{ending}"
            rows.append({**row, "audio_filepath": name, "shard_id": shard})
        write_tar(folder / f"audio_{shard}.tar", members)
        if sharded:
            lines(folder / f"sharded_manifests/manifest_{shard}.json", rows)
        found += rows
    if whole:
        lines(folder / "tarred_audio_manifest.json", found)
    (folder / "metadata.yaml").touch()
    return folder


def plain(number, **more):
    samples = noise(6000 + 100 * number, seed=number)
    row = {"audio_filepath": f"/d.0/s{number}.wav", "duration": round(len(samples) / RATE, 2), "text": f"text {number}"}
    return row | more, samples


def samples_of(candidate, decoder):
    part = Place(member=candidate.member, byte_offset=candidate.byte_offset, num_bytes=candidate.num_bytes)
    info = decoder.probe(candidate.uri, part=part)
    seconds = {"offset_seconds": candidate.offset_seconds, "duration_seconds": candidate.duration_seconds}
    offset, length = _segment(seconds, info)
    where = {"offset_samples": offset, "num_samples": length, "sample_rate": info.sample_rate}
    return decoder.decode(candidate.uri, part=part, channel=None, utterance_id="u", **where)


def test_each_line_is_the_audio_and_the_labels_of_its_member(tmp_path):
    entries = [plain(number, speaker=7, lang="en") for number in range(4)]
    found = read(tarred(tmp_path, entries))
    assert [one.utterance_id for one in found] == [f"audio_{n // 2}._" + f"_d_0_s{n}" for n in range(4)]
    assert [(one.text, one.speaker, one.language) for one in found] == [(f"text {n}", "7", "en") for n in range(4)]
    with Decoder(sample_rate=RATE) as decoder:
        for one, (_, samples) in zip(found, entries, strict=True):
            assert np.array_equal(samples_of(one, decoder), samples)


def test_a_folder_a_pattern_with_tags_or_braces_and_one_manifest_give_the_same(tmp_path):
    folder = tarred(tmp_path / "tarred", [plain(number) for number in range(6)], shards=3)
    found = read(folder)
    assert len(found) == 6
    for corpus in (
        "sharded_manifests/manifest__OP_0..2_CL_.json",
        "sharded_manifests/manifest_{0..2}.json",
        "tarred_audio_manifest.json",
        "sharded_manifests",
    ):
        passed_over = PassedOver()
        assert read(folder / corpus, passed_over) == found
        assert not passed_over.to_json().keys() - {"unread_columns"}
        assert corpus_roots(str(folder / corpus), "nemo") == [str(folder)]
    assert read(folder / "sharded_manifests/manifest_1.json") == found[2:4]
    assert corpus_roots("s3://b/t/sharded_manifests/manifest__OP_0..2_CL_.json", "nemo") == ["s3://b/t"]


def test_segments_of_one_member_share_it_by_their_sub_names(tmp_path):
    samples = noise(16_000)
    row = {"audio_filepath": "a/talk.wav", "speaker": "x"}
    times = [(0.0, 0.25), (0.25, 0.25), (0.5, 0.3)]
    entries = [({**row, "offset": o, "duration": d, "text": f"{o}"}, samples) for o, d in times]
    passed_over = PassedOver()
    found = read(tarred(tmp_path, entries, shards=1), passed_over)
    assert [one.member for one in found] == ["a_talk.wav"] * 3
    ids = ["audio_0._a_talk.-0", "audio_0._a_talk-sub1.-0..25", "audio_0._a_talk-sub2.-0..5"]
    assert [one.utterance_id for one in found] == ids
    assert "unlisted_files" not in passed_over.to_json()
    with Decoder(sample_rate=RATE) as decoder:
        for one, (offset, duration) in zip(found, times, strict=True):
            begin = round(offset * RATE)
            assert np.array_equal(samples_of(one, decoder), samples[begin : begin + round(duration * RATE)])


def test_a_member_that_is_itself_called_sub_is_its_own_line(tmp_path):
    write_tar(tmp_path / "audio_0.tar", [("a-sub1.wav", encoded(noise(4000), "a.wav"))])
    lines(tmp_path / "tarred_audio_manifest.json", [{"audio_filepath": "a-sub1.wav", "shard_id": 0}])
    assert [(one.member, one.problem) for one in read(tmp_path)] == [("a-sub1.wav", None)]


def test_members_that_were_cut_to_their_segments_are_whole(tmp_path):
    samples = noise(16_000)
    entries = [({"audio_filepath": "a.wav", "offset": o, "duration": 0.25, "text": "x"}, samples) for o in (0.0, 0.5)]
    found = read(tarred(tmp_path, entries, shards=1, slices=True))
    assert [one.member for one in found] == ["a_0_0_0_25.wav", "a_0_5_0_25.wav"]
    with Decoder(sample_rate=RATE) as decoder:
        assert np.array_equal(samples_of(found[1], decoder), samples[8000:12_000])


def test_a_member_that_was_transcoded_is_met_by_its_name_without_the_ending(tmp_path):
    found = read(tarred(tmp_path, [plain(0), plain(1)], shards=1, codec="flac"))
    assert [one.member for one in found] == ["_d_0_s0.flac", "_d_0_s1.flac"]


def test_a_duration_alone_describes_the_member_and_cuts_nothing(tmp_path):
    (row, samples) = plain(0)
    (one,) = read(tarred(tmp_path, [(row, samples)], shards=1))
    assert (one.offset_seconds, one.duration_seconds) == (None, None)


def test_lines_without_a_member_are_rejects_and_members_without_a_line_are_counted(tmp_path):
    folder = tarred(tmp_path, [plain(number) for number in range(4)], whole=False)
    manifest = folder / "sharded_manifests/manifest_0.json"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines(manifest, [rows[0], {**rows[1], "audio_filepath": "gone.wav"}])
    passed_over = PassedOver()
    found = read(folder, passed_over)
    assert [one.problem and one.problem[0] for one in found] == [None, "missing", None, None]
    assert "audio_0.tar has no member gone.wav" in found[1].problem[1]
    assert "line 2 of" in found[1].problem[1]
    counted = passed_over.to_json()["unlisted_files"]
    assert counted == {"count": 1, "example": "audio_0.tar: _d_0_s1.wav"}


def test_a_damaged_tar_costs_the_lines_behind_the_damage(tmp_path):
    folder = tarred(tmp_path, [plain(number) for number in range(4)])
    tar = folder / "audio_0.tar"
    tar.write_bytes(tar.read_bytes()[: read(folder)[1].byte_offset - 700])
    found = read(folder)
    assert [one.problem and one.problem[0] for one in found] == [None, "truncated", None, None]


def test_lines_that_take_turns_between_shards_are_read_while_their_tars_are_few(tmp_path, monkeypatch):
    folder = tarred(tmp_path, [plain(number) for number in range(6)], shards=3, sharded=False)
    manifest = folder / "tarred_audio_manifest.json"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    expected = read(folder)
    turns = [0, 2, 4, 1, 3, 5]
    lines(manifest, [rows[turn] for turn in turns])
    assert read(folder) == [expected[turn] for turn in turns]
    monkeypatch.setattr(nemo, "MAX_HELD", 3)
    with pytest.raises(ManifestError, match="sort them by shard_id"):
        read(folder)
    lines(manifest, rows)
    assert read(folder) == expected


def test_the_latest_manifest_of_all_shards_is_read_and_tars_without_lines_are_counted(tmp_path):
    folder = tarred(tmp_path, [plain(number) for number in range(4)], sharded=False)
    rows = (folder / "tarred_audio_manifest.json").read_text().splitlines()
    (folder / "tarred_audio_manifest_version_2.json").write_text("\n".join(rows[:3]))
    (folder / "tarred_audio_manifest_version_10.json").write_text("\n".join(rows[:2]))
    passed_over = PassedOver()
    assert len(read(folder, passed_over)) == 2
    counted = passed_over.to_json()["unlisted_files"]
    assert counted == {"count": 1, "example": "audio_1.tar", "names": {".tar": 1}}


BAD = [
    (b"{", "not JSON"),
    (b"[1]", "not a JSON object"),
    (b'{"text": "x", "shard_id": 0}', "name of a member"),
    (b'{"audio_filepath": ["a"], "shard_id": 0}', "name of a member"),
    (b'{"audio_filepath": "a.wav", "shard_id": "0"}', "shard_id must be the number"),
    (b'{"audio_filepath": "a.wav", "shard_id": true}', "shard_id must be the number"),
    (b'{"audio_filepath": "a.wav", "shard_id": 0, "offset": "soon"}', "offset must be a number"),
    (b'{"audio_filepath": "a.wav", "shard_id": 0, "text": {}}', "text must be text"),
    (b'{"audio_filepath": "s3://KEY:SECRET@b/a.wav", "shard_id": 0}', "credentials"),
    (b'{"audio_filepath": "a\xff.wav", "shard_id": 0}', "not UTF-8"),
]


@pytest.mark.parametrize(("line", "words"), BAD)
def test_a_bad_line_is_a_problem_with_its_number_and_the_rest_is_read(tmp_path, line, words):
    write_tar(tmp_path / "audio_0.tar", [("a.wav", encoded(noise(4000), "a.wav"))])
    good = b'{"audio_filepath": "a.wav", "shard_id": 0}'
    (tmp_path / "tarred_audio_manifest.json").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([good, line, good]))
    found = read(tmp_path)
    assert [one.problem is None for one in found] == [True, False, True]
    assert words in found[1].problem[1]
    assert "line 2 of" in found[1].problem[1]
    assert "SECRET" not in f"{found[1]}"


def test_an_incomplete_dataset_is_one_clear_error(tmp_path):
    folder = tarred(tmp_path, [plain(number) for number in range(4)])
    with pytest.raises(ManifestError, match=r"no audio_2\.tar for .*manifest_2\.json"):
        read(folder / "sharded_manifests/manifest_{0..2}.json")
    (folder / "sharded_manifests/manifest_1.json").unlink()
    with pytest.raises(ManifestError, match=r"there is no file .*manifest_1\.json"):
        read(folder / "sharded_manifests/manifest_{0..1}.json")
    lines(folder / "tarred_audio_manifest.json", [{"audio_filepath": "a.wav", "shard_id": 7}])
    with pytest.raises(ManifestError, match=r"names the shard 7, of which there is no audio_7\.tar"):
        read(folder / "tarred_audio_manifest.json")
    with pytest.raises(ManifestError, match="the shard of .*train_a.json cannot be told"):
        read(folder / "train_{a,b}.json")
    write_tar(folder / "audio_x_1.tar", [])
    with pytest.raises(ManifestError, match="are both shard 1"):
        read(folder)


def test_a_plain_manifest_is_a_listing_and_an_empty_one_is_an_error(tmp_path):
    lines(tmp_path / "train.json", [{"audio_filepath": "a.wav", "duration": 1.0}])
    with pytest.raises(ManifestError, match="has the layout listing"):
        read(tmp_path / "train.json")
    write_tar(tmp_path / "audio_0.tar", [])
    (tmp_path / "train.json").write_text("")
    with pytest.raises(ManifestError, match="no recordings: its manifests have no lines"):
        read(tmp_path / "train.json")


def test_a_manifest_of_all_shards_is_counted_beside_those_of_shards_and_not_where_nemo_has_written_both(tmp_path):
    folder = tarred(tmp_path, [plain(number) for number in range(4)])
    passed_over = PassedOver()
    read(folder, passed_over)
    assert "unread_lines" not in passed_over.to_json()
    for file in (folder / "sharded_manifests").iterdir():
        file.rename(folder / file.name)
    read(folder, passed_over)
    name = "tarred_audio_manifest.json"
    counted = {"count": 1, "example": f"{name}, beside manifests of shards", "names": {name: 1}}
    assert passed_over.to_json()["unread_lines"] == counted


def test_a_folder_of_buckets_names_them(tmp_path):
    for number in (1, 2):
        (tmp_path / f"bucket{number}").mkdir()
        tarred(tmp_path / f"bucket{number}", [plain(0)], shards=1)
    with pytest.raises(ManifestError, match="it holds only the folders bucket1, bucket2: give one of them"):
        read(tmp_path)
