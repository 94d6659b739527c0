"""VAD on speech whose place is known: each utterance is found within 0.3 s, and nothing where nobody speaks."""

from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
from made_audio import decode, reason_of

from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.audio.speech import SpeechFinder
from pipeline.audio.vad import SpeechDetector, VadSettings
from pipeline.passed_over import PassedOver
from pipeline.schema import PART, Reason

pytestmark = pytest.mark.skipif(find_spec("silero_vad") is None, reason="the vad extra is not installed")

RATE = 16_000
GAP = 2.0


@pytest.fixture(scope="module")
def find():
    limits = DecodeLimits(max_seconds=1e6)
    with Decoder(sample_rate=RATE, limits=limits) as decoder:

        def rows(path, passed_over=None, **changes):
            settings = VadSettings(**changes)
            info = decoder.probe(str(path))
            row = {
                "utterance_id": "whole",
                "uri": str(path),
                "offset_samples": 0,
                "num_samples": info.num_samples,
                "sample_rate": info.sample_rate,
                "channel": None,
                "text": "of the whole",
                "speaker": "s",
                "clean_uri": None,
                **dict.fromkeys(PART),
            }
            finder = SpeechFinder(decoder=decoder, detector=SpeechDetector(), settings=settings)
            return finder.rows(row, PassedOver() if passed_over is None else passed_over)

        yield rows


def spoken(waveform, rate):
    """Cut off what is 18 dB below the loudest 25 ms at both ends: a reader's breath and room."""
    power = np.convolve(waveform.astype(np.float64) ** 2, np.ones(rate // 40), mode="same")
    loud = np.flatnonzero(power > power.max() * 1.6e-2)
    return waveform[loud[0] : loud[-1] + 1]


def joined(utterances, rate, noise=0.0):
    """Join utterances by pauses; give the waveform, and start and end of each in seconds."""
    gap = np.zeros(int(GAP * rate), np.float32)
    parts, places, at = [gap], [], len(gap)
    for utterance in utterances:
        places.append((at / rate, (at + len(utterance)) / rate))
        parts += [utterance, gap]
        at += len(utterance) + len(gap)
    waveform = np.concatenate(parts)
    return waveform + noise * np.random.default_rng(0).standard_normal(len(waveform)).astype(np.float32), places


@pytest.fixture(scope="module")
def real_speech(speech_root):
    files = sorted((speech_root / "LibriSpeech").rglob("*.flac"))[:200:25]
    return [spoken(soundfile.read(file, dtype="float32")[0], RATE) for file in files]


@pytest.fixture(scope="module")
def made_speech():
    pytest.importorskip("espeakng_loader")
    from pipeline.audio.synthetic import SAMPLE_RATE, SyntheticSpec, plan_utterance, render

    spec = SyntheticSpec(num_utterances=6, seed=1)
    samples = [render(plan_utterance(spec, index))[0] for index in range(6)]
    return [spoken((one / 32768).astype(np.float32), SAMPLE_RATE) for one in samples], SAMPLE_RATE


def check(found, places, tolerance=0.3):
    """Require that every segment lies in one utterance, and that those of an utterance reach its ends."""
    edges = [(row["offset_samples"] / row["sample_rate"], row["num_samples"] / row["sample_rate"]) for row in found]
    for start, end in places:
        own = [(first, first + length) for first, length in edges if start - 1 < first + length / 2 < end + 1]
        assert own
        assert abs(own[0][0] - start) < tolerance
        assert abs(own[-1][1] - end) < tolerance
        edges = edges[len(own) :]
    assert edges == []


@pytest.mark.parametrize("noise", [0.0, 0.003], ids=["silence", "noise"])
def test_real_utterances_are_found_and_nothing_between_them(find, real_speech, tmp_path, noise):
    waveform, places = joined(real_speech, RATE, noise)
    soundfile.write(tmp_path / "a.flac", waveform, RATE)
    check(find(tmp_path / "a.flac"), places)


def test_made_utterances_at_another_rate_in_stereo_are_found(find, made_speech, tmp_path):
    utterances, rate = made_speech
    waveform, places = joined(utterances, rate)
    soundfile.write(tmp_path / "a.wav", np.stack([waveform, 0.5 * waveform], axis=1), rate)
    passed_over = PassedOver()
    rows = find(tmp_path / "a.wav", passed_over)
    check(rows, places)
    # The text of the whole belongs to no stretch of it.
    assert passed_over.to_json() == {"recording_labels": {"count": 1, "example": "whole"}}
    assert {(row["sample_rate"], row["text"], row["speaker"]) for row in rows} == {(rate, None, "s")}
    assert len({row["utterance_id"] for row in rows}) == len(rows)


def test_segments_of_a_segment_lie_in_it_and_decode_to_that_slice_of_the_whole(find, made_speech, tmp_path):
    utterances, rate = made_speech
    waveform, _ = joined(utterances, rate)
    soundfile.write(tmp_path / "a.wav", waveform, rate)
    rows = find(tmp_path / "a.wav", max_segment_seconds=1.5)
    assert all(row["num_samples"] <= 1.5 * rate + 1 for row in rows)
    assert all(
        a["offset_samples"] + a["num_samples"] <= b["offset_samples"] for a, b in zip(rows, rows[1:], strict=False)
    )
    with Decoder(sample_rate=rate) as decoder:
        whole = decode(decoder, tmp_path / "a.wav")
        for row in rows:
            first, count = row["offset_samples"], row["num_samples"]
            part = decode(decoder, tmp_path / "a.wav", offset=first, count=count, rate=rate)
            assert np.array_equal(part, whole[first : first + count])


def test_a_recording_in_which_nobody_speaks_says_so(find, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "noise.wav", 0.05 * rng.standard_normal(5 * RATE), RATE)
    soundfile.write(tmp_path / "silence.wav", np.zeros(100), RATE)
    assert reason_of(find, tmp_path / "noise.wav") == Reason.NO_SPEECH
    assert reason_of(find, tmp_path / "silence.wav") == Reason.NO_SPEECH


def test_a_damaged_recording_is_rejected_for_its_damage(find, tmp_path):
    samples = np.zeros(15 * RATE, np.float32)
    samples[-5] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    assert reason_of(find, tmp_path / "nan.wav") == Reason.NOT_FINITE
