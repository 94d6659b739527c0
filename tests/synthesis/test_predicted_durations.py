"""Deduplicated tokens are spoken for as long as the vocoder predicts, in pieces and on every way alike."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made_export import config_of as export_config
from made_speech import COLUMNS, config_of, write_small_vocoder, write_spoken_corpus
from made_vocoder import HOP, spec, vocoder

from pipeline.errors import SettingsError
from pipeline.export.stage import export_tokens
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, parquet_bytes
from pipeline.synthesis.stage import synthesize
from pipeline.vocoder.duration import runs_of, whole_durations
from pipeline.vocoder.pieces import with_predicted_durations
from pipeline.vocoder.saved import load_vocoder

PREDICTS = {"duration_predictor": True, "duration_channels": 16}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted")
    tokens = write_spoken_corpus(folder)
    write_small_vocoder(folder / "vocoder", **PREDICTS)
    export_tokens(export_config(folder, folder / "export", deduplicate=True))
    return folder, tokens


def speech(output):
    return {path.name: pq.read_table(path).to_pylist() for path in sorted(Path(output).glob("shard-*.parquet"))}


def repeating(made, runs=40):
    """Tokens in which most frames repeat the one before them, and the tokens of each run once."""
    rng = np.random.default_rng(3)
    kept = np.stack([rng.integers(0, made.fuser.num_clusters[name], runs) for name in made.columns], axis=1)
    return torch.from_numpy(np.repeat(kept, rng.integers(1, 5, runs), axis=0)), torch.from_numpy(kept)


@pytest.mark.parametrize("piece_frames", [1, 3, 1000])
def test_each_run_lasts_as_predicted_whether_it_was_deduplicated_before_or_not(piece_frames):
    made = spec(**PREDICTS)
    speaks = vocoder(made).eval()
    with torch.no_grad():
        # An untrained predictor says one frame of everything.
        speaks.duration.last.bias.fill_(1.0)
        speaks.duration.last.weight.mul_(3)
    every, _ = repeating(made)
    runs = runs_of(every.unsqueeze(0), torch.ones(1, len(every), dtype=torch.bool))
    with torch.no_grad():
        lasts = whole_durations(speaks.log_durations(runs.tokens, runs.mask), runs.mask)[0]
    assert len(set(lasts.tolist())) > 1
    wanted = np.repeat(runs.tokens[0].numpy(), lasts.numpy(), axis=0)
    for given in (every, runs.tokens[0]):
        found = with_predicted_durations(speaks, given, piece_frames=piece_frames)
        np.testing.assert_array_equal(found.numpy(), wanted)


def test_a_deduplicated_export_and_its_tokens_are_spoken_alike(corpus, tmp_path):
    folder, tokens = corpus
    exported = config_of(folder, tmp_path / "exported", export=str(folder / "export"), durations="predicted")
    report = synthesize(exported)
    assert report.rows == len(tokens)
    synthesize(config_of(folder, tmp_path / "whole", durations="predicted"))
    assert speech(tmp_path / "exported") == speech(tmp_path / "whole")
    network = load_vocoder(str(folder / "vocoder"))
    for row in (row for rows in speech(tmp_path / "whole").values() for row in rows):
        given = np.stack([tokens[row["utterance_id"]][name].astype(np.int64) for name in COLUMNS], axis=1)
        assert row["num_samples"] == HOP * len(with_predicted_durations(network, torch.from_numpy(given)))


def without_durations(export):
    """Take the durations out of an export, as one that another program wrote has none."""
    folder = next((export / "sequences").iterdir())
    there = Dataset.open(str(folder))
    made = Dataset.create(str(export.parent / "bare"), there.plan)
    for unit in there.plan.units:
        table = pq.read_table(folder / f"{unit}.parquet")
        place = table.schema.get_field_index("durations")
        table = table.set_column(place, table.schema.field(place), pa.nulls(len(table), pa.large_binary()))
        output = Output(data=parquet_bytes(table, there.plan.lineage), rows=len(table), seconds=1.0)
        made.commit(unit, made.announce(unit), output, there.read_commit(unit).numerics)
    finish(made)
    shutil.rmtree(folder)
    shutil.move(export.parent / "bare", folder)


def test_an_export_without_durations_is_refused_unless_they_are_predicted(corpus, tmp_path):
    folder, tokens = corpus
    shutil.copytree(folder / "export", tmp_path / "export")
    without_durations(tmp_path / "export")
    given = {"export": str(tmp_path / "export")}
    with pytest.raises(SettingsError, match="does not say how long each id lasted") as told:
        synthesize(config_of(folder, tmp_path / "out", **given))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()
    assert synthesize(config_of(folder, tmp_path / "out", **given, durations="predicted")).rows == len(tokens)
    synthesize(config_of(folder, tmp_path / "whole", durations="predicted"))
    assert speech(tmp_path / "out") == speech(tmp_path / "whole")


def test_a_vocoder_without_a_predictor_is_refused_before_anything_starts(corpus, tmp_path):
    folder, _ = corpus
    write_small_vocoder(tmp_path / "vocoder")
    with pytest.raises(SettingsError, match="trained with --duration-predictor, and this one was not") as told:
        synthesize(config_of(folder, tmp_path / "out", vocoder=str(tmp_path / "vocoder"), durations="predicted"))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(SettingsError, match="durations must be given or predicted, got 'none'"):
        config_of(folder, tmp_path / "out", durations="none")
