"""Who speaks, where the vocoder takes vectors: a reference, a name, each its own; the same on every way, or refused."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from made_speakers import HERTZ, speaker_encoder, write_other_encoder
from made_speech import COLUMNS, config_of, write_small_vocoder, write_spoken_corpus
from made_vocoder import HOP
from made_voices import voice

from pipeline.audio.flac import sixteen_bits
from pipeline.errors import AudioDecodeError, PlanMismatchError, SettingsError
from pipeline.metrics.speech.speaker import SpeakerEncoder
from pipeline.synthesis.settings import SynthesizeConfig
from pipeline.synthesis.stage import prepare, synthesize
from pipeline.vocoder.saved import load_vocoder, read_voices


def write_reference(path, who, *, rate=16_000, seed=7):
    """Write two seconds of a voice in two channels; gives the vector of their mean."""
    waveform = voice(2.0, hertz=HERTZ[who], seed=seed)
    soundfile.write(path, np.stack([waveform, waveform], axis=1), rate, subtype="FLOAT")
    return SpeakerEncoder()(waveform)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Tokens, a vocoder that knows ann and bob by their mean vectors, and a recording of each."""
    folder = tmp_path_factory.mktemp("spoken_by")
    encoder = speaker_encoder()
    tokens = write_spoken_corpus(folder, speakers=("ann", "bob"))
    voices = {who: write_reference(folder / f"{who}.wav", who) for who in HERTZ}
    write_small_vocoder(folder / "vocoder", speaker_input="vector", voices=voices, speaker_encoder=encoder)
    write_small_vocoder(folder / "nobody", speaker_input="vector", speaker_encoder=encoder)
    soundfile.write(folder / "silent.wav", np.zeros(16_000, np.float32), 16_000)
    return folder, tokens


def shards(output):
    return {path.name: path.read_bytes() for path in sorted(Path(output).glob("shard-*.parquet"))}


def rows_of(output):
    tables = [pq.read_table(io.BytesIO(data)).to_pylist() for data in shards(output).values()]
    return {row["utterance_id"]: row for rows in tables for row in rows}


def samples_of(row):
    return soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="int16")[0].astype(int)


def alone(folder, tokens, vector):
    """What the network gives of one utterance alone, as 16 bits."""
    network = load_vocoder(str(folder / "vocoder"))
    ids = torch.from_numpy(np.stack([tokens[column].astype(np.int64) for column in COLUMNS], axis=1))[None]
    with torch.inference_mode():
        spoken = network(ids, torch.ones(ids.shape[:2], dtype=torch.bool), None, torch.from_numpy(vector)[None])
    return sixteen_bits(spoken[0].numpy()).samples.astype(int)


def is_spoken_by(folder, tokens, row, vector):
    near = np.abs(samples_of(row) - alone(folder, tokens, vector)).max() <= 4
    assert len(samples_of(row)) == HOP * len(tokens["layer_01"])
    return near


def test_a_reference_speaks_all_of_it_and_nobody_is_said_to(corpus, tmp_path):
    folder, tokens = corpus
    vectors = read_voices(str(folder / "vocoder"))
    config = config_of(folder, tmp_path / "out", speaker_reference=str(folder / "bob.wav"))
    synthesize(config.but(manifest=str(folder / "manifest")))
    rows = rows_of(tmp_path / "out")
    assert {row["speaker"] for row in rows.values()} == {None}
    assert all(row["text"] for row in rows.values())
    for name, row in rows.items():
        assert is_spoken_by(folder, tokens[name], row, vectors["bob"])
        assert not is_spoken_by(folder, tokens[name], row, vectors["ann"])


def test_each_speaks_with_the_mean_vector_of_its_own_speaker_or_all_with_one(corpus, tmp_path):
    folder, tokens = corpus
    vectors, manifest = read_voices(str(folder / "vocoder")), str(folder / "manifest")
    synthesize(config_of(folder, tmp_path / "own", manifest=manifest))
    synthesize(config_of(folder, tmp_path / "ann", manifest=manifest, speaker="ann"))
    own, ann = rows_of(tmp_path / "own"), rows_of(tmp_path / "ann")
    assert {row["speaker"] for row in ann.values()} == {"ann"}
    assert {row["speaker"] for row in own.values()} == {"ann", "bob"}
    for name in tokens:
        assert is_spoken_by(folder, tokens[name], own[name], vectors[own[name]["speaker"]])
        assert is_spoken_by(folder, tokens[name], ann[name], vectors["ann"])


