"""What TensorBoard lets one hear and see of a vocoder: fixed utterances, recorded and as sets of layers speak them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from pipeline.cards.plots import can_plot, new_figure
from pipeline.training.recipe import Audio, Figure, Tensors
from pipeline.vocoder.network import Vocoder
from pipeline.vocoder.spectra import LogMel
from pipeline.vocoder.training.source import FRAMES, SPEAKER, WAVEFORM

_UTTERANCES = 2
_WINDOW, _MELS = 1024, 80
ORIGINAL = "original"


def shown(vocoder: Vocoder, batch: Tensors, sets: Mapping[str, Sequence[bool]]) -> list[Audio | Figure]:
    """Give the first utterances of a micro-batch: each once as recorded, and once by each set of layers.

    Without matplotlib there are no figures.

    Args:
        vocoder: In ``eval()``.
        batch: As ``VocoderSource.load`` gives it.
        sets: Which of the layers are there, by name.
    """
    few = {name: tensor[:_UTTERANCES] for name, tensor in batch.items() if tensor.ndim}
    mask, speaker = few[f"{FRAMES}_mask"], few.get(SPEAKER)
    spoken = {ORIGINAL: few[WAVEFORM]}
    for name, present in sets.items():
        heard = torch.tensor(present, device=mask.device)
        spoken[name] = vocoder(few[FRAMES], mask, heard, speaker).float()
    lengths = (few[f"{FRAMES}_lengths"] * vocoder.hop_length).tolist()
    found: list[Audio | Figure] = []
    for row, length in enumerate(lengths):
        waveforms = {name: waveform[row, :length].cpu() for name, waveform in spoken.items()}
        found += [
            Audio(name=f"{row}/{name}", waveform=waveform.numpy(), sample_rate=vocoder.sample_rate)
            for name, waveform in waveforms.items()
        ]
        if can_plot():
            found.append(Figure(name=f"{row}/spectrograms", figure=_figure(waveforms, vocoder.sample_rate)))
    return found


def _figure(waveforms: Mapping[str, torch.Tensor], sample_rate: int) -> object:
    """Draw the log-mel spectrogram of each waveform (S,), one below the other."""
    measure = LogMel(sample_rate, _WINDOW, _MELS)
    drawn = {name: measure(waveform[None])[0].numpy() for name, waveform in waveforms.items()}
    low, high = (float(edge) for edge in np.quantile(drawn[ORIGINAL], (0.02, 1.0)))
    figure = new_figure((8.0, 1.3 * len(drawn)))
    seconds = len(waveforms[ORIGINAL]) / sample_rate
    axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, values) in zip(axes, drawn.items(), strict=True):
        extent = (0.0, seconds, 0, _MELS)
        axis.imshow(values, aspect="auto", origin="lower", extent=extent, vmin=low, vmax=max(high, low + 1e-3))
        axis.set_ylabel(name, fontsize=7)
        axis.set_yticks([])
    axes[-1].set_xlabel("seconds")
    return figure
