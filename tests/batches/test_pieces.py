"""Utterances with their tokens and audio: what belongs together comes together, and what does not is refused."""

import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from made_tokens import CLOCK, NUM_CLUSTERS, Made, speak, write_corpus_of_tones, write_manifest, write_tokens

from pipeline.batches.pieces import PieceSettings
from pipeline.batches.utterances import Utterances
from pipeline.batches.waveforms import Waveforms
from pipeline.errors import AudioDecodeError, DatasetError
from pipeline.features.encoders.encoder import SslEncoder

RATES = (16_000, 22_050, 8_000)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Nine utterances, one of them of 132 s; two token columns."""
    folder = tmp_path_factory.mktemp("corpus")
    seconds = [0.8, 1.3, 132.0, 0.5, 2.1, 1.7, 0.9, 1.1, 61.0]
    return folder, write_corpus_of_tones(folder, seconds, columns=("layer_00", "layer_04_q1"), rates=RATES)


def opened(folder, columns=("layer_00",)):
    return Utterances(
        PieceSettings(manifest=str(folder / "manifest"), clock=CLOCK, tokens=str(folder / "tokens"), columns=columns)
    )


def waveforms(folder, *, normalize=False, cache_bytes=0):
    return Waveforms(CLOCK, (str(folder / "audio"),), normalize=normalize, cache_bytes=cache_bytes)


@pytest.fixture
def restless():
    """Let threads take turns after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def heard_tones(waveform, num_frames):
    """Find the tone of each frame by its spectrum; -1 where two tones meet inside it."""
    frames_TS = np.stack([waveform[t * CLOCK.hop_length :][: CLOCK.receptive_field] for t in range(num_frames)])
    spectrum = np.abs(np.fft.rfft(frames_TS * np.hanning(CLOCK.receptive_field), axis=1))
    peak = spectrum.argmax(axis=1) * CLOCK.sample_rate / CLOCK.receptive_field
    tone = np.rint((peak - 250) / 400).astype(int)
    clear = spectrum.max(axis=1) > 0.6 * np.sqrt((spectrum**2).sum(axis=1))
    return np.where(clear & (np.abs(peak - 250 - 400 * tone) < 80), tone, -1)


def test_every_utterance_comes_once_with_its_tokens_long_ones_in_pieces(corpus):
    folder, made = corpus
    utterances = opened(folder, ("layer_04_q1", "layer_00"))
    assert utterances.seconds == pytest.approx(sum(len(u.waveform) / u.rate for u in made))
    pieces = list(utterances.pieces(utterances.units))
    assert len({piece.key for piece in pieces}) == len(pieces) == 12
    assert [piece.utterance_id for piece in pieces if not piece.whole] == ["u002"] * 3 + ["u008"] * 2
    for utterance in made:
        own = [piece for piece in pieces if piece.utterance_id == utterance.utterance_id]
        assert [piece.first_frame for piece in own] == np.cumsum([0, *(p.num_frames for p in own)])[:-1].tolist()
        tokens = np.concatenate([piece.tokens for piece in own])
        assert tokens.dtype == np.uint16
        assert np.array_equal(tokens[:, 1], utterance.tokens)
        assert np.array_equal(tokens[:, 0], (utterance.tokens + 1) % NUM_CLUSTERS)


@pytest.mark.parametrize("rate", RATES)
def test_the_audio_of_pieces_lies_under_their_tokens(tmp_path, rate):
    """Each frame holds the tone of its token, at the end of the last piece too, at any rate of the recording."""
    write_corpus_of_tones(tmp_path, [127.31, 1.9], rates=(rate,))
    found = opened(tmp_path)
    listen = waveforms(tmp_path)
    try:
        for piece in found.pieces(found.units):
            waveform = listen(piece)
            assert len(waveform) >= CLOCK.num_samples(piece.num_frames)
            tone = heard_tones(waveform, piece.num_frames)
            clear = tone >= 0
            assert clear.mean() > 0.6
            # Where tones meet near a centre, either may be the louder; an error of one frame gives a tenth.
            assert np.mean(tone[clear] == piece.tokens[clear, 0]) > 0.985
            assert np.mean(tone[clear][1:] == piece.tokens[clear, 0][:-1]) < 0.97
    finally:
        listen.close()


def test_a_whole_utterance_is_the_recording_and_normalisation_is_over_it(corpus):
    folder, made = corpus
    found = opened(folder)
    piece = next(found.pieces(["shard-00000"]))
    plain, normal = waveforms(folder), waveforms(folder, normalize=True)
    try:
        np.testing.assert_allclose(plain(piece), made[0].waveform, atol=2e-4)
        scaled = normal(piece)
        assert scaled.dtype == np.float32
        assert float(scaled.mean()) == pytest.approx(0, abs=1e-5)
        assert float(scaled.std()) == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(np.corrcoef(scaled, plain(piece))[0, 1], 1, atol=1e-6)
    finally:
        plain.close()
        normal.close()


