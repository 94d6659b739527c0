"""fairseq's list of recordings is written only where a line of units is all of a file, because it has no offsets."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_audio import RATE, noise, wav
from made_containers import encoded, write_table, write_tar
from made_tokens import Made, tones, write_tokens

from pipeline.audio.loading import Manifest
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.export.settings import ExportTokensConfig
from pipeline.export.stage import export_tokens

SECONDS = 2


def tokens_of(folder, **settings):
    """Build a manifest, and tokens of as many frames as its utterances have."""
    build_manifest(BuildManifestConfig.of(output=str(folder / "manifest"), num_workers=1, runner="here", **settings))
    rows = pq.read_table(folder / "manifest").to_pylist()
    made = []
    for row in rows:
        waveform, tokens = tones(row["num_samples"], np.random.default_rng(0))
        made.append(Made(row["utterance_id"], row["uri"], waveform, RATE, tokens))
    write_tokens(folder / "tokens", made, per_shard=len(made))
    return folder


def fairseq(folder, output, **settings):
    """Export, and give the lines of units and those of the list of recordings, None where there is no list."""
    given = {"tokens": str(folder / "tokens"), "manifest": str(folder / "manifest"), "output": str(output)}
    report = export_tokens(
        ExportTokensConfig.of(**given | {"formats": ("fairseq",), "valid_fraction": 0.0, "runner": "here"} | settings)
    )
    part = output / "fairseq" / "part-000"
    table = part / "train-00000.tsv"
    units = (part / "train-00000.km").read_text().splitlines()
    return units, table.read_text().splitlines() if table.exists() else None, report


def recordings(tmp_path, channels=1):
    (tmp_path / "c").mkdir()
    for number in range(3):
        wav(tmp_path / "c" / f"{number}.wav", noise(SECONDS * RATE, channels, seed=number))
    return tmp_path / "c"


def test_whole_recordings_have_the_list_that_they_always_had(tmp_path):
    folder = tokens_of(tmp_path, corpus=str(recordings(tmp_path)), layout="folder")
    units, table, _ = fairseq(folder, tmp_path / "out")
    assert table == ["", *(f"{tmp_path}/c/{number}.wav\t{99 * 320}" for number in range(3))]
    assert len(units) == 3
    plan = json.loads((tmp_path / "out" / "fairseq" / "part-000" / "_plan.json").read_text())
    assert "audio_list" not in plan["content"]


def segments(tmp_path):
    # The first second of each file: a place that no offset tells from a whole file.
    (tmp_path / "s.csv").write_text("recording,start,end\n" + "".join(f"{number},0,1\n" for number in range(3)))
    return {"corpus": str(recordings(tmp_path)), "layout": "folder", "segments": str(tmp_path / "s.csv")}


def listed(tmp_path):
    folder = recordings(tmp_path)
    (folder / "l.csv").write_text("uri,offset,duration\n0.wav,0.5,1\n1.wav,,\n")
    return {"corpus": str(folder / "l.csv"), "layout": "listing"}


def channels(tmp_path):
    return {"corpus": str(recordings(tmp_path, 2)), "layout": "folder", "channels": "split"}


def tars(tmp_path):
    write_tar(tmp_path / "t" / "a.tar", [("x.flac", encoded(noise(RATE))), ("y.flac", encoded(noise(RATE)))])
    return {"corpus": str(tmp_path / "t"), "layout": "webdataset"}


def cells(tmp_path):
    write_table(tmp_path / "t" / "a.parquet", [(encoded(noise(RATE)), None)] * 2)
    return {"corpus": str(tmp_path / "t"), "layout": "parquet"}


@pytest.mark.parametrize("corpus", [segments, listed, channels, tars, cells], ids=lambda corpus: corpus.__name__)
def test_what_is_a_part_of_a_file_has_units_and_no_list(tmp_path, corpus, caplog):
    folder = tokens_of(tmp_path, **corpus(tmp_path))
    units, table, _ = fairseq(folder, tmp_path / "out")
    assert table is None
    assert len(units) >= 2
    assert all(line for line in units)
    assert ".km is written without .tsv" in caplog.text
    # The same command finds its own folder again.
    assert fairseq(folder, tmp_path / "out")[2].stages[-1].units_done_now == 0


@pytest.mark.parametrize(
    "settings",
    [{"deduplicate": True}, {"documents": "speaker"}, {"max_document_ids": 50}, {"document_pattern": "^(.)"}],
    ids=lambda settings: next(iter(settings)),
)
def test_lines_that_are_not_all_frames_of_one_recording_have_no_list(tmp_path, settings):
    listing = recordings(tmp_path) / "l.csv"
    listing.write_text("uri,speaker\n0.wav,ann\n1.wav,ann\n2.wav,bob\n")
    folder = tokens_of(tmp_path, corpus=str(listing), layout="listing")
    assert fairseq(folder, tmp_path / "whole")[1] is not None
    _, table, _ = fairseq(folder, tmp_path / "out", **settings)
    assert table is None


def test_without_a_manifest_there_is_no_list(tmp_path):
    folder = tokens_of(tmp_path, corpus=str(recordings(tmp_path)), layout="folder")
    assert fairseq(folder, tmp_path / "out", manifest=None)[1] is None


def test_a_mean_of_all_channels_is_the_whole_file_as_fairseq_reads_it(tmp_path):
    folder = tokens_of(tmp_path, corpus=str(recordings(tmp_path, 2)), layout="folder")
    assert Manifest(str(folder / "manifest")).parts == 0
    assert fairseq(folder, tmp_path / "out")[1] is not None
