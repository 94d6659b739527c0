"""Tokens become speech: of the right length, of the layers that were asked for, the same bytes on every way."""

import json
import shutil

import numpy as np
import pytest
import torch
from made_export import config_of as export_config
from made_fusion import make_books
from made_kills import KILLED, in_child
from made_speech import (
    COLUMNS,
    LENGTHS,
    RATE,
    config_of,
    rows_of,
    samples_of,
    shards,
    write_small_vocoder,
    write_spoken_corpus,
)
from made_vocoder import HOP

from pipeline.audio.decode import DecodeLimits
from pipeline.audio.flac import sixteen_bits
from pipeline.audio.loading import Manifest, ShardLoader
from pipeline.errors import CodebookMismatchError, CorruptDatasetError, DatasetError, SettingsError
from pipeline.export.stage import export_tokens
from pipeline.status import run_status
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.synthesis.stage import synthesize
from pipeline.vocoder.pieces import speak_in_pieces
from pipeline.vocoder.saved import load_vocoder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoken")
    tokens = write_spoken_corpus(folder)
    write_small_vocoder(folder / "vocoder")
    return folder, tokens


def alone(folder, tokens, columns):
    """What the network gives of one utterance alone and whole, as 16 bits."""
    network = load_vocoder(str(folder / "vocoder"))
    stacked = torch.from_numpy(np.stack([tokens[column].astype(np.int64) for column in COLUMNS], axis=1))
    present = torch.tensor([column in columns for column in COLUMNS])
    return sixteen_bits(speak_in_pieces(network, stacked, present).numpy()).samples


@pytest.mark.parametrize("layers", [(), (3,), (6, 1)])
def test_each_utterance_is_spoken_as_alone_from_the_layers_that_were_asked_for(corpus, tmp_path, layers):
    folder, tokens = corpus
    # Pieces of 40 frames and batches of 64: every way of the batching is taken.
    how = {"piece_seconds": 40 * HOP / RATE, "batch_seconds": 64 * HOP / RATE}
    report = synthesize(config_of(folder, tmp_path / "out", layers=layers, manifest=str(folder / "manifest"), **how))
    assert (report.rows, report.rejects, report.units) == (len(LENGTHS), 0, 3)
    assert report.num_frames == sum(LENGTHS)
    assert report.audio_hours == pytest.approx(sum(LENGTHS) * HOP / RATE / 3600)
    assert report.times_real_time > 0
    heard = [f"layer_{layer:02d}" for layer in layers] or COLUMNS
    found = rows_of(tmp_path / "out")
    assert list(found) == list(tokens)
    for name, row in found.items():
        samples = samples_of(row)
        assert len(samples) == row["num_samples"] == HOP * len(tokens[name]["layer_01"])
        assert np.abs(samples.astype(int) - alone(folder, tokens[name], heard)).max() <= 4
        assert row["text"] == f"words {int(name[-3:])}"
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).rows == len(LENGTHS)
    (state,) = run_status(str(tmp_path / "out"))
    assert (state.kind, state.finished) == ("speech", True)


def test_the_manifest_of_the_speech_keeps_ids_and_labels_and_is_decoded_as_any_other(corpus, tmp_path):
    folder, tokens = corpus
    synthesize(config_of(folder, tmp_path / "out", manifest=str(folder / "manifest")))
    uri = str(tmp_path / "out" / "_manifest")
    manifest = Manifest(uri)
    loader = ShardLoader(manifest=uri, sample_rate=RATE, limits=DecodeLimits(), max_row_seconds=60)
    spoken = rows_of(tmp_path / "out")
    seen = {}
    for unit in manifest.units:
        labels = {row["utterance_id"]: row for row in manifest.rows(unit).to_pylist()}
        for utterance in loader(unit):
            assert utterance.problem is None
            seen[utterance.utterance_id] = labels[utterance.utterance_id]["text"]
            assert np.array_equal(utterance.samples, samples_of(spoken[utterance.utterance_id]))
    assert seen == {name: f"words {int(name[-3:])}" for name in tokens}


def test_killed_at_each_step_a_rerun_ends_with_the_same_bytes(corpus, tmp_path):
    folder, _ = corpus
    synthesize(config_of(folder, tmp_path / "whole"))
    config = config_of(folder, tmp_path / "out")
    points = (
        "after_plan",
        "speak",
        "after_data_before_commit",
        "after_commit_before_publish",
        "after_shard_table_before_success",
    )
    for number, point in enumerate(points):
        match = f"u{4 * number:03d}" if point == "speak" else ""
        ended = in_child(synthesize, config, [{"point": point, "match": match, "action": "kill"}])
        assert ended.code == KILLED, point
    synthesize(config)
    assert shards(tmp_path / "out") == shards(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("shard-*.parquet")}
    again = synthesize(config)
    assert again.units_done_now == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    "settings",
    [{"layers": (3,)}, {"deduplicate": True}, {"deduplicate": True, "max_document_ids": 16}],
    ids=["one", "deduplicated", "cut"],
)
def test_an_export_is_spoken_as_the_tokens_it_was_made_from(corpus, tmp_path, settings):
    folder, _ = corpus
    export_tokens(export_config(folder, tmp_path / "export", shard_ids=1_000, **settings))
    layers = {"layers": settings["layers"]} if "layers" in settings else {}
    manifest = {"manifest": str(folder / "manifest")}
    synthesize(config_of(folder, tmp_path / "of_tokens", **layers, **manifest))
    synthesize(config_of(folder, tmp_path / "of_export", export=str(tmp_path / "export"), **manifest))
    first, second = rows_of(tmp_path / "of_tokens"), rows_of(tmp_path / "of_export")
    assert first == second
    assert len(first) == len(LENGTHS)