def test_the_vector_is_part_of_the_plan_and_not_where_it_comes_from(corpus, tmp_path):
    folder, _ = corpus
    reference = {"speaker_reference": str(folder / "ann.wav")}
    config = config_of(folder, tmp_path / "out", **reference)
    synthesize(config)
    before = shards(tmp_path / "out")
    (tmp_path / "copy.wav").write_bytes((folder / "ann.wav").read_bytes())
    assert synthesize(config.but(speaker_reference=str(tmp_path / "copy.wav"))).units_done_now == 0
    assert shards(tmp_path / "out") == before
    for changes in ({"speaker_reference": str(folder / "bob.wav")}, {"speaker_reference": None, "speaker": "bob"}):
        with pytest.raises(PlanMismatchError, match=r"\n  speaker_vectors_sha256: folder has "):
            prepare(config.but(**changes))
    found = {}
    for name, changes in (("own", {"manifest": str(folder / "manifest")}), ("bob", {"speaker": "bob"})):
        found[name] = prepare(config_of(folder, tmp_path / name, **changes)).plan.content["speaker_vectors_sha256"]
    assert found["own"] == json.loads((folder / "vocoder" / "config.json").read_text())["voices_sha256"]
    assert found["own"] != found["bob"]


def test_who_cannot_speak_is_refused_in_one_sentence_before_anything_is_written(corpus, tmp_path, monkeypatch):
    folder, _ = corpus
    write_spoken_corpus(tmp_path / "unnamed")
    write_spoken_corpus(tmp_path / "strange", speakers=("ann", "eve"))
    write_small_vocoder(tmp_path / "table", speaker_input="table", speakers=("ann", "bob"))
    write_small_vocoder(tmp_path / "unbound", speaker_input="vector")
    reference = {"speaker_reference": str(folder / "ann.wav")}
    known = "--speaker-reference, a recording of who is to speak, or --speaker, one of ann, bob"
    of = {name: {key: str(tmp_path / name / key) for key in ("tokens", "manifest")} for name in ("unnamed", "strange")}
    refused = [
        ({}, SettingsError, f"needs to be told who speaks; give {known}"),
        ({"speaker": "eve"}, SettingsError, f"--speaker has the speaker eve, whom .* give {known}"),
        ({**of["strange"]}, SettingsError, f"has the speaker eve, whom .* give {known}"),
        ({**of["unnamed"]}, SettingsError, f"has utterances without a speaker; give {known}"),
        ({"vocoder": str(folder / "nobody"), "speaker": "ann"}, SettingsError, "give --speaker-ref.* who is to speak$"),
        ({"vocoder": str(folder / "nobody")}, SettingsError, "to be told who speaks; .* who is to speak$"),
        ({"vocoder": str(tmp_path / "table"), **reference}, SettingsError, "by name alone; leave --speaker-reference"),
        ({"vocoder": str(tmp_path / "unbound"), **reference}, SettingsError, "does not say which speaker encoder"),
        ({"speaker_reference": str(folder / "silent.wav")}, SettingsError, "silent.wav is silent and says nothing"),
        ({"speaker_reference": str(tmp_path / "none.wav")}, AudioDecodeError, "none.wav"),
        ({**reference, "speaker": "ann"}, SettingsError, "give --speaker or --speaker-reference, not both"),
    ]
    for settings, error, message in refused:
        with pytest.raises(error, match=message) as told:
            synthesize(config_of(folder, tmp_path / "out", **settings))
        assert "\n" not in str(told.value)
        assert not (tmp_path / "out").exists()
    monkeypatch.syspath_prepend(str(write_other_encoder(tmp_path / "other")))
    with pytest.raises(SettingsError, match=r"takes speaker vectors of resemblyzer .*, and resemblyzer 0\.1\.9"):
        synthesize(config_of(folder, tmp_path / "out", **reference))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(SettingsError, match="needs resemblyzer; install it with: pip"):
        prepare(config_of(folder, tmp_path / "out", **reference))
    # What is known by name needs no encoder.
    prepare(config_of(folder, tmp_path / "out", speaker="bob"))


def test_a_reference_is_located_before_workers_have_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = SynthesizeConfig.of(tokens="t", vocoder="v", output="o", speaker_reference="ann.wav").located()
    assert config.speaker_reference == str(tmp_path / "ann.wav")
