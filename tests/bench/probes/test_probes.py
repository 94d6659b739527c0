import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import soundfile
from made_features import make_codebook, write_codebooks
from safetensors.numpy import load_file
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bench.measuring import ROOT, environment
from bench.probes.classifier import C, accuracy, bootstrap_weights, predict
from bench.probes.flags import parser
from bench.probes.measures import bag_of_tokens, information, pool_segments
from bench.probes.plots import draw
from bench.probes.report import PARTS, Figures, tables
from bench.probes.running import check_codebooks_are_used, run, systems
from bench.probes.systems import Encoded, count_tokens, draw_encoder, encode, fit_codebook, read_waveforms
from bench.probes.tasks import CORPUS_OF, Fold, Task, heard_by_training, make_tasks, parse_sexes, recordings_of
from bench.small_corpus import Recording, chosen
from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.features.encoders.info import describe

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def spoken(takes=8):
    names = [(digit, speaker, take) for digit in range(10) for speaker in SPEAKERS for take in range(takes)]
    return [
        Recording(path=Path(f"{digit}_{speaker}_{take}.wav"), corpus="fsdd", speaker=speaker, digit=digit, take=take)
        for digit, speaker, take in names
    ]


def read_aloud(readers=60):
    names = [str(100 + number) for number in range(readers)]
    return [Recording(path=Path(f"{name}-1-0.flac"), corpus="librispeech", speaker=name) for name in names]


def acted():
    names = [f"{actor}a01{emotion}a" for actor in ("03", "08", "10") for emotion in "WFTN"]
    return [Recording(path=Path(f"{name}.wav"), corpus="emodb", speaker=name[:2]) for name in names]


def all_tasks():
    recordings = spoken() + acted() + read_aloud()
    sexes = {each.speaker: "FM"[int(each.speaker) % 2] for each in recordings if each.corpus == "librispeech"}
    return recordings, {task.name: task for task in make_tasks(list(CORPUS_OF), recordings, sexes)}


def made_task(labels, train):
    train, places = np.asarray(train), np.arange(len(labels))
    fold = Fold(train=places[train], test=places[~train])
    return Task(name="digit", classes=("0", "1"), labels=np.asarray(labels), folds=(fold,))


def encoded_of(frames, lengths):
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return Encoded(encoder_sha256="e" * 64, pooled={}, frames={3: frames.astype(np.float16)}, ends=ends)


def test_no_recording_is_on_both_sides_and_each_side_has_its_own_corpus():
    recordings, tasks = all_tasks()
    for name, task in tasks.items():
        for fold in task.folds:
            assert not set(fold.train) & set(fold.test)
            assert {recordings[at].corpus for at in [*fold.train, *fold.test]} == {CORPUS_OF[name]}
            assert (task.labels[[*fold.train, *fold.test]] >= 0).all()


def test_takes_below_five_of_all_speakers_are_told_and_all_others_learned_from():
    recordings, tasks = all_tasks()
    for name in ("digit", "speaker"):
        (fold,) = tasks[name].folds
        assert {recordings[at].take for at in fold.train} == {5, 6, 7}
        assert {recordings[at].take for at in fold.test} == {0, 1, 2, 3, 4}
        assert len(fold.test) == 5 * 10 * 6
    assert tasks["digit"].classes == tuple("0123456789")
    assert tasks["speaker"].classes == SPEAKERS


def test_the_kept_out_speaker_alone_is_told_after_learning_from_all_takes_of_the_others():
    recordings, tasks = all_tasks()
    (fold,) = tasks["digit_new_speaker"].folds
    assert {recordings[at].speaker for at in fold.test} == {"theo"}
    assert (len(fold.train), len(fold.test)) == (5 * 80, 80)


def test_every_actor_is_told_once_by_folds_that_never_heard_him():
    recordings, tasks = all_tasks()
    folds = tasks["emotion"].folds
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(480, 492))
    for fold in folds:
        assert not {recordings[at].speaker for at in fold.train} & {recordings[at].speaker for at in fold.test}
    assert tasks["emotion"].classes == ("F", "N", "T", "W")


