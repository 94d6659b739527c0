"""Speakers as vectors: what a vector is of, what is learned with it, what the folder keeps, and what is refused."""

import itertools
import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from made_speakers import HERTZ, SHORT, SILENT, speaker_encoder, write_other_encoder, write_two_voices
from made_training import run, stopped
from made_vocoder import spec, vocoder
from made_vocoder_training import vocoder_config
from made_voices import voice

from pipeline.batches.sides import TRAIN, VALIDATION
from pipeline.errors import CorruptDatasetError, PlanMismatchError, SettingsError
from pipeline.metrics.speech.judge import Library
from pipeline.metrics.speech.speaker import SpeakerEncoder
from pipeline.store.storage import open_store
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.training.checkpoint import read_checkpoint
from pipeline.vocoder.saved import load_vocoder, read_spec, read_voices, write_vocoder
from pipeline.vocoder.settings import SpeakingSettings
from pipeline.vocoder.speaker_vectors import SpeakerVectors, check_encoder
from pipeline.vocoder.training.source import VocoderSource
from pipeline.vocoder.training.stage import prepare, train_vocoder
from pipeline.vocoder.training.voices import mean_voices
from pipeline.vocoder.voice import Said, Voice

HOP = 320
NO_TEST = {"test_fraction": 0.0}


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    speaker_encoder()
    folder = tmp_path_factory.mktemp("two_voices")
    return folder, write_two_voices(folder)


def config_of(folder, output, **changes):
    return vocoder_config(folder, output, **{"speaker_input": "vector", **changes})