def test_each_speaks_with_its_own_voice_or_all_with_one(corpus, tmp_path):
    write_spoken_corpus(tmp_path, speakers=("ann", "bob"))
    write_small_vocoder(tmp_path / "vocoder", speaker_input="table", speakers=("ann", "bob"))
    manifest = str(tmp_path / "manifest")
    synthesize(config_of(tmp_path, tmp_path / "own", manifest=manifest))
    synthesize(config_of(tmp_path, tmp_path / "bob", manifest=manifest, speaker="bob"))
    own, bob = rows_of(tmp_path / "own"), rows_of(tmp_path / "bob")
    assert {row["speaker"] for row in bob.values()} == {"bob"}
    for name, row in own.items():
        near = np.abs(samples_of(row).astype(int) - samples_of(bob[name])).max() <= 4
        assert near == (row["speaker"] == "bob")
    with pytest.raises(SettingsError, match="has 2 voices; give --speaker"):
        synthesize(config_of(tmp_path, tmp_path / "no"))
    with pytest.raises(SettingsError, match="'?eve'?, whom the vocoder does not know"):
        synthesize(config_of(tmp_path, tmp_path / "no", speaker="eve"))
    assert not (tmp_path / "no").exists()


def test_what_does_not_fit_is_refused_before_anything_is_written(corpus, tmp_path):
    folder, _ = corpus
    write_spoken_corpus(tmp_path / "other", books=make_books(seed=9))
    write_small_vocoder(tmp_path / "single", columns=("layer_03",))
    write_small_vocoder(tmp_path / "whole", layer_dropout=False)
    write_small_vocoder(tmp_path / "vector", speaker_input="vector", speaker_dim=8)
    out = tmp_path / "out"
    refused = [
        ({"tokens": str(tmp_path / "other" / "tokens")}, CodebookMismatchError, "codebook of layer_01: .* there"),
        ({"vocoder": str(tmp_path / "whole"), "layers": (3,)}, SettingsError, "never saw layer_03 alone"),
        ({"layers": (9,)}, SettingsError, "trained on .*, not on layer_09"),
        ({"vocoder": str(tmp_path / "single"), "layers": (1,)}, SettingsError, "not on layer_01"),
        ({"vocoder": str(tmp_path / "nowhere")}, SettingsError, "config.json is not there"),
        ({"speaker": "ann"}, SettingsError, "one voice"),
        (
            {"vocoder": str(tmp_path / "vector")},
            SettingsError,
            "to be told who speaks; give --speaker-reference, a rec",
        ),
        ({"speaker_reference": "ann.wav"}, SettingsError, "has one voice; leave --speaker-reference away"),
        ({"manifest": str(tmp_path / "other" / "manifest")}, DatasetError, "another manifest"),
        ({"vocoder": None}, SettingsError, "needs --vocoder"),
        ({"export": str(folder / "tokens"), "tokens": str(folder / "tokens")}, SettingsError, "give one of"),
    ]
    for settings, error, message in refused:
        with pytest.raises(error, match=message) as told:
            synthesize(config_of(folder, out, **settings))
        assert "\n" not in str(told.value)
        assert not out.exists()


def test_an_export_with_text_in_place_of_words_is_refused(corpus, tmp_path):
    folder, _ = corpus
    export_tokens(export_config(folder, tmp_path / "export", deduplicate=True))
    plan = tmp_path / "export" / "_plan.json"
    plan.write_text(
        json.dumps({**(told := json.loads(plan.read_text())), "content": {**told["content"], "words": True}})
    )
    with pytest.raises(SettingsError, match="text in place of words"):
        synthesize(config_of(folder, tmp_path / "out", export=str(tmp_path / "export")))


def test_damaged_weights_are_found_before_anything_is_written(corpus, tmp_path):
    folder, _ = corpus
    shutil.copytree(folder / "vocoder", tmp_path / "vocoder")
    weights = tmp_path / "vocoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CorruptDatasetError, match=r"is not the file that config\.json names"):
        synthesize(config_of(folder, tmp_path / "out", vocoder=str(tmp_path / "vocoder")))
    assert not (tmp_path / "out").exists()


def test_an_id_past_the_codebook_ends_the_run_with_its_utterance_and_layer(tmp_path):
    write_spoken_corpus(tmp_path, past=5)
    write_small_vocoder(tmp_path / "vocoder")
    with pytest.raises(CorruptDatasetError, match="spk.1_u005 of .*: layer_03 has ids from 0 to 6, and was given 7"):
        synthesize(config_of(tmp_path, tmp_path / "out"))


def test_a_sample_that_passes_full_scale_is_cut_and_counted():
    found = sixteen_bits(np.array([0.5, 1.0, -1.0, -1.5, 0.99999], np.float32))
    assert found.samples.tolist() == [16384, 32767, -32768, -32768, 32767]
    assert found.clipped == 3
