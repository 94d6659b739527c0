"""What counting gives is what a pencil gives."""

import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_tasks import SMALL as SMALL_TASK
from made_tasks import SMALL_TTS
from made_vocoder_training import SMALL as SMALL_VOCODER
from torch.utils.flop_counter import FlopCounterMode

from pipeline.errors import EncoderError, SettingsError
from pipeline.study.costing import counting
from pipeline.study.costing.counting import count_passes, weightless
from pipeline.study.costing.encoders import encoder_shape
from pipeline.study.costing.flops import step_flops
from pipeline.study.costing.networks import task_batch, task_model, vocoder_batch, vocoder_recipe
from pipeline.study.costing.shapes import TokenShape
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.vocoder.training.recipe import GENERATOR
from pipeline.vocoder.training.settings import TrainVocoderConfig

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = {"manifest": "nowhere", "tokens": "nowhere", "output": "nowhere"}
SHAPE = TokenShape(layers=(1, 3, 7), num_clusters=10, dim=16, vocabulary=30, utterance_seconds=2.0)
SMALL_HIFIGAN = {
    "arch": "hifigan",
    "upsample_channels": 32,
    "residual_kernels": (3,),
    "residual_dilations": (1, 3),
}
CLEAN = {"clean_tokens": "nowhere", "clean_manifest": "nowhere"}


def task(name, **changes):
    others = {"se": CLEAN | {"conformer_width": 16, "conformer_ffn": 40, "conformer_kernel": 5}, "tts": SMALL_TTS}
    return TrainTaskConfig.of(task=name, **{**NOWHERE, **SMALL_TASK, **others.get(name, {}), **changes})


def vocoder(**changes):
    return TrainVocoderConfig.of(**{**NOWHERE, **SMALL_VOCODER, **changes})


def linear(num_frames, dim, width):
    return 2 * num_frames * dim * width


def counted(module, *inputs):
    weightless(module)
    return count_passes(lambda: module(*inputs))


def table_scores(shape, width, num_frames):
    """A scorer of two layers sees each row of the table once, or each token where these are fewer."""
    rows = min(len(shape.layers) * shape.num_clusters, len(shape.layers) * num_frames)
    return linear(rows, width, width) + linear(rows, width, 1)


def test_a_linear_layer_costs_two_operations_a_weight_and_as_many_for_each_gradient():
    forward, both = counted(torch.nn.Linear(7, 5), torch.zeros(11, 7))
    assert forward == 2 * 11 * 7 * 5
    assert both == 2 * forward
    _, with_input = counted(torch.nn.Linear(7, 5), torch.zeros(11, 7, requires_grad=True))
    assert with_input == 3 * forward


def test_an_lstm_costs_8_h_times_d_and_h_a_frame_which_the_counter_of_torch_misses():
    batch, frames, dim, size = 3, 11, 6, 5
    lstm = torch.nn.LSTM(dim, size, batch_first=True)
    pair = torch.nn.ModuleList([lstm])
    with FlopCounterMode(display=False) as torch_alone:
        lstm(torch.zeros(batch, frames, dim))
    expected = batch * frames * 8 * size * (dim + size)
    weightless(pair)
    values = torch.zeros(batch, frames, dim, requires_grad=True)
    assert count_passes(lambda: pair[0](values)[0]) == (expected, 3 * expected)
    # oneDNN has one kernel for all of it; without oneDNN torch does it step by step.
    assert torch_alone.get_total_flops() in (0, expected)


