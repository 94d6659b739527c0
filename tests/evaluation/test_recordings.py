"""Spectrograms of the utterances that a page shows: they lie on the frames, and what cannot be read says why."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_tokens import CLOCK, speak, write_manifest

from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.concatenation.stage import concatenate_corpus
from pipeline.audio.loading import Manifest, decoded_lengths
from pipeline.batches.pieces import Piece
from pipeline.evaluation.recordings import MOST_SECONDS, NUM_MEL_BINS, SPECTRA_PER_FRAME, hear, log_mel_of


@pytest.fixture
def manifest(tmp_path):
    """Three utterances of tones, one of them at another rate."""
    made = speak(tmp_path / "audio", [0.8, 1.2, 0.9], rates=(16_000, 22_050))
    labels = {one.utterance_id: {"speaker": "s0", "text": "a"} for one in made}
    write_manifest(tmp_path / "manifest", made, labels=labels)
    return Manifest(str(tmp_path / "manifest"))


def pieces_of(manifest):
    found = []
    for unit in manifest.units:
        rows = manifest.rows(unit)
        counts = CLOCK.frame_counts(decoded_lengths(rows, CLOCK.sample_rate))
        for row, count in zip(rows.to_pylist(), counts.tolist(), strict=True):
            found.append(
                Piece(
                    utterance_id=row["utterance_id"],
                    first_frame=0,
                    num_frames=count,
                    tokens=np.zeros((count, 0), np.uint16),
                    features=np.zeros((count, 0, 0), np.float16),
                    labels={},
                    place={name: row[name] for name in manifest.place_columns},
                    whole=True,
                )
            )
    return found


def test_two_spectra_begin_with_each_frame_and_every_recording_is_read_at_the_rate_of_the_encoder(manifest):
    pieces = pieces_of(manifest)
    heard = hear(pieces, CLOCK, manifest.roots)
    assert list(heard) == [piece.utterance_id for piece in pieces]
    for piece in pieces:
        found = heard[piece.utterance_id]
        assert found.reason is None
        assert found.seconds == pytest.approx(piece.place["num_samples"] / piece.place["sample_rate"], abs=1e-4)
        assert found.seconds_per_spectrum == CLOCK.hop_length / CLOCK.sample_rate / SPECTRA_PER_FRAME
        assert found.log_mel.shape[1] == NUM_MEL_BINS
        assert (
            SPECTRA_PER_FRAME * piece.num_frames - 1 <= len(found.log_mel) <= SPECTRA_PER_FRAME * piece.num_frames + 1
        )


def test_a_higher_tone_is_in_a_higher_band_and_begins_where_its_frame_begins():
    times_S = np.arange(32_000) / 16_000
    hertz_S = np.where(times_S < 1.2, 500, 3_000)
    waveform = (0.3 * np.sin(2 * np.pi * hertz_S * times_S)).astype(np.float32)
    loudest_N = log_mel_of(waveform, CLOCK).argmax(axis=1)
    changes = np.flatnonzero(np.diff(loudest_N)) + 1
    each = CLOCK.hop_length / SPECTRA_PER_FRAME / CLOCK.sample_rate
    assert loudest_N[0] < loudest_N[-1]
    # A spectrum hears 25 ms, so the change may show up to 25 ms early.
    assert all(1.2 - 0.025 <= change * each <= 1.2 + each for change in changes)
    assert len(changes) > 0


def test_a_recording_shorter_than_a_window_has_one_spectrum():
    assert log_mel_of(np.zeros(120, np.float32), CLOCK).shape == (1, NUM_MEL_BINS)


def test_a_joined_utterance_is_heard_as_its_pieces_and_the_silences_between(manifest, tmp_path):
    concatenate_corpus(
        ConcatenateCorpusConfig(
            manifest=str(tmp_path / "manifest"), output=str(tmp_path / "joined"), per_utterance=(3, 3)
        )
    )
    joined = Manifest(str(tmp_path / "joined"))
    (piece,) = pieces_of(joined)
    found = hear([piece], CLOCK, joined.roots)[piece.utterance_id]
    assert found.reason is None
    assert found.seconds == pytest.approx(piece.place["num_samples"] / piece.place["sample_rate"], abs=1e-3)
    loud = found.log_mel.max(axis=1)
    each, begin = found.seconds_per_spectrum, 0.0
    for part in piece.place["pieces"]:
        silence, spoken = (part[name] / part["sample_rate"] for name in ("silence_samples", "num_samples"))
        inside = slice(round((begin + silence + 0.05) / each), round((begin + silence + spoken - 0.05) / each))
        assert (loud[inside] > -3).all()
        if silence > 0.1:
            assert (loud[round((begin + 0.02) / each) : round((begin + silence - 0.04) / each)] < -10).all()
        begin += silence + spoken


def test_what_is_gone_damaged_or_another_recording_now_costs_its_spectrogram_alone_and_says_why(manifest):
    gone, damaged, fine = pieces_of(manifest)
    Path(gone.place["uri"]).unlink()
    Path(damaged.place["uri"]).write_bytes(b"no audio at all")
    heard = hear([gone, damaged, fine], CLOCK, manifest.roots)
    assert heard[fine.utterance_id].log_mel is not None
    assert heard[gone.utterance_id].reason.startswith("missing")
    assert gone.place["uri"] in heard[gone.utterance_id].reason
    assert damaged.place["uri"] in heard[damaged.utterance_id].reason
    assert all(heard[piece.utterance_id].seconds is None for piece in (gone, damaged))


def test_a_recording_of_another_length_than_its_frames_is_not_drawn_beside_them(manifest):
    piece = pieces_of(manifest)[0]
    found = hear([replace(piece, num_frames=piece.num_frames + 25)], CLOCK, manifest.roots)[piece.utterance_id]
    assert found.log_mel is None
    assert "has 0.80 s, its 64 frames are 1.28 s" in found.reason
    assert found.seconds == pytest.approx(0.8)


def test_a_folder_that_is_away_ends_nothing(manifest, tmp_path):
    (tmp_path / "audio").rename(tmp_path / "elsewhere")
    piece = pieces_of(manifest)[0]
    found = hear([piece], CLOCK, manifest.roots)[piece.utterance_id]
    assert found.log_mel is None
    assert str(tmp_path / "audio") in found.reason


def test_a_recording_too_long_to_be_looked_at_is_not_decoded(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(int(16_000 * (MOST_SECONDS + 1)), np.int16), 16_000)
    made = replace(
        speak(tmp_path / "audio", [0.5])[0], path=str(path), waveform=np.zeros(int(16_000 * (MOST_SECONDS + 1)))
    )
    write_manifest(tmp_path / "manifest", [made])
    manifest = Manifest(str(tmp_path / "manifest"))
    (piece,) = pieces_of(manifest)
    found = hear([piece], CLOCK, manifest.roots)[piece.utterance_id]
    assert found.reason.startswith("too_long")