def test_sex_is_told_of_exactly_the_readers_that_training_never_heard():
    recordings, tasks = all_tasks()
    (fold,) = tasks["sex"].folds
    heard = heard_by_training(recordings)
    assert heard[fold.train].all()
    assert not heard[fold.test].any()
    assert len(fold.test) == 10


def test_training_heard_neither_early_takes_nor_the_kept_out_speaker_nor_emotions():
    recordings, _ = all_tasks()
    heard = [each for each, was in zip(recordings, heard_by_training(recordings), strict=True) if was]
    assert {each.corpus for each in heard} == {"fsdd", "librispeech"}
    assert {each.take for each in heard} == {5, 6, 7, None}
    assert "theo" not in {each.speaker for each in heard}


def test_a_task_without_anybody_to_learn_from_is_refused():
    with pytest.raises(SettingsError, match="digit: 0 recordings to train on and 120"):
        make_tasks(["digit"], spoken(takes=2), {})
    with pytest.raises(SettingsError, match="sex of readers"):
        make_tasks(["sex"], read_aloud(), {"100": "F"})
    with pytest.raises(SettingsError, match="no recordings of emodb"):
        make_tasks(["emotion"], spoken(), {})


def test_sexes_are_read_past_comments():
    assert parse_sexes(";ID |SEX| SUBSET\n14   | F | train | 25.03 | A | B\n26 | M |t|1|C\n") == {"14": "F", "26": "M"}


def test_seed_0_takes_every_utterance_once_and_others_draw_as_many_of_each_class():
    labels = np.array([0] * 50 + [1] * 7 + [2])
    assert bootstrap_weights(labels, 0).tolist() == [1] * 58
    first, again, other, fold = (bootstrap_weights(labels, *seed) for seed in ((1, 0), (1, 0), (2, 0), (1, 1)))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()
    assert first.tolist() != fold.tolist()
    assert np.bincount(labels, weights=first).tolist() == [50, 7, 1]
    assert (first == 0).sum() > 10


def test_drawing_an_utterance_twice_is_learning_from_it_twice():
    rng = np.random.default_rng(3)
    train, test = rng.normal(size=(60, 5)).astype(np.float32), rng.normal(size=(400, 5)).astype(np.float32)
    labels = (train[:, 0] + rng.normal(size=60) > 0).astype(int)
    weights = rng.integers(4, size=60)
    rows = np.repeat(np.arange(60), weights)
    scaler = StandardScaler().fit(train[rows])
    fitted = LogisticRegression(C=C).fit(scaler.transform(train[rows]), labels[rows])
    theirs = fitted.predict(scaler.transform(test))
    assert (predict(train, labels, weights, test) == theirs).mean() > 0.99
    assert (predict(train, labels, np.ones(60, int), test) != theirs).any()


def test_what_numbers_say_is_told_and_what_they_do_not_say_is_guessed():
    rng = np.random.default_rng(4)
    labels = rng.integers(2, size=600)
    numbers = rng.normal(size=(600, 8)).astype(np.float32)
    task = made_task(labels, np.arange(600) < 300)
    assert abs(accuracy(numbers, task, 0) - 0.5) < 0.1
    numbers[:, 3] += 8 * labels
    assert accuracy(numbers, task, 0) > 0.99
    assert accuracy(numbers, task, 1) > 0.99


def test_accuracy_counts_utterances_of_all_folds_alike():
    labels = np.array([0, 1] * 50 + [0] * 4)
    numbers = np.eye(2, dtype=np.float32)[labels]
    numbers[100:] = [0, 1]
    halves = [Fold(train=np.arange(100), test=np.arange(100)), Fold(train=np.arange(100), test=np.arange(100, 104))]
    task = Task(name="emotion", classes=("F", "W"), labels=labels, folds=tuple(halves))
    assert accuracy(numbers, task, 0) == pytest.approx(100 / 104)
    assert task.majority == pytest.approx(54 / 104)