def test_an_lstm_step_by_step_has_the_products_that_are_counted():
    batch, frames, dim, size = 3, 11, 6, 5
    with torch.device("meta"):
        lstm, values = torch.nn.LSTM(dim, size, batch_first=True), torch.zeros(batch, frames, dim)
    with FlopCounterMode(display=False) as counter:
        lstm(values)
    assert counter.get_total_flops() == batch * frames * 8 * size * (dim + size)


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (4, 1), (8, 2)])
def test_the_gradient_of_a_grouped_convolution_costs_as_much_as_the_convolution(groups, stride):
    conv = torch.nn.Conv1d(8, 16, 5, stride, padding=2, groups=groups)
    forward, both = counted(conv, torch.zeros(3, 8, 20, requires_grad=True))
    assert forward == 2 * 3 * (20 // stride) * 16 * (8 // groups) * 5
    assert both == 3 * forward


def test_the_gradient_of_a_transposed_convolution_costs_as_much_as_the_convolution():
    conv = torch.nn.ConvTranspose1d(8, 4, 6, 3, padding=1)
    forward, both = counted(conv, torch.zeros(2, 8, 20, requires_grad=True))
    assert forward == 2 * 2 * 20 * 8 * 4 * 6
    assert both == 3 * forward


def test_recognition_costs_its_scorer_its_lstms_and_its_output():
    cost, width, size = step_flops(task("asr"), SHAPE), 16, 16
    frames = 3 * 100
    lstm = 2 * frames * 8 * size * (width + size)
    expected = table_scores(SHAPE, width, frames) + lstm + linear(frames, 2 * size, SHAPE.vocabulary)
    assert cost.audio_seconds == 6.0
    assert cost.forward * cost.audio_seconds == pytest.approx(expected)
    # All but the gradient of what is no weight: everything learns.
    assert cost.training_factor == pytest.approx(3)


def ecapa(settings, utterances, frames, dim):
    wide, pooled, attention, out = (
        settings[name] for name in ("ecapa_channels", "ecapa_pooled", "ecapa_attention", "embedding_width")
    )
    every = utterances * frames
    block = 2 * linear(every, wide, wide) + 7 * linear(every, 3 * wide // 8, wide // 8)
    block += 2 * linear(utterances, wide, attention)
    pooling = linear(every, 3 * pooled, attention) + linear(every, attention, pooled)
    ends = linear(every, 5 * dim, wide) + linear(every, 3 * wide, pooled) + linear(utterances, 2 * pooled, out)
    return 3 * block + pooling + ends


@pytest.mark.parametrize(("name", "utterances", "seconds"), [("sid", 4, 1.5), ("er", 3, 2.0)])
def test_classes_cost_an_ecapa_tdnn_and_a_product_with_each(name, utterances, seconds):
    config = task(name, **({"crop_seconds": seconds} if name == "sid" else {}))
    cost, frames = step_flops(config, SHAPE), round(50 * seconds)
    expected = table_scores(SHAPE, 16, utterances * frames) + ecapa(SMALL_TASK, utterances, frames, 16)
    expected += linear(utterances, SMALL_TASK["embedding_width"], SHAPE.vocabulary)
    assert cost.audio_seconds == utterances * seconds
    assert cost.forward * cost.audio_seconds == pytest.approx(expected)
    assert cost.training_factor == pytest.approx(3)


@pytest.mark.parametrize("reach", [20, 100, 300])
def test_enhancement_costs_the_windows_of_its_attention_and_not_the_square_of_its_frames(reach):
    cost = step_flops(task("se", conformer_layers=2, attention_frames=reach), SHAPE)
    utterances, frames, width = 3, 100, 16
    every = utterances * frames
    window = min(reach, frames)
    heard = utterances * -(-frames // window) * window * 3 * window
    attention = 4 * linear(every, width, width) + 2 * 2 * heard * width
    convolution = 3 * linear(every, width, width) + 2 * every * width * 5
    block = 4 * linear(every, width, 40) + attention + convolution
    outputs = len(SHAPE.layers) * linear(every, width, SHAPE.num_clusters)
    expected = table_scores(SHAPE, 16, every) + linear(every, 16, width) + 2 * block + outputs
    assert cost.forward * cost.audio_seconds == pytest.approx(expected)
    assert cost.training_factor == pytest.approx(3)


def test_speech_of_a_text_costs_both_transformers():
    utterances, frames, symbols, width, inner = 3, 100, 30, 16, 24
    config = task("tts", fusion="concat")
    cost = step_flops(config, SHAPE)
    read, every = utterances * symbols, utterances * frames
    feed_forward = 2 * width * inner * 2
    reader = 4 * linear(read, width, width) + 4 * utterances * symbols**2 * width + read * feed_forward
    own = 4 * linear(every, width, width) + 4 * utterances * frames**2 * width
    text = 2 * linear(every, width, width) + 2 * linear(read, width, width) + 4 * every * symbols * width
    writer = own + text + every * feed_forward
    ends = linear(every, 3 * 16, 16) + linear(every - utterances, 16, width) + linear(every, width, 3 * 10 + 1)
    assert cost.forward * cost.audio_seconds == pytest.approx(1 * reader + 2 * writer + ends)
    assert cost.training_factor == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        SMALL_HIFIGAN | {"speaker_input": "table", "absent_layers": "learned"},
        {"speaker_input": "vector", "duration_predictor": True, "fusion": "concat"},
    ],
)
def test_a_vocoder_with_weights_costs_what_one_without_costs(changes):
    """The real network, on numbers, forward: it has neither LSTMs nor a fused attention."""
    shape = replace(SHAPE, speakers=3)
    config = vocoder(**changes, discriminators=("scale",), num_scales=1)
    cost, batch = step_flops(config, shape), vocoder_batch(config, shape)
    network = vocoder_recipe(config, shape).build()[GENERATOR]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(batch["frames"], batch["frames_mask"], batch["present"], batch.get("speaker"))
    assert cost.audio_seconds == 2.0
    assert cost.forward * cost.audio_seconds == pytest.approx(counter.get_total_flops())
    assert cost.saved_parameters == sum(each.numel() for each in network.parameters())


def test_training_a_vocoder_costs_three_passes_and_its_mel_spectra_until_its_discriminators_begin():
    small = {"discriminators": ("period",), "periods": (2,), "mel_windows": (64,), "mel_bins": (2,)}
    never, half, always = (step_flops(vocoder(discriminators_from=step, **small), SHAPE) for step in (6, 3, 0))
    # 33 bins and 2 mels of 500 spectra, for 4 recordings, for what is spoken and for its gradient.
    mel = 3 * 4 * linear(500, 33, 2)
    assert never.step == pytest.approx(3 * never.forward * 2.0 + mel)
    assert half.training == pytest.approx((never.training + always.training) / 2)
    assert always.training > 2 * never.training


def test_discriminators_hear_recordings_and_speech_in_both_phases():
    """Phase one: two forward and two backward passes for their weights; phase two: two forward, one to the speech."""
    config = vocoder(discriminators=("period",), periods=(2,), discriminators_from=0)
    cost, without = step_flops(config, SHAPE), step_flops(config.but(discriminators_from=6), SHAPE)
    member = vocoder_recipe(config, SHAPE).build()["discriminator"]
    waveform = torch.zeros(4, 8000, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        member(waveform, None)
    alone = counter.get_total_flops()
    # A convolution has two gradients, the first one of recordings and in phase one only that of its weights.
    first_layer = 2 * 4 * (8000 // 2 // 3 + 1) * 2 * (128 // 32) * 5
    phase_one = 2 * (3 * alone - first_layer) + cost.forward * cost.audio_seconds
    phase_two = 2 * alone + alone
    found = (cost.training - without.training) * cost.audio_seconds
    assert found == pytest.approx(phase_one + phase_two, rel=1e-3)


def test_more_in_a_step_costs_as_much_more_and_no_more_a_second():
    config = task("asr", fusion="concat")
    one, two = step_flops(config, SHAPE), step_flops(config.but(batch_seconds=12.0), SHAPE)
    gathered = step_flops(config.but(batches_per_step=3), SHAPE)
    assert two.step == pytest.approx(2 * one.step)
    assert (two.training, two.forward) == pytest.approx((one.training, one.forward))
    assert gathered.step == pytest.approx(3 * one.step)
    assert gathered.audio_seconds == 18.0


def test_what_is_frozen_has_no_gradient_to_pay_for():
    learned, frozen = (
        step_flops(task("asr", **given), SHAPE) for given in ({}, {"freeze_fuser": True, "fuser": "nowhere"})
    )
    scores = table_scores(SHAPE, 16, 300)
    assert learned.forward == frozen.forward
    lost = (learned.training - frozen.training) * learned.audio_seconds
    # The scorer's gradients, and that of what the first LSTMs hear.
    assert lost == pytest.approx(2 * scores + 2 * 300 * 8 * 16 * 16)
    assert learned.parameters - frozen.parameters == 3 * 10 * 16 + 16 * 16 + 16 + 16
    assert learned.saved_parameters == frozen.saved_parameters


def test_features_cost_a_score_for_each_frame_and_layer():
    config = task("asr", tokens=None, features="nowhere")
    rows = 300 * 3
    tokens = step_flops(task("asr"), SHAPE)
    found = step_flops(config, SHAPE)
    expected = linear(rows, 16, 16) + linear(rows, 16, 1) - table_scores(SHAPE, 16, 300)
    assert (found.forward - tokens.forward) * 6.0 == pytest.approx(expected)


def test_parameters_are_those_of_the_network():
    config = task("sid")
    expected = sum(weight.numel() for weight in task_model(config, SHAPE).parameters())
    assert step_flops(config, SHAPE).parameters == expected


def test_the_paper_vocoder_has_the_parameters_and_the_batch_of_its_preset():
    preset = tomllib.loads((ROOT / "jobs" / "presets" / "paper_vocoder.toml").read_text())
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in preset.items()}
    shape = TokenShape(layers=(1, 3, 7, 12, 18, 23), num_clusters=1000, dim=1024)
    config = TrainVocoderConfig.of(**NOWHERE, **tuples)
    vocoder = vocoder_recipe(config, shape).build()[GENERATOR]
    assert sum(weight.numel() for weight in vocoder.parameters()) == pytest.approx(22.7e6, rel=0.01)
    assert vocoder_batch(config, shape)["frames"].shape == (32, 28, 6)


def test_trials_of_other_seeds_and_places_are_counted_once(monkeypatch):
    counts = []
    monkeypatch.setattr(counting, "count_task", lambda config, shape: counts.append(config) or len(counts))
    step_flops_of = [
        step_flops(task("asr", dropout=0.123, **others), SHAPE)
        for others in (
            {},
            {"seed": 4, "output": "there"},
            {"embedding_init": "centroids", "codebooks": "there"},
            {"lstm_width": 24},
        )
    ]
    assert step_flops_of == [1, 1, 1, 2]


def test_no_dataset_is_opened_and_no_random_number_is_drawn():
    before = torch.random.get_rng_state()
    step_flops(task("er", ecapa_channels=24), SHAPE)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not Path("nowhere").exists()


def test_a_batch_is_as_full_as_the_settings_let_it_be():
    assert task_batch(task("sid"), SHAPE)["frames"].shape == (3, 100, 3)
    assert task_batch(task("sid", crop_seconds=0.5), SHAPE)["frames"].shape == (12, 25, 3)
    assert task_batch(task("asr", batch_seconds=1.0), SHAPE)["frames"].shape == (1, 100, 3)
    delayed = task_batch(task("tts", stream_pattern="delay"), SHAPE)
    assert delayed["frames"].shape == (3, 102, 3)


def test_a_task_with_nothing_to_say_is_refused():
    with pytest.raises(SettingsError, match="asr needs a vocabulary"):
        step_flops(task("asr"), TokenShape(layers=(1,), num_clusters=10, dim=16))
    with pytest.raises(SettingsError, match="needs layers"):
        TokenShape(layers=(), num_clusters=10, dim=16)
    with pytest.raises(SettingsError, match="num_clusters must be above 0"):
        TokenShape(layers=(1,), num_clusters=0, dim=16)


def test_published_encoders_cost_what_is_known_of_them():
    large = encoder_shape("facebook/hubert-large-ll60k", top_layer=24, seconds=15.0)
    base = encoder_shape("microsoft/wavlm-base-plus", top_layer=12, seconds=15.0)
    assert (large.dim, large.frames_per_second, base.dim) == (1024, 50.0, 768)
    # 24 blocks of 12 D^2 weights, 50 frames, and a stem of about 2 GFLOP with attention on top.
    assert large.gflop_per_second == pytest.approx(2 * 24 * 12 * 1024**2 * 50 / 1e9, rel=0.35)
    assert large.gflop_per_second == pytest.approx(39.7, abs=0.3)
    assert base.gflop_per_second == pytest.approx(15.3, abs=0.2)


def test_an_encoder_that_is_there_is_read_and_one_that_is_not_is_named():
    small = encoder_shape("encoder-small", top_layer=6)
    assert (small.dim, small.frames_per_second) == (192, 50.0)
    assert small.gflop_per_second > encoder_shape("encoder-small", top_layer=2).gflop_per_second
    with pytest.raises(EncoderError, match="nowhere"):
        encoder_shape("./nowhere", top_layer=1)


def test_importing_the_arithmetic_of_cost_imports_no_torch():
    names = ("assumptions", "costing", "encoders", "flops", "shapes")
    code = "; ".join(f"import pipeline.study.costing.{name}" for name in names)
    told = "import sys; print([name for name in ('torch', 'ray', 'transformers') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}; {told}"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