def whole(waveform):
    """The samples of all frames, by the encoder's clock."""
    return waveform[: (1 + (len(waveform) - 400) // HOP) * HOP]


def test_a_vector_says_who_speaks_and_not_how_loud_and_silence_is_nobody():
    vectors = SpeakerVectors(speaker_encoder())
    ann, again, bob = (
        vectors(voice(2.0, hertz=HERTZ[who], seed=seed)) for who, seed in (("ann", 1), ("ann", 2), ("bob", 3))
    )
    assert ann.dtype == np.float32
    assert np.linalg.norm(ann) == pytest.approx(1, abs=1e-6)
    assert ann @ again > ann @ bob + 0.05
    assert vectors(0.1 * voice(2.0, hertz=HERTZ["ann"], seed=1)) @ ann > 0.999
    assert np.linalg.norm(vectors(voice(0.1))) == pytest.approx(1, abs=1e-6)
    for silent in (np.zeros(16_000, np.float32), np.zeros(0, np.float32), np.full(9_000, 5e-4, np.float32)):
        assert np.array_equal(vectors(silent), np.zeros(256, np.float32))


def test_making_the_encoder_leaves_the_random_state_of_a_training_as_it_is():
    speaker_encoder()
    before = torch.random.get_rng_state()
    SpeakerEncoder()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_each_utterance_comes_with_the_vector_of_all_of_it_whatever_is_cropped(speech, tmp_path):
    folder, waveforms = speech
    source = VocoderSource(prepare(config_of(folder, tmp_path / "out", **NO_TEST)).recipe.data)
    encode, seen = SpeakerEncoder(), set()
    training = [ticket for ticket, _ in itertools.islice(source.tickets(None), 12)]
    for step, ticket in enumerate([*training, *source.validation()[VALIDATION]]):
        given = source.load(ticket, step)["speaker"]
        assert given.dtype == torch.float32
        assert given.shape == (len(ticket.pieces), 256)
        for piece, vector in zip(ticket.pieces, given.numpy(), strict=True):
            silent = piece.utterance_id == SILENT
            wanted = np.zeros(256) if silent else encode(whole(waveforms[piece.utterance_id]))
            assert np.array_equal(vector, wanted.astype(np.float32)), piece.utterance_id
            seen.add(piece.utterance_id)
    source.close()
    assert seen == set(waveforms)
    assert {SILENT, SHORT} <= seen


@pytest.fixture(scope="module")
def trained(speech, tmp_path_factory):
    """A vocoder of both voices, of its last weights."""
    output = tmp_path_factory.mktemp("trained") / "out"
    changes = {"num_steps": 60, "validate_every": 60, "checkpoint_every": 60, "discriminators_from": 60, "lr": 1e-2}
    train_vocoder(config_of(speech[0], output, convnext_dim=32, convnext_hidden=64, **changes))
    return output


def test_the_loss_of_two_voices_falls_and_each_vector_gives_the_speech_of_its_voice(speech, trained):
    history = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line["generator_mel_loss"] for line in history if "generator_mel_loss" in line]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    network, named = load_vocoder(str(trained)), read_voices(str(trained))
    tokens = torch.full((2, 60, 3), 5)
    mask, both = torch.ones(2, 60, dtype=torch.bool), torch.from_numpy(np.stack([named[who] for who in HERTZ]))
    with torch.inference_mode():
        spoken = network(tokens, mask, None, both)
        alone = network(tokens[:1], mask[:1], None, 3 * both[:1])
    assert float((spoken[0] - spoken[1]).abs().max()) > 0.1 * float(spoken.abs().max())
    assert torch.allclose(alone[0], spoken[0], atol=1e-4)


def test_the_folder_keeps_the_mean_vector_of_each_training_speaker_and_names_its_encoder(speech, trained):
    folder, waveforms = speech
    assert verify_dataset(VerifyDatasetConfig(dataset=str(trained))).faults == []
    saved = read_spec(str(trained))
    assert saved.spec.speaker_encoder == speaker_encoder()
    assert saved.spec.speakers == ("ann", "bob")
    written = json.loads((trained / "config.json").read_text())
    assert written["speaker_encoder"] == asdict(speaker_encoder())
    sides = prepare(config_of(folder, folder / "no")).recipe.data.sides
    encode, found = SpeakerEncoder(), read_voices(str(trained))
    for turn, who in enumerate(HERTZ):
        names = [name for name in waveforms if int(name[1:]) % 2 == turn and sides.side(name, {}) == TRAIN]
        mean = np.mean([encode(whole(waveforms[name])) for name in names if name != SILENT], axis=0)
        assert np.allclose(found[who], mean / np.linalg.norm(mean), atol=1e-6)


def test_of_many_speakers_fewer_utterances_are_heard_and_the_first_in_order(speech, tmp_path):
    data = prepare(config_of(speech[0], tmp_path / "out", **NO_TEST)).recipe.data
    held = sorted(name for name in speech[1] if data.sides.side(name, {}) == TRAIN and int(name[1:]) % 2)
    encode = SpeakerEncoder()
    mean = np.mean([encode(whole(speech[1][name])) for name in held[:2]], axis=0)
    for limits in ({"per_speaker": 3, "most": 4}, {"per_speaker": 2, "most": 100}):
        assert np.allclose(mean_voices(data, **limits)["bob"], mean / np.linalg.norm(mean), atol=1e-6)
    assert set(mean_voices(data, most=1)) == {"ann"}


def test_a_run_stopped_and_resumed_is_the_one_that_was_not(speech, tmp_path, monkeypatch):
    prepared = prepare(config_of(speech[0], tmp_path / "out", num_steps=4, validate_every=2))
    progress = run(prepared.recipe, prepared.training, tmp_path / "run")
    parts = stopped(prepared.recipe, prepared.training, tmp_path / "parts", monkeypatch, 3)
    assert parts.history == progress.history
    one, other = (read_checkpoint(open_store(str(tmp_path / name)), 4).states for name in ("run", "parts"))
    for name, tensors in one.items():
        assert all(torch.equal(other[name][weight], tensor) for weight, tensor in tensors.items())


@pytest.mark.ray
@pytest.mark.nightly
def test_on_ray_two_workers_train_the_vocoder_of_this_process(speech, tmp_path):
    same = {"batches_per_step": 2, "num_steps": 3}
    here = train_vocoder(config_of(speech[0], tmp_path / "here", **same))
    ray = train_vocoder(config_of(speech[0], tmp_path / "ray", runner="ray", num_workers=2, **same))
    assert ray.metrics == pytest.approx(dict(here.metrics), rel=2e-3)
    one, other = (read_voices(str(tmp_path / name)) for name in ("here", "ray"))
    assert all(np.array_equal(other[name], vector) for name, vector in one.items())


def test_a_manifest_without_speakers_is_learned_from_and_nobody_is_known_by_name(tmp_path):
    speaker_encoder()
    write_two_voices(tmp_path, 10, named=False)
    train_vocoder(config_of(tmp_path, tmp_path / "out", num_steps=2, warmup_steps=0))
    assert not (tmp_path / "out" / "speakers.safetensors").exists()
    saved = read_spec(str(tmp_path / "out"))
    assert (saved.spec.speakers, saved.voices_sha256, read_voices(str(tmp_path / "out"))) == ((), None, {})
    assert saved.spec.speaker_encoder == speaker_encoder()


def test_another_encoder_is_another_plan_and_is_refused_by_name_where_vectors_are_made(
    speech, trained, tmp_path, monkeypatch
):
    ours = speaker_encoder()
    config = config_of(speech[0], tmp_path / "out", num_steps=2, warmup_steps=0)
    train_vocoder(config)
    source = prepare(config).recipe.data
    monkeypatch.syspath_prepend(str(write_other_encoder(tmp_path / "other")))
    theirs = speaker_encoder()
    assert theirs.weights_sha256 != ours.weights_sha256
    with pytest.raises(PlanMismatchError, match=r"\n  speaker_encoder: folder has "):
        prepare(config)
    for open_it in (
        lambda: VocoderSource(source),
        lambda: SpeakerVectors(read_spec(str(trained)).spec.speaker_encoder),
    ):
        with pytest.raises(SettingsError) as told:
            open_it()
        message = str(told.value)
        assert f"vectors of resemblyzer {ours.version} (weights {ours.weights_sha256[:12]})" in message
        assert f"resemblyzer 0.1.9 (weights {theirs.weights_sha256[:12]}) is installed" in message
        assert "\n" not in message


def test_without_the_encoder_training_is_refused_in_one_sentence_before_anything_starts(speech, tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    import transformers  # noqa: F401 - of Strata's own requirements; the path below has nothing

    monkeypatch.setattr(sys, "path", [str(tmp_path / "nothing")])
    with pytest.raises(SettingsError, match="speaker_input vector needs resemblyzer; install it with: pip") as told:
        prepare(config_of(speech[0], tmp_path / "out"))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_does_not_name_its_encoder_speaks_and_makes_no_vectors(tmp_path):
    made = spec(speaker_input="vector", speaker_dim=8)
    write_vocoder(str(tmp_path), made, vocoder(made).state_dict())
    assert "speaker_encoder" not in json.loads((tmp_path / "config.json").read_text())
    back = load_vocoder(str(tmp_path))
    assert back.spec == made
    with pytest.raises(SettingsError, match="does not say which speaker encoder"):
        check_encoder(back.spec.speaker_encoder)


def write_known(folder, names=("bob", "ann")):
    """Write a vocoder of vectors of width 8 that knows some by name; gives their vectors."""
    found = {name: np.eye(8, dtype=np.float32)[place] for place, name in enumerate(names)}
    made = replace(spec(speaker_input="vector", speaker_dim=8), speaker_encoder=Library(name="x", version="1"))
    write_vocoder(str(folder), made, vocoder(made).state_dict(), voices=found)
    return found


def test_mean_vectors_come_back_by_name_and_are_bound_to_their_vocoder(tmp_path):
    found = write_known(tmp_path)
    back = read_voices(str(tmp_path))
    assert list(back) == ["ann", "bob"]
    assert all(np.array_equal(back[name], vector) for name, vector in found.items())
    assert read_spec(str(tmp_path)).spec.speaker_encoder == Library(name="x", version="1")
    file = tmp_path / "speakers.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptDatasetError, match=r"speakers\.safetensors is not the file that config\.json names"):
        read_voices(str(tmp_path))
    file.unlink()
    with pytest.raises(CorruptDatasetError, match=r"speakers\.safetensors is not there"):
        read_voices(str(tmp_path))


def test_utterances_of_several_voices_in_a_batch_are_spoken_as_alone(tmp_path):
    found = write_known(tmp_path)
    speaking = Voice(str(tmp_path), "cpu", SpeakingSettings(batch_seconds=100.0, piece_seconds=100.0))
    rng = np.random.default_rng(0)
    said = [
        Said(tokens=rng.integers(4, size=(length, 3)), speaker=vector)
        for length, vector in ((30, found["ann"]), (27, found["bob"]), (31, np.zeros(8, np.float32)))
    ]
    assert len(speaking.batches([len(each.tokens) for each in said])) == 1
    columns = speaking.spec.columns
    together = dict(speaking.speak(said, columns))
    for place, each in enumerate(said):
        ((_, alone),) = speaking.speak([each], columns)
        assert np.allclose(together[place], alone, atol=1e-5 * np.abs(alone).max())


def test_only_vectors_have_an_encoder_and_one_voice_has_no_names():
    with pytest.raises(SettingsError, match="a speaker encoder is of speaker_input vector; got speaker_input none"):
        replace(spec(), speaker_encoder=Library(name="x", version="1"))
    with pytest.raises(SettingsError, match="got speaker_input none and 1 speakers"):
        replace(spec(), speakers=("ann",))
