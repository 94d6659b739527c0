"""Generators compute their steps in fast forms, which give what the plain forms do."""

import pytest
import torch

from pipeline.vocoder.generators.hifigan import Upsampling
from pipeline.vocoder.generators.istft import InverseStft, convolved


@pytest.mark.parametrize(
    ("rate", "kernel"), [(5, 11), (4, 8), (2, 4), (5, 5), (3, 8), (4, 4), (2, 7), (5, 16), (8, 16), (2, 3)]
)
def test_upsampling_and_its_gradients_are_those_of_a_transposed_convolution(rate, kernel):
    torch.manual_seed(0)
    upsampling = Upsampling(6, rate, kernel).double()
    values = torch.randn(2, 6, 1, 13, dtype=torch.float64, requires_grad=True)
    leaves = (values, upsampling.weight, upsampling.bias)
    found, plain = upsampling(values), torch.nn.ConvTranspose2d.forward(upsampling, values)
    assert found.shape == (2, 3, 1, 13 * rate)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-14)
    heard = torch.randn_like(found)
    gradients = [torch.autograd.grad((each * heard).sum(), leaves) for each in (found, plain)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n_fft", "hop"), [(80, 20), (1024, 320), (50, 20), (40, 20)])
def test_windows_are_added_where_they_overlap(n_fft, hop):
    torch.manual_seed(0)
    frames = 7
    inverse = InverseStft(n_fft, hop)
    spectra = torch.randn(2, frames, n_fft // 2 + 1, dtype=torch.complex64)
    waves = torch.fft.irfft(spectra, n=n_fft) * inverse.window
    added, overlap = torch.zeros(2, hop * (frames - 1) + n_fft), torch.zeros(hop * (frames - 1) + n_fft)
    for frame in range(frames):
        added[:, frame * hop : frame * hop + n_fft] += waves[:, frame]
        overlap[frame * hop : frame * hop + n_fft] += inverse.window.square()
    kept = slice(inverse.trim, inverse.trim + hop * frames)
    expected = added[:, kept] / torch.where(overlap[kept] > 1e-8, overlap[kept], 1.0)
    torch.testing.assert_close(inverse(spectra, None), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 8])
def test_frames_are_convolved_as_they_lie(groups):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(8, 8, 7, padding=3, groups=groups)
    values = torch.randn(2, 11, 8)
    found = convolved(conv, values)
    torch.testing.assert_close(found, conv(values.transpose(1, 2)).transpose(1, 2), rtol=1e-5, atol=1e-6)
    assert found.is_contiguous()
