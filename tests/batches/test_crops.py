"""Crops lie on frames: what the encoder gives for one is what it gives for that stretch, and so are its tokens."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_tokens import CLOCK

from pipeline.batches.augment import change_speed
from pipeline.batches.crops import crop, longest_crop, token_index

SPEEDS = st.integers(50, 150).map(lambda hundredths: hundredths / 100)


@pytest.fixture(scope="module")
def stem():
    """The convolutions of a small random HuBERT whose norms see one frame alone."""
    from transformers import HubertConfig, HubertModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = HubertConfig(
            conv_dim=[16] * 7, hidden_size=16, num_hidden_layers=1, intermediate_size=16, num_attention_heads=2,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, feat_extract_norm="layer",
        )  # fmt: skip
        network = HubertModel(config).eval()
    with torch.no_grad():
        yield lambda waveform: network.feature_extractor(torch.from_numpy(waveform)[None])[0].T


@settings(max_examples=25, deadline=None)
@given(data=st.data(), total=st.integers(2, 60), seed=st.integers(0, 10))
def test_a_crop_gives_exactly_its_frames_of_the_whole_utterance(stem, data, total, seed):
    num_frames = data.draw(st.integers(1, total))
    rng = np.random.default_rng(seed)
    # A few samples more than the frames hear, as real utterances have.
    waveform = rng.standard_normal(CLOCK.num_samples(total) + seed * 30).astype(np.float32)
    whole_TD = stem(waveform)
    assert len(whole_TD) == total
    found = crop(CLOCK, total, num_frames, 1.0, rng)
    heard_TD = stem(waveform[found.first_sample : found.first_sample + found.num_samples])
    index = token_index(CLOCK, found, total)
    assert index.tolist() == list(range(found.first_frame, found.first_frame + num_frames))
    torch.testing.assert_close(heard_TD, whole_TD[index], rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(total=st.integers(1, 40), num_frames=st.integers(1, 40), seed=st.integers(0, 50))
def test_every_place_of_a_crop_is_inside_and_both_ends_are_reached(total, num_frames, seed):
    num_frames = min(num_frames, total)
    rng = np.random.default_rng(seed)
    firsts = {crop(CLOCK, total, num_frames, 1.0, rng).first_frame for _ in range(60 * (total - num_frames + 1))}
    assert firsts == set(range(total - num_frames + 1))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), total=st.integers(2, 3000), speed=SPEEDS, seed=st.integers(0, 100))
@example(data=None, total=7, speed=1.16, seed=0)
def test_a_faster_crop_lies_in_its_utterance_and_has_the_token_of_the_nearest_frame(data, total, speed, seed):
    longest = longest_crop(CLOCK, total, speed)
    if longest == 0:
        return
    num_frames = longest if data is None else data.draw(st.integers(1, longest))
    found = crop(CLOCK, total, num_frames, speed, np.random.default_rng(seed))
    assert found.first_sample == found.first_frame * CLOCK.hop_length
    assert found.first_sample >= 0
    assert found.first_sample + found.num_samples <= CLOCK.num_samples(total)
    # What it hears is enough for its frames.
    assert found.num_samples / speed >= CLOCK.num_samples(num_frames) - 1e-6
    # Centres of its frames, in samples of the utterance, against those of all frames of the utterance.
    centres = found.first_sample + speed * (np.arange(num_frames) * CLOCK.hop_length + CLOCK.receptive_field / 2)
    all_centres = np.arange(total) * CLOCK.hop_length + CLOCK.receptive_field / 2
    index = token_index(CLOCK, found, total)
    away = np.abs(centres[:, None] - all_centres[None])
    assert away[np.arange(num_frames), index] == pytest.approx(away.min(axis=1), abs=1e-6)


def test_the_longest_crop_at_any_speed_of_any_utterance_lies_in_it():
    rng = np.random.default_rng(0)
    for hundredths in range(50, 151):
        for total in range(2, 400):
            speed = 1 + round((hundredths - 100) / 100, 2)
            if longest := longest_crop(CLOCK, total, speed):
                found = crop(CLOCK, total, longest, speed, rng)
                assert found.first_sample + found.num_samples <= CLOCK.num_samples(total), (speed, total)


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.13, 1.5])
@pytest.mark.parametrize("frame", [0, 7, 19])
def test_a_sound_in_a_faster_crop_is_where_its_token_says(speed, frame):
    """A click at the centre of the frame whose token a frame of the crop has is heard in the middle of that frame."""
    total, num_frames = 60, 20
    found = crop(CLOCK, total, num_frames, speed, np.random.default_rng(3))
    source = int(token_index(CLOCK, found, total)[frame])
    waveform = np.zeros(CLOCK.num_samples(total), np.float32)
    waveform[source * CLOCK.hop_length + CLOCK.receptive_field // 2] = 1
    heard = waveform[found.first_sample : found.first_sample + found.num_samples]
    click = int(np.argmax(np.abs(change_speed(heard, speed, CLOCK.num_samples(num_frames)))))
    # Half a frame of the utterance, as it is heard.
    assert abs(click - (frame * CLOCK.hop_length + CLOCK.receptive_field / 2)) <= CLOCK.hop_length / 2 / speed + 1
