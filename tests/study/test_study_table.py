"""A study is read from TOML, and what is wrong in it is one sentence that names the table."""

import pytest
from made_trials import PLAN, planned

from pipeline.errors import SettingsError
from pipeline.study.planning.cells import cells
from pipeline.study.planning.reading import read_study
from pipeline.study.stage import read_named

TEXT = PLAN.format(encoder="encoder-small")


def read(old="", new=""):
    assert old in TEXT
    return read_study(TEXT.replace(old, new, 1), "a study")


def test_a_cell_is_the_centre_with_one_level_in_its_place():
    laid = {cell.name: cell for cell in cells(read())}
    assert list(laid)[:3] == ["vocoder, centre", "vocoder, layers low", "asr, centre"]
    assert len(laid) == 5 + 4 + 1
    assert (laid["asr, layers low"].layers, laid["asr, centre"].layers) == ((1,), (1, 3))
    assert laid["asr, num_clusters 4"].tokens.num_clusters == 4
    assert laid["asr, num_clusters 4"].layers == (1, 3)


def test_codebooks_of_own_are_those_of_the_recordings_that_a_corpus_is_made_of():
    assert {cell.task.name: cell.tokens.codebooks_of for cell in cells(read())}["se"] == ("tones",)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seeds = [0, 1]", "seeds = [[0], [1]]", "seeds must be different whole numbers"),
        ("layers = [1, 3]\n\n[encoders.random]", "layers = 3\n\n[encoders.random]",
         "encoders.small: layers must be a list of different whole numbers, got 3"),
        ("levels.low = { layers = [1] }", "levels.low = { layers = 1 }",
         "factors.layers.levels.low: layers must be a list of different whole numbers, got 1"),
        ("levels.low = { layers = [1] }", "levels.low = [1]", "factors.layers.levels.low must be a table"),
        ('codebooks_of = ["own"]', "codebooks_of = 3", "centre: codebooks_of must be a list of different names, got 3"),
        ("embedding_dim = 16", "embedding_dim = 2026-01-01", "centre: a setting must be a text, a number"),
        ('tasks = ["asr"]', "tasks = [3]", "factors.num_clusters: tasks must be names, got 3"),
        ('corpus = "tones.jsonl"\nlayout = "listing"\n\n[corpora.test]',
         'concatenate = "more"\n[corpora.more]\nconcatenate = "tones"\n[corpora.test]',
         "corpora tones, more are made of each other"),
        ('[tasks.asr]\ncorpus = "tones"', '[tasks.asr]\ncorpus = "tones"\nmetric = "stoi"',
         "tasks.asr: metric must be one of wer, cer, got 'stoi'"),
        ('name = "tones"', "name = 3", "the study: name must be a text, got 3"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "seeds must be different whole numbers"),
        ("seeds = [0, 1]", "seeds = [true]", "seeds must be different whole numbers"),
        ("kmeans_frames", "kmean_frames", "the study has no setting kmean_frames"),
        ('mix = "tones"', 'mix = "music"', "corpora.noisy: there is no corpus 'music'; there are tones"),
        ('mix = "tones"', 'mix = "tones"\nconcatenate = "tones"', "corpora.noisy is joined of one corpus or mixed"),
        ('noises = "noise"', 'noises = "hum"', "corpora.noisy: there is no corpus 'hum'"),
        ('like = "small"', 'like = "large"', "encoders.random: there is no encoder 'large'"),
        ("layers = [1, 3]", "layers = []", "encoders.small has no layers"),
        ("num_clusters = 8\n", "", "centre has no num_clusters"),
        ("[tasks.er]", "[tasks.language]", "tasks.language: a task is one of asr, sid, er"),
        ('metric = "cer"', 'metric = "bleu"', "tasks.se: metric must be one of token_error_rate, wer, cer"),
        ('test = "noisy_test"\n', "", "tasks.se: cer is of what is heard: name a corpus to speak as test"),
        ('corpus = "noisy"\n', 'corpus = "tones"\n',
         "tasks.se needs corpora that are mixed, or name their clean ones; tones is neither"),
        ("levels.low = { layers = [1] }", "levels.low = { layers = [3, 1] }\nlevels.x = { layers = [1, 3] }",
         "factors.layers needs at least two levels, one of them the centre"),
        ("levels.low = { layers = [1] }", "levels.low = { layers = [2] }",
         "factors.layers.levels.low: encoder small gives layers 1 3, not 2"),
        ('tasks = ["asr"]', 'tasks = ["sid"]', "factors.num_clusters: there is no task sid"),
        ("levels.4 = { num_clusters = 4 }", 'levels.4 = { encoder = "none" }',
         "factors.num_clusters.levels.4: there is no encoder 'none'"),
        ("lstm_width = 16", "lstm_size = 16", "tasks.asr: has no setting lstm_size"),
        ("lstm_width = 16\nnum_steps = 2\n", "", "tasks.asr: 'num_steps' is not set"),
        ("lstm_width = 16", "output = 'x'", "tasks.asr: output is set by the study itself"),
        ("lstm_width = 16", "lstm_width = '16'", "tasks.asr: lstm_width must be a whole number, got '16'"),
        ("lstm_width = 16", "lstm_width = 16.5", "tasks.asr: lstm_width must be a whole number, got 16.5"),
        ("lstm_width = 16", "preset = 'sid_small'", "tasks.asr: preset sid_small is of another task"),
        ('judges = ["log_mel", "stft"]', 'judges = ["stoi"]',
         "tasks.vocoder: metric log_mel_distance is given by the judge log_mel; add it to judges"),
        ('judges = ["log_mel", "stft"]', 'judges = ["foo"]', "tasks.vocoder.judging: judges must be of log_mel, stft"),
        ("[corpora.noise]", "[corpora.unused]\nmix = 'tones'\n[corpora.noise]", "corpora.unused: 'noises' is not set"),
        ("num_utterances = 3", "num_utterances = '3'", "tasks.vocoder.judging: num_utterances must be a whole number"),
        ('like = "small"', 'like = "random2"\nlayers = [1, 3]\n[encoders.random2]\nlike = "small"',
         "encoders.random: random2 has random weights itself"),
        ("lstm_width = 16", "seed = 16", "tasks.asr: seed is set by the study itself"),
        ('layout = "folder"', 'layout = "folders"', "corpora.noise: layout must be one of folder, listing"),
        ("= [", "= [[", "is not TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_table(old, new, told):
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    with pytest.raises(SettingsError, match="(?s).*") as raised:
        planned(text)
    assert told in str(raised.value)


def test_tokens_that_no_vocoder_speaks_are_told_before_anything_is_made():
    with pytest.raises(SettingsError, match="add vocoder to the tasks of this factor"):
        planned(TEXT.replace('tasks = ["vocoder", "asr", "se", "tts"]', 'tasks = ["asr", "se"]', 1))


@pytest.mark.parametrize("name", ["small", "paper"])
def test_a_shipped_study_is_planned_whole(name):
    text, study = read_named(name)
    trials, parts = planned(text)
    assert {trial.cell.task.name for trial in trials} == {"asr", "sid", "er", "se", "tts", "vocoder"}
    assert len(trials) == len({trial.key for trial in trials}) == len(study.seeds) * len(cells(study))
    made = [part.uri for part in parts.all()]
    assert len(made) == len(set(made))


def test_a_study_that_is_not_there_is_told_with_those_that_ship():
    with pytest.raises(SettingsError, match="no study 'large': neither a file nor one of paper, small"):
        read_named("large")