def test_random_encoders_have_one_shape_and_weights_by_their_seed(small_encoder, tmp_path):
    source = small_encoder()
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        draw_encoder(source, seed, tmp_path / name)
    first, again, other = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "again", "other"))
    weight = "encoder.layers.0.attention.q_proj.weight"
    assert (first[weight] == again[weight]).all()
    assert (first[weight] != other[weight]).mean() > 0.99
    theirs, ours = describe(source), describe(str(tmp_path / "first"))
    assert theirs.weights_sha256 != ours.weights_sha256
    assert replace(theirs, name="", weights_sha256="") == replace(ours, name="", weights_sha256="")


def test_frames_are_kept_utterance_by_utterance_and_pooled_features_are_theirs(small_encoder, tmp_path):
    rng = np.random.default_rng(5)
    waveforms = [rng.normal(size=size).astype(np.float32) for size in (9000, 4000, 20_000, 400)]
    encoder = small_encoder()
    kept = encode(encoder, [0, 2], waveforms, tmp_path)
    assert np.diff(kept.ends).tolist() == [27, 12, 62, 1]
    for row in range(4):
        frames = kept.frames[2][kept.ends[row] : kept.ends[row + 1]]
        assert kept.pooled[2][row] == pytest.approx(pool_segments(frames))
    assert not np.array_equal(kept.pooled[0], kept.pooled[2])
    without = encode(encoder, [0, 2], waveforms)
    assert without.frames == {}
    assert (without.pooled[2] == kept.pooled[2]).all()


def test_a_recording_without_a_frame_is_named(small_encoder):
    with pytest.raises(SettingsError, match="recording 1 has no features"):
        encode(small_encoder(), [0], [np.ones(4000, np.float32), np.ones(100, np.float32)])


def test_codebooks_are_fitted_on_what_training_heard_alone_and_as_well_as_elsewhere():
    rng = np.random.default_rng(6)
    # One cloud without gaps: first centroids are far from the best ones.
    heard_rows = rng.normal(size=(1800, 4))
    far = rng.normal(loc=500, size=(600, 4))
    encoded = encoded_of(np.concatenate([heard_rows, far]), [30] * 80)
    heard = np.arange(80) < 60
    book = fit_codebook(encoded, 3, heard, 8, seed=0)
    assert np.abs(book.centroids).max() < 10
    rows = encoded.frames[3][:1800].astype(np.float32)
    ours = np.square(rows[:, None] - book.centroids).sum(axis=2).min(axis=1).sum()
    assert ours < 1.02 * KMeans(8, n_init=10, random_state=0).fit(rows).inertia_
    assert fit_codebook(encoded, 3, heard, 8, seed=0).sha256 == book.sha256
    assert fit_codebook(encoded, 3, np.ones(80, bool), 8, seed=0).centroids.max() > 400


def test_tokens_are_counted_with_the_codebook_of_the_encoder_and_with_no_other():
    encoded = encoded_of(np.array([[0, 0], [9, 9], [1, 0], [8, 9]]), [1, 3])
    centroids = np.array([[0, 0], [9, 9]])
    assert count_tokens(encoded, make_codebook(3, centroids)).tolist() == [[1, 0], [1, 2]]
    with pytest.raises(CodebookMismatchError):
        count_tokens(encoded, make_codebook(3, centroids, encoder="f" * 64))


def test_systems_have_the_layers_asked_for_and_names_of_their_own(small_encoder):
    shallow, deep = small_encoder(num_layers=2), small_encoder(num_layers=5)
    found = systems(deep, {"old": shallow}, [0, 2, 4])
    assert [(each.name, each.layers, each.redrawn) for each in found] == [
        ("mfcc", (0,), False),
        ("random", (0, 2, 4), True),
        ("encoder", (0, 2, 4), False),
        ("old", (0, 2), False),
    ]
    assert systems(shallow, {}, None)[2].layers == (0, 1, 2)
    assert [each.name for each in systems(deep, {}, None, with_random=False)] == ["mfcc", "encoder"]
    with pytest.raises(SettingsError, match="names \\['random'\\] are taken"):
        systems(deep, {"random": shallow}, None)
    with pytest.raises(SettingsError, match="none of \\[4\\]"):
        systems(deep, {"old": shallow}, [4])
    with pytest.raises(SettingsError, match="none of those compared"):
        check_codebooks_are_used({3: make_codebook(3, np.eye(2))}, found)


