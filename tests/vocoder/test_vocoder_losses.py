"""Losses agree with their formulas, and hear nothing of padding."""

import numpy as np
import pytest
import torch

from pipeline.errors import SettingsError
from pipeline.vocoder.discriminators.ensemble import Discriminators
from pipeline.vocoder.discriminators.judging import Judgement, Map
from pipeline.vocoder.losses import adversarial_loss, discriminator_loss, feature_loss
from pipeline.vocoder.settings import VocoderLossSettings
from pipeline.vocoder.spectra import LogMel, MelDistance, StftDistance, spectra

RATE = 16000
LENGTHS = torch.tensor([3200, 1933])


def waves(seed=0, rows=2, samples=3200):
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def numpy_spectra(waveform, window, hop):
    """Give (F, N // 2 + 1) of (S,) by the definition, window by window."""
    count = -(-len(waveform) // hop)
    side = (window - hop) // 2
    padded = np.concatenate([np.zeros(side), waveform, np.zeros(window)])
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return np.stack([np.fft.rfft(padded[i * hop : i * hop + window] * shape) for i in range(count)])


def slaney_filters(window, num_mels):
    """Give (M, N // 2 + 1): triangles on Slaney's scale, linear below 1 kHz and logarithmic above, of area 1 in Hz."""
    step = np.log(6.4) / 27

    def to_mel(hertz):
        return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1e-9) / 1000) / step)

    mels = np.linspace(0, float(to_mel(np.array(RATE / 2))), num_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    bins = np.arange(window // 2 + 1) * RATE / window
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return (
        np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None) * 2 / (high - low)
    )


def judgement(scores, *layers, valid=None):
    made = [Map(values=torch.tensor(each), valid=valid) for each in (*layers, scores)]
    return Judgement(maps=tuple(made))


@pytest.mark.parametrize(("samples", "window", "hop"), [(1000, 64, 16), (1001, 64, 16), (40, 512, 128)])
def test_spectra_are_those_of_the_definition(samples, window, hop):
    given = waves(samples=samples)
    found = spectra(given, window, hop).numpy()
    wanted = np.stack([numpy_spectra(row.numpy(), window, hop).T for row in given])
    assert found.shape == wanted.shape == (2, window // 2 + 1, -(-samples // hop))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_log_mel_and_its_distance_are_those_of_the_formula():
    one, other = waves(1), waves(2)
    log_mels = []
    for given in (one, other):
        magnitudes = np.abs(np.stack([numpy_spectra(row.numpy(), 512, 128).T for row in given]))
        log_mels.append(np.log(np.maximum(slaney_filters(512, 40) @ magnitudes, 1e-5)))
    np.testing.assert_allclose(LogMel(RATE, 512, 40)(one).numpy(), log_mels[0], atol=1e-4)
    found = MelDistance(RATE, (512,), (40,))(one, other)
    assert float(found) == pytest.approx(np.abs(log_mels[0] - log_mels[1]).mean(), rel=1e-4)
    both = MelDistance(RATE, (512, 1024), (40, 80))(one, other)
    second = MelDistance(RATE, (1024,), (80,))(one, other)
    assert float(both) == pytest.approx((float(found) + float(second)) / 2, rel=1e-5)


def test_the_stft_distance_is_that_of_the_formula():
    one, other = waves(1), waves(2)
    wanted = 0.0
    for window in (256, 512):
        ours, theirs = (
            np.abs(np.stack([numpy_spectra(row.numpy(), window, window // 4) for row in each])) for each in (one, other)
        )
        convergence = np.linalg.norm(ours - theirs, axis=(1, 2)) / np.linalg.norm(theirs, axis=(1, 2))
        logs = np.abs(np.log(np.maximum(ours, 1e-5)) - np.log(np.maximum(theirs, 1e-5)))
        wanted += (convergence.mean() + logs.mean()) / 2
    assert float(StftDistance((256, 512))(one, other)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("distance", [MelDistance(RATE, (512, 1024), (40, 80)), StftDistance((512, 1024))])
def test_a_distance_is_0_of_itself_and_hears_nothing_of_padding(distance):
    one, other = waves(1), waves(2)
    assert float(distance(one, one, LENGTHS)) == 0.0
    found = distance(one, other, LENGTHS)
    one[1, 1933:], other[1, 1933:] = 9.0, -9.0
    assert torch.equal(distance(one, other, LENGTHS), found)
    short = distance(one[1:], other[1:], LENGTHS[1:])
    alone = distance(one[1:, :1933], other[1:, :1933])
    torch.testing.assert_close(short, alone)
    assert not torch.allclose(distance(one[1:], other[1:]), alone)


@pytest.mark.parametrize("distance", [MelDistance(RATE, (512,), (40,)), StftDistance((512,))])
def test_silence_has_a_gradient_that_is_a_number(distance):
    spoken = torch.zeros(1, 2000, requires_grad=True)
    distance(spoken, waves(rows=1, samples=2000)).backward()
    assert bool(spoken.grad.isfinite().all())


def test_adversarial_losses_are_those_of_the_formulas():
    real = [judgement([[[0.5, 2.0]]]), judgement([[[1.0]]])]
    fake = [judgement([[[-0.5, 0.5]]]), judgement([[[-3.0]]])]
    squares = discriminator_loss(real, fake, "least_squares")
    assert float(squares) == pytest.approx((0.25 + 1) / 2 + (0.25 + 0.25) / 2 + 0 + 9)
    assert float(discriminator_loss(real, fake, "hinge")) == pytest.approx((0.5 + 0) / 2 + (0.5 + 1.5) / 2 + 0 + 0)
    assert float(adversarial_loss(fake, "least_squares")) == pytest.approx((2.25 + 0.25) / 2 + 16)
    assert float(adversarial_loss(fake, "hinge")) == pytest.approx((1.5 + 0.5) / 2 + 4)


def test_the_feature_loss_is_the_mean_over_maps_of_what_is_real():
    valid = torch.tensor([[[True, True]], [[True, False]]])
    real = judgement([[[1.0, 1.0]], [[1.0, 7.0]]], [[[0.0, 2.0]], [[4.0, 50.0]]], valid=valid)
    fake = judgement([[[0.0, 1.0]], [[3.0, 0.0]]], [[[1.0, 2.0]], [[6.0, -50.0]]], valid=valid)
    assert float(feature_loss([real], [fake])) == pytest.approx((3 / 3 + 3 / 3) / 2)
    assert float(adversarial_loss([fake], "least_squares")) == pytest.approx((1 + 0 + 4) / 3)


def small(*names):
    settings = VocoderLossSettings(
        discriminators=names, discriminator_channels=128, resolution_channels=4, resolutions=(256, 512)
    )
    torch.manual_seed(0)
    return Discriminators(settings).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["period", "resolution", "scale"])
def test_a_discriminator_judges_an_utterance_in_a_batch_as_alone(name):
    judges, given = small(name), waves(3)
    given[1, 1933:] = 5.0
    batch = judges(given, LENGTHS)
    alone = judges(given[1:, :1933])
    assert len(batch) == {"period": 5, "resolution": 2, "scale": 3}[name]
    for judged, single in zip(batch, alone, strict=True):
        for found, wanted in zip(judged.maps, single.maps, strict=True):
            steps = wanted.values.shape[2]
            assert int(found.valid[1].sum()) == steps
            torch.testing.assert_close(found.values[1:, :, :steps], wanted.values, atol=1e-5, rtol=1e-4)
            assert bool((found.values[1:, :, steps:] == 0).all())
            torch.testing.assert_close(
                found.mean(found.values),
                torch.cat([found.values[0].flatten(), wanted.values.flatten()]).mean(),
                atol=1e-6,
                rtol=1e-4,
            )


@pytest.mark.parametrize("kind", ["least_squares", "hinge"])
def test_every_loss_reaches_all_that_learns_from_it(kind):
    judges, spoken = small("period", "resolution", "scale").train(), waves(4).requires_grad_()
    discriminator_loss(judges(waves(5), LENGTHS), judges(spoken.detach(), LENGTHS), kind).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in judges.parameters())
    assert all(bool(weight.grad.any()) for name, weight in judges.named_parameters() if name.endswith("original1"))
    judges.zero_grad()
    real, fake = judges(waves(5), LENGTHS), judges(spoken, LENGTHS)
    for loss in (adversarial_loss(fake, kind), feature_loss(real, fake)):
        (reached,) = torch.autograd.grad(loss, spoken, retain_graph=True)
        assert bool(reached[0].any())
        assert bool(reached[1, :1933].any())
        assert not bool(reached[1, 1933:].any())


def test_the_papers_discriminators_have_its_sizes():
    settings = VocoderLossSettings(discriminators=("period", "scale"), discriminator_channels=1024)
    judges = Discriminators(settings)
    sizes = [sum(weight.numel() for weight in member.parameters()) / 1e6 for member in judges.members]
    # HiFi-GAN's published ones: 41.1 M for five periods and 29.6 M for three scales.
    assert sum(sizes[:5]) == pytest.approx(41.1, abs=0.1)
    assert sum(sizes[5:]) == pytest.approx(29.6, abs=0.1)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"discriminators": ("period", "cqt")}, "discriminators are of period, resolution, scale, got cqt"),
        ({"discriminators": ()}, "each once; got none"),
        ({"discriminator_channels": 96}, "multiple of 128"),
        ({"mel_windows": (1024,)}, "must be as many"),
        ({"stft_windows": (100,)}, "multiples of 8"),
        ({"mel_weight": 0.0}, "nothing says what the speech should be"),
        ({"feature_weight": -1.0}, "must not be below 0"),
        ({"adversarial_loss": "wasserstein"}, "one of least_squares, hinge"),
    ],
)
def test_losses_that_cannot_work_are_refused(others, message):
    with pytest.raises(SettingsError, match=message):
        VocoderLossSettings(**others)