def test_training_hears_the_samples_that_an_encoder_hears_to_the_last_bit(corpus, small_encoder):
    """Also of a recording whose samples are kept as int16, and of one at another rate."""
    folder, _ = corpus
    encoder = SslEncoder.from_pretrained(small_encoder(), layers=[1], normalize_waveform=True)
    plain, normal = waveforms(folder), waveforms(folder, normalize=True)
    try:
        for piece in opened(folder).pieces(["shard-00000", "shard-00001"]):
            heard = encoder.prepare([plain(piece)]).waveform_BS[0].numpy()
            assert np.array_equal(normal(piece), heard), piece.key
    finally:
        plain.close()
        normal.close()


@pytest.mark.parametrize("cache_bytes", [0, 40_000, 1 << 26])
def test_what_is_kept_is_what_was_decoded_whatever_the_budget(corpus, cache_bytes):
    folder, _ = corpus
    found = opened(folder)
    pieces = [piece for piece in found.pieces(found.units) if piece.whole]
    listen = waveforms(folder, cache_bytes=cache_bytes)
    try:
        first = [listen(piece).copy() for piece in pieces]
        for _ in range(2):
            again = [listen(piece) for piece in pieces]
            assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    finally:
        listen.close()


def test_a_recording_that_is_kept_is_not_decoded_again(tmp_path):
    (made,) = write_corpus_of_tones(tmp_path, [1.0])
    found = opened(tmp_path)
    (piece,) = found.pieces(found.units)
    keeping, forgetting = waveforms(tmp_path, cache_bytes=1 << 20), waveforms(tmp_path, cache_bytes=1000)
    try:
        first = keeping(piece).copy()
        forgetting(piece)
        soundfile.write(made.path, np.zeros(100), 16_000)
        assert np.array_equal(keeping(piece), first)
        with pytest.raises(AudioDecodeError):
            forgetting(piece)
    finally:
        keeping.close()
        forgetting.close()


@pytest.mark.parametrize("length", [400, 30_000])
def test_a_recording_changed_since_it_was_tokenised_is_refused_by_name(tmp_path, length):
    """One that has become shorter than the manifest says; longer ones still hold what the manifest names."""
    write_corpus_of_tones(tmp_path, [1.0, 2.0])
    found = opened(tmp_path)
    piece = list(found.pieces(found.units))[1]
    soundfile.write(tmp_path / "audio" / "u001.wav", np.zeros(length), 16_000)
    listen = waveforms(tmp_path)
    with pytest.raises(AudioDecodeError, match=r"bad_segment.*u001\.wav"):
        listen(piece)
    listen.close()


@pytest.mark.parametrize("num_frames", [48, 50])
def test_tokens_of_another_number_of_frames_than_the_recording_are_refused_by_name(tmp_path, num_frames):
    (made,) = speak(tmp_path / "audio", [1.0])
    write_manifest(tmp_path / "manifest", [made])
    write_tokens(tmp_path / "tokens", [replace(made, tokens=np.zeros(num_frames, np.uint16))])
    found = opened(tmp_path)
    (piece,) = found.pieces(found.units)
    listen = waveforms(tmp_path)
    with pytest.raises(DatasetError, match=rf"u000 has {num_frames} tokens, and 49 frames in .*u000\.wav"):
        listen(piece)
    listen.close()


def test_tokens_of_an_utterance_that_the_manifest_has_not_are_refused_by_name(tmp_path):
    made = speak(tmp_path / "audio", [0.5, 0.5])
    write_manifest(tmp_path / "manifest", made[:1])
    write_tokens(tmp_path / "tokens", made)
    found = opened(tmp_path)
    with pytest.raises(DatasetError, match="tokens of u001"):
        list(found.pieces(found.units))


def test_an_utterance_without_tokens_is_left_out(tmp_path):
    made = speak(tmp_path / "audio", [0.5, 0.6, 0.7])
    write_manifest(tmp_path / "manifest", made)
    write_tokens(tmp_path / "tokens", [made[0], made[2]])
    found = opened(tmp_path)
    assert [piece.utterance_id for piece in found.pieces(found.units)] == ["u000", "u002"]


def test_shards_can_be_asked_for_by_two_threads_at_once(tmp_path, restless):
    """More shards than are kept open, so that one thread drops what the other is about to give."""
    (path,) = {made.path for made in speak(tmp_path / "audio", [0.1])}
    made = [Made(f"u{n:03d}", path, np.zeros(1600, np.float32), 16_000, np.zeros(4, np.uint16)) for n in range(200)]
    write_manifest(tmp_path / "manifest", made, per_shard=2)
    write_tokens(tmp_path / "tokens", made, per_shard=2)
    found = opened(tmp_path)
    failed = []

    def ask(units):
        try:
            for unit in units:
                assert len(list(found.pieces([unit]))) == 2
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(units,)) for units in (found.units * 3, found.units[::-1] * 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_audio_can_be_asked_for_by_two_threads_at_once(corpus, restless):
    folder, _ = corpus
    found = opened(folder)
    pieces = [piece for piece in found.pieces(found.units) if piece.whole]
    listen = waveforms(folder, cache_bytes=100_000)
    expected = [listen(piece).copy() for piece in pieces]
    wrong = []

    def ask(order):
        for place in order:
            if not np.array_equal(listen(pieces[place]), expected[place]):
                wrong.append(place)

    orders = [np.random.default_rng(seed).permutation(np.repeat(np.arange(7), 20)) for seed in range(2)]
    threads = [threading.Thread(target=ask, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listen.close()
    assert wrong == []