def test_figures_have_mean_deviation_and_the_one_of_seed_0_and_a_single_seed_has_no_deviation():
    figures = Figures()
    for value in (0.5, 0.7, 0.9):
        figures.add("features", "mfcc", 0, "digit", value)
    figures.add("tokens", "mfcc", 0, "digit", 0.25)
    (row,) = figures.rows("features")
    assert (row["seed_0"], row["by_seed"]) == (0.5, [0.5, 0.7, 0.9])
    assert (row["mean"], row["std"]) == pytest.approx((0.7, 0.2))
    assert figures.rows("tokens")[0]["std"] is None
    facts = {"settings": {"seeds": 3, "num_clusters": 9}, "tasks": [{"task": "digit", "majority": 0.1}]}
    shown = list(tables({**facts, **{part: figures.rows(part) for part in PARTS}}))
    assert [lines[-1] for _, _, lines in shown] == [["mfcc", "0", "70.0 +- 20.0 (50.0)"], ["mfcc", "0", "25.0"]]


def write_corpora(folder):
    """Write noise as all three corpora: speakers differ in loudness, digits in the rate of a tone."""
    rng = np.random.default_rng(7)
    for name in ("fsdd/recordings", "emodb/wav", "LibriSpeech/train/1"):
        (folder / name).mkdir(parents=True)

    def write(name, tone, rate=16_000):
        tones = np.sin(2 * np.pi * tone * np.arange(rate // 4) / rate)
        soundfile.write(folder / name, 0.3 * tones + 0.01 * rng.normal(size=rate // 4), rate)

    for digit in range(2):
        for place, speaker in enumerate(SPEAKERS):
            for take in range(3, 7):
                write(f"fsdd/recordings/{digit}_{speaker}_{take}.wav", 300 + 900 * digit + 20 * place, rate=8000)
    for each in acted():
        write(f"emodb/wav/{each.path.name}", 300 + 40 * ord(each.path.stem[5]) % 1000)
    for each in read_aloud(18):
        write(f"LibriSpeech/train/1/{each.path.name}", 300 + 900 * (int(each.speaker) % 2))
    lines = [f"{each.speaker} | {'FM'[int(each.speaker) % 2]} | train | 1.0 | N" for each in read_aloud(18)]
    (folder / "LibriSpeech" / "SPEAKERS.TXT").write_text("\n".join([";ID |SEX| SUBSET", *lines]))


def test_one_command_measures_prints_and_draws_every_system(small_encoder, tmp_path):
    write_corpora(tmp_path)
    encoder = small_encoder(num_layers=2)
    book = make_codebook(1, np.random.default_rng(8).normal(size=(5, 48)), encoder=describe(encoder).weights_sha256)
    write_codebooks(tmp_path / "books", [book])
    command = [sys.executable, "-m", "bench.probes", "--encoder", encoder, "--compare", f"same={encoder}"]
    command += ["--layers", "0", "1", "--seeds", "2", "--data", tmp_path, "--codebooks", tmp_path / "books"]
    command += ["--fit-on", "fsdd"]
    command += ["--json", tmp_path / "found.json", "--plot", tmp_path / "plot.png"]
    run = subprocess.run(list(map(str, command)), env=environment(1), cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert found["machine"]["torch"]
    assert (found["settings"]["num_clusters"], found["settings"]["layers_of_codebooks"]) == (5, [1])
    figures = {(row["system"], row["layer"], row["measure"]): row for row in found["features"]}
    layers = [("mfcc", 0), *((name, layer) for name in ("random", "encoder", "same") for layer in (0, 1))]
    assert figures.keys() == {(*layer, task) for layer in layers for task in CORPUS_OF}
    assert figures.keys() == {(row["system"], row["layer"], row["measure"]) for row in found["tokens"]}
    # Tones are easy to tell for MFCC, and the same encoder twice is the same line twice.
    assert figures["mfcc", 0, "digit"]["by_seed"] == [1, 1]
    assert [row for row in found["tokens"] if row["system"] == "same"] == [
        {**row, "system": "same"} for row in found["tokens"] if row["system"] == "encoder"
    ]
    # The codebook that is given is the same for both seeds, and says what it says of digits to both.
    bits = {(row["system"], row["layer"], row["measure"]): row["by_seed"] for row in found["information"]}
    assert bits["encoder", 1, "digit_plain"][0] == bits["encoder", 1, "digit_plain"][1]
    assert bits["mfcc", 0, "digit_corrected"][0] > bits["mfcc", 0, "digit_shuffled_corrected"][0] + 0.3
    used = {(row["system"], row["layer"], row["measure"]): row["by_seed"] for row in found["perplexity"]}
    assert used.keys() == {(*layer, task) for layer in layers for task in ("digit", "digit_new_speaker", "speaker")}
    # Digits of FSDD have all clusters of a codebook that was fitted on them, and share those of the one that is given.
    assert 3.5 < used["mfcc", 0, "digit"][0] <= 5
    assert used["encoder", 1, "digit"][0] == used["encoder", 1, "digit"][1] < 3.5
    for title in ("Accuracy of features", "Accuracy of tokens, K = 5", "Perplexity of the tokens", "I(token; label)"):
        assert title in run.stderr
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    without = {**found, "tokens": [], "information": []}
    assert len(draw(without)) < len((tmp_path / "plot.png").read_bytes())


def test_corpora_that_nothing_asks_of_need_not_be_there(small_encoder, tmp_path):
    write_corpora(tmp_path)
    rmtree(tmp_path / "emodb")
    rmtree(tmp_path / "LibriSpeech")
    flags = ["--encoder", small_encoder(num_layers=1), "--no-random", "--seeds", "1", "--data", str(tmp_path)]
    flags += ["--tasks", "digit", "--num-clusters", "5"]
    found = run(parser().parse_args([*flags, "--fit-on", "fsdd"]))
    assert found["settings"]["recordings"] == 2 * 4 * len(SPEAKERS)
    assert {row["measure"] for row in found["tokens"]} == {"digit"}
    with pytest.raises(SettingsError, match="no recordings of librispeech"):
        run(parser().parse_args(flags))


def test_a_folder_without_corpora_is_refused_in_one_sentence(small_encoder, tmp_path):
    command = [sys.executable, "-m", "bench.probes", "--encoder", small_encoder(), "--data", str(tmp_path)]
    run = subprocess.run(command, env=environment(1), cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "no recordings of fsdd" in run.stderr


def test_what_counts_as_heard_is_what_the_listing_of_training_has(speech_root):
    recordings = recordings_of({"fsdd", "librispeech", "emodb"}, speech_root)
    listed = {each.path for each in chosen(kept_out=False, data=speech_root)}
    assert len(listed) > 2000
    assert {each.path for each, was in zip(recordings, heard_by_training(recordings), strict=True) if was} == listed


def test_mfcc_of_real_speech_tell_digits_and_speakers(speech_root, tmp_path):
    recordings = [each for each in recordings_of({"fsdd"}, speech_root) if each.take < 10]
    assert len(recordings) == 600
    encoded = encode("mfcc", [0], read_waveforms(recordings), tmp_path)
    digit, new_speaker, speaker = make_tasks(["digit", "digit_new_speaker", "speaker"], recordings, {})
    pooled = encoded.pooled[0]
    assert accuracy(pooled, digit, 0) > 0.8
    assert accuracy(pooled, new_speaker, 0) > 0.6
    assert accuracy(pooled, speaker, 0) > 0.85
    counts = count_tokens(encoded, fit_codebook(encoded, 0, heard_by_training(recordings), 50, seed=0))
    assert accuracy(bag_of_tokens(counts), digit, 0) > 0.5
    for task in (digit, speaker):
        test = task.folds[0].test
        found = information(counts[test], task.labels[test])
        assert found["corrected"] > found["shuffled_corrected"] + 0.3
        assert found["corrected"] < found["plain"]
