"""The channel of a segment: whoever speaks on a side of a call has the tokens of that side, in every form of list."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from made_audio import RATE, decode, noise, wav
from made_containers import encoded, write_table, write_tar

from pipeline.audio.decode import Decoder
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.passed_over import PassedOver
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.tokens.stage import TokenizeCorpusConfig, tokenize_corpus


def rttm(*lines, name="call"):
    """Write RTTM: channel, start, speaker; each lasts half a second."""
    return "".join(f"SPEAKER {name} {c} {start} 0.5 <NA> <NA> {who} <NA> <NA>\n" for c, start, who in lines)


def manifest_of(corpus, output, *, layout="folder", **settings):
    report = build_manifest(
        BuildManifestConfig.of(
            corpus=str(corpus),
            layout=layout,
            output=str(output),
            num_workers=1,
            runner="here",
            **{"max_reject_fraction": 1.0} | settings,
        )
    )
    return report, pq.read_table(output).to_pylist()


def call(tmp_path, channels=2):
    (tmp_path / "wav").mkdir(exist_ok=True)
    return wav(tmp_path / "wav" / "call.wav", noise(2 * RATE, channels)).parent


def cut(tmp_path, name, text, channels=2, **settings):
    """Cut a call by a list: the report, and what is read of each utterance."""
    (tmp_path / name).write_text(text)
    folder = call(tmp_path, channels)
    output = tmp_path / f"m-{name}-{len(settings)}-{channels}"
    report, rows = manifest_of(folder, output, segments=str(tmp_path / name), **settings)
    return report, {row["utterance_id"]: row["channel"] for row in rows}


LISTS = {
    "s.jsonl": "".join(
        json.dumps({"recording_id": "call", "start": 0.5, "duration": 1.0, "channel": c, "id": name}) + "\n"
        for c, name in ((0, "A"), (1, "B"), ([1], "C"), (1.0, "D"), ("1", "E"), (None, "F"), ([0, 1], "G"))
    ),
    "s.csv": "recording,start,end,channel,id\ncall,0.5,1,0,A\ncall,0.5,1,1,B\ncall,0.5,1,1,C\ncall,0.5,1,1.0,D\n"
    "call,0.5,1,1,E\ncall,0.5,1,,F\ncall,0.5,1,,G\n",
}
LISTS["s.tsv"] = LISTS["s.csv"].replace(",", "\t")


@pytest.mark.parametrize("name", LISTS)
def test_a_segment_is_read_from_its_own_channel(tmp_path, name):
    report, found = cut(tmp_path, name, LISTS[name])
    assert found == {"A": 0, "B": 1, "C": 1, "D": 1, "E": 1, "F": None, "G": None}
    assert not PassedOver.of(report.passed_over)["unread_columns"]


def test_both_speakers_of_a_call_have_the_tokens_of_their_own_channel(tmp_path, small_encoder):
    sides = noise(3 * RATE, 2)
    for folder in ("call", "mono"):
        (tmp_path / folder).mkdir()
    wav(tmp_path / "call" / "call.wav", sides)
    for channel, name in enumerate("AB"):
        wav(tmp_path / "mono" / f"{name}.wav", sides[RATE // 2 : 5 * RATE // 2, channel])
    rows = [
        {"id": name, "recording_id": "call", "start": 0.5, "duration": 2.0, "channel": channel, "speaker": name}
        for channel, name in enumerate("AB")
    ]
    (tmp_path / "supervisions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    encoder = small_encoder()
    run_pipeline(
        RunPipelineConfig.of(
            corpus=str(tmp_path / "call"),
            layout="folder",
            output=str(tmp_path / "run"),
            segments=str(tmp_path / "supervisions.jsonl"),
            encoder=encoder,
            layers=(1,),
            num_clusters=16,
            all_features=True,
            num_workers=1,
            agreement_frames=0,
            runner="here",
        )
    )
    manifest_of(tmp_path / "mono", tmp_path / "mono-manifest")
    tokenize_corpus(
        TokenizeCorpusConfig.of(
            manifest=str(tmp_path / "mono-manifest"),
            codebooks=str(tmp_path / "run" / "codebooks"),
            encoder=encoder,
            output=str(tmp_path / "mono-tokens"),
            num_workers=1,
            agreement_frames=0,
            runner="here",
        )
    )
    own, alone = (
        {row["utterance_id"]: row["layer_01"] for row in pq.read_table(tmp_path / name).to_pylist()}
        for name in ("run/tokens", "mono-tokens")
    )
    assert own == alone
    assert own["A"] != own["B"]


@pytest.mark.parametrize("name", ["s.jsonl", "s.csv"])
def test_a_channel_that_the_recording_lacks_is_a_reject(tmp_path, name):
    rows = [("A", 0), ("B", 2), ("C", 1)]
    text = "recording,start,end,channel,id\n" + "".join(f"call,0,1,{channel},{who}\n" for who, channel in rows)
    if name == "s.jsonl":
        text = "".join(
            json.dumps({"recording": "call", "start": 0, "end": 1, "channel": channel, "id": who}) + "\n"
            for who, channel in rows
        )
    report, found = cut(tmp_path, name, text)
    assert (found, report.reject_reasons) == ({"A": 0, "C": 1}, {"bad_segment": 1})
    # The first channel of a recording that has but one is the recording.
    report, found = cut(tmp_path, name, text, channels=1)
    assert (found, report.reject_reasons) == ({"A": None}, {"bad_segment": 2})


@pytest.mark.parametrize("value", ["-1", "1.5", '"left"', "true", "[0, -1]", "[[0]]", "4294967296"])
def test_a_channel_that_is_no_number_is_a_reject(tmp_path, value):
    text = f'{{"recording": "call", "start": 0, "end": 1, "channel": {value}}}\n'
    text += '{"recording": "call", "start": 0, "end": 1}\n'
    report, found = cut(tmp_path, "s.jsonl", text)
    assert (found, report.reject_reasons) == ({"call.-0-1000": None}, {"bad_row": 1})


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"channels": "split"}, {"u.ch1": 1, "u.ch2": 2}),
        ({"channels": "pick", "pick_channel": 2}, {"u": 2}),
        ({"channels": "pick", "pick_channel": 3}, {}),
        ({"channels": "mix"}, {}),
    ],
)
def test_several_of_many_channels_follow_the_setting_of_channels(tmp_path, settings, found):
    row = {"recording": "call", "start": 0, "end": 1, "channel": [1, 2], "id": "u"}
    good = row | {"channel": 0, "id": "good"}
    (tmp_path / "s.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(good)}\n")
    report, rows = manifest_of(call(tmp_path, 4), tmp_path / "m", segments=str(tmp_path / "s.jsonl"), **settings)
    assert {row["utterance_id"]: row["channel"] for row in rows} == found | {"good": 0}
    assert report.reject_reasons == ({} if found else {"bad_segment": 1})


def test_segments_of_one_place_in_two_channels_have_ids_of_their_own(tmp_path):
    text = "recording,start,end,channel\ncall,0,1,0\ncall,0,1,1\ncall,0,1,\n"
    report, found = cut(tmp_path, "s.csv", text)
    assert found == {"call.-0-1000": 0, "call.-0-1000.-c1": 1}
    # Channel 0 has the name that it has where the list names none.
    assert report.reject_reasons == {"duplicate_id": 1}


def test_a_segment_in_another_channel_than_its_recording_of_a_listing_is_refused(tmp_path):
    folder = call(tmp_path)
    (folder / "l.csv").write_text("uri,id,channel\ncall.wav,left,0\ncall.wav,right,1\n")
    rows = [("left", 0), ("left", 1), ("right", ""), ("right", 1)]
    text = "recording,start,end,id,channel\n"
    text += "".join(f"{name},0,1,{number},{channel}\n" for number, (name, channel) in enumerate(rows))
    (tmp_path / "s.csv").write_text(text)
    settings = {"layout": "listing", "segments": str(tmp_path / "s.csv")}
    report, rows = manifest_of(folder / "l.csv", tmp_path / "m", **settings)
    assert {row["utterance_id"]: row["channel"] for row in rows} == {"0": 0, "2": 1, "3": 1}
    assert report.reject_reasons == {"bad_segment": 1}


def test_rttm_that_names_several_channels_of_a_recording_is_read_by_channel(tmp_path):
    _, found = cut(tmp_path, "a.rttm", rttm((1, 0, "A"), (2, 0, "B"), ("<NA>", 1, "C")))
    assert found == {"call.-0-500.-A": 0, "call.-0-500.-B": 1, "call.-1000-1500.-C": None}
    # Somebody counted from 0.
    _, found = cut(tmp_path, "b.rttm", rttm((0, 0, "A"), (1, 0, "B")))
    assert found == {"call.-0-500.-A": 0, "call.-0-500.-B": 1}
    report, found = cut(tmp_path, "c.rttm", rttm((1, 0, "A"), (3, 0, "B")))
    assert (found, report.reject_reasons) == ({"call.-0-500.-A": 0}, {"bad_segment": 1})


@pytest.mark.parametrize(("channel", "counted"), [(1, 0), (2, 2), ("B", 2)])
def test_rttm_that_names_one_channel_of_a_recording_says_nothing_and_loses_nothing(tmp_path, channel, counted):
    report, found = cut(tmp_path, "a.rttm", rttm((channel, 0, "A"), (channel, 1, "B")))
    assert found == {"call.-0-500.-A": None, "call.-1000-1500.-B": None}
    assert PassedOver.of(report.passed_over)["unused_channels"] == counted


def test_rttm_that_names_several_channels_of_a_recording_with_one_loses_nothing(tmp_path):
    report, found = cut(tmp_path, "a.rttm", rttm((1, 0, "A"), (2, 1, "B")), channels=1)
    assert (found, report.rejects) == ({"call.-0-500.-A": None, "call.-1000-1500.-B": None}, 0)
    assert PassedOver.of(report.passed_over)["unused_channels"] == 1


def test_listings_tars_and_tables_read_lists_of_channels_too(tmp_path):
    sides = noise(RATE, 2)
    flac = encoded(sides)
    (tmp_path / "l").mkdir()
    soundfile.write(tmp_path / "l" / "a.flac", sides, RATE)
    rows = [{"uri": "a.flac", "channel": channel} for channel in ([1], [0, 1], [0, 1, 2])]
    (tmp_path / "l" / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report, rows = manifest_of(tmp_path / "l" / "l.jsonl", tmp_path / "m", layout="listing")
    assert {row["utterance_id"]: row["channel"] for row in rows} == {"a.-c1": 1, "a.-c0-1": None}
    assert report.reject_reasons == {"bad_segment": 1}
    write_tar(tmp_path / "t" / "t.tar", [("a.flac", flac), ("a.json", b'{"channel": [1]}')])
    _, rows = manifest_of(tmp_path / "t", tmp_path / "n", layout="webdataset")
    assert [row["channel"] for row in rows] == [1]
    write_table(tmp_path / "p" / "t.parquet", [(flac, None)] * 2, channel=[[1], [0, 1]])
    _, rows = manifest_of(tmp_path / "p", tmp_path / "o", layout="parquet")
    assert [row["channel"] for row in rows] == [1, None]


def test_a_list_that_names_no_channel_gives_the_candidates_that_it_gave_before(tmp_path):
    from pipeline.audio.candidate import Candidate
    from pipeline.audio.makers import CANDIDATES
    from pipeline.audio.stage import candidate_table

    assert candidate_table([Candidate(utterance_id="a", uri="/a.wav")]).schema == CANDIDATES
    named = candidate_table([Candidate(utterance_id="a", uri="/a.wav", channels=(1,))])
    assert named.schema.names == [*CANDIDATES.names, "channels"]


def test_a_channel_of_a_call_decodes_to_that_side(tmp_path):
    folder = call(tmp_path)
    sides, _ = soundfile.read(folder / "call.wav", dtype="int16")
    with Decoder(sample_rate=RATE) as decoder:
        for channel in range(2):
            heard = decode(decoder, folder / "call.wav", offset=100, count=1000, rate=RATE, channel=channel)
            assert np.array_equal(heard, sides[100:1100, channel])
