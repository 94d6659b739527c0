"""Long recordings: overlapping windows on one frame clock, of which the centre is kept, in bounded memory.

    frames of the recording   |-------------------------------------------------------------|
    window 0                  |=============--|
    window 1                             |--=========--|
    window 2                                        |--=========--|         = kept, - margin

All windows have one length and start on a multiple of the hop, so every frame hears the samples that it hears in
the whole recording; what it misses is the context beyond the window. Two passes: first what an encoder averages over
the whole recording, mean and variance of its samples and of the channels of a group norm, then the windows. Spectra
that are normalised by bin (Wav2Vec2Bert) are so over each window. Memory: a window, a block, and what the caller keeps.

Source: keeping the centre of overlapping windows is common practice, as for Whisper; the frame clock is that of
the convolutions, T = floor((S - field) / hop) + 1.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.audio.clock import Clock
from pipeline.audio.decode import to_float32
from pipeline.audio.normalization import deviation, scaled
from pipeline.errors import SettingsError
from pipeline.features.encoders.info import EncoderInfo
from pipeline.features.encoders.stem import PatchMoments, PatchSums

Blocks = Callable[[], Iterable[np.ndarray]]
"""Gives a recording from its start, each time it is called: int16 or float32 (S,) blocks at the encoder's rate."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of a recording that is encoded by itself.

    Attributes:
        start_sample: Its first sample.
        num_samples: Its length.
        skip_frames: Frames at its start that an earlier window gives better.
        keep_frames: Frames after those that it gives.
        first_frame: Place of the first of them in the recording.
    """

    start_sample: int
    num_samples: int
    skip_frames: int
    keep_frames: int
    first_frame: int


@dataclass(frozen=True, kw_only=True)
class Windowing:
    """Lengths of windows, in frames of an encoder.

    Attributes:
        window_frames: Frames of a window.
        margin_frames: Frames at each end of a window that are left to its neighbours.
        clock: The encoder's frames.
    """

    window_frames: int
    margin_frames: int
    clock: Clock

    @classmethod
    def of(cls, info: EncoderInfo, *, window_seconds: float, margin_seconds: float) -> "Windowing":
        """Turn seconds into frames.

        Raises:
            SettingsError: Nothing of a window would be kept.
        """
        window, margin = round(window_seconds * info.frame_rate), round(margin_seconds * info.frame_rate)
        if margin < 0 or window <= 2 * margin:
            raise SettingsError(
                f"window_margin_seconds {margin_seconds:g} at both ends leaves nothing of window_seconds "
                f"{window_seconds:g}; it must be at least 0 and below half of it"
            )
        return cls(window_frames=window, margin_frames=margin, clock=info.clock)

    @property
    def num_samples(self) -> int:
        """Samples of a window."""
        return self.clock.num_samples(self.window_frames)

    def plan(self, num_samples: int) -> Iterator[Window]:
        """Lay windows over a recording: each frame is kept once, with its margin wherever the recording has one.

        Args:
            num_samples: Length of the recording, at least one frame.

        Yields:
            Windows in order, all of one length; a recording that is no longer than that is one window.
        """
        total = self.clock.num_frames(num_samples)
        if total <= self.window_frames:
            yield Window(start_sample=0, num_samples=num_samples, skip_frames=0, keep_frames=total, first_frame=0)
            return
        kept = 0
        while kept < total:
            start = max(0, min(kept - self.margin_frames, total - self.window_frames))
            last = start + self.window_frames >= total
            end = total if last else start + self.window_frames - self.margin_frames
            yield Window(
                start_sample=start * self.clock.hop_length,
                num_samples=self.num_samples,
                skip_frames=kept - start,
                keep_frames=end - kept,
                first_frame=kept,
            )
            kept = end


@dataclass(frozen=True, kw_only=True)
class WaveformMoments:
    """What the first pass finds.

    Attributes:
        num_samples: Samples of the recording.
        mean: Their mean.
        variance: Their variance.
        finite: Whether all of them are finite.
        patches: What the stem hears of them, where that was asked for.
    """

    num_samples: int
    mean: float
    variance: float
    finite: bool
    patches: PatchMoments | None = None

    def normalized(self, waveform: np.ndarray) -> np.ndarray:
        """Bring a stretch of the recording (S,) to zero mean and unit variance of the whole; float32."""
        return scaled(waveform, mean=self.mean, variance=self.variance)

    def heard(self, *, normalize: bool) -> PatchMoments | None:
        """Give what the stem hears of the recording, normalised or as it is."""
        if self.patches is None or not normalize:
            return self.patches
        return self.patches.moved(self.mean, 1 / deviation(self.variance))


def measure(blocks: Iterable[np.ndarray], *, stem_patch: tuple[int, int] | None = None) -> WaveformMoments:
    """Take mean and variance of a recording, block by block in float64.

    Args:
        blocks: The recording from its start.
        stem_patch: Kernel and stride of a convolution whose channels are to be known as well.

    Source:
        The pairwise update of T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample
        variance", The American Statistician 37 (1983).
    """
    count, mean, squares, finite = 0, 0.0, 0.0, True
    patches = PatchSums(*stem_patch) if stem_patch is not None else None
    for block in blocks:
        if not len(block):
            continue
        wide = to_float32(block).astype(np.float64)
        if not np.isfinite(wide).all():
            finite = False
            wide = np.zeros_like(wide)
        difference, joined = float(wide.mean()) - mean, count + len(wide)
        squares += float(wide.var()) * len(wide) + difference**2 * count * len(wide) / joined
        mean += difference * len(wide) / joined
        count = joined
        if patches is not None:
            patches.add(wide)
    return WaveformMoments(
        num_samples=count,
        mean=mean,
        variance=squares / max(1, count),
        finite=finite,
        patches=patches.moments() if patches is not None else None,
    )


def cut(blocks: Iterable[np.ndarray], windows: Iterable[Window]) -> Iterator[tuple[Window, np.ndarray]]:
    """Cut windows out of a recording as it streams by, and read it to its end, as its decoder wants.

    Args:
        blocks: The recording from its start.
        windows: In order of their starts, the last within a hop of the end.

    Yields:
        Each window with its waveform, float32 (S,).

    Raises:
        ValueError: The recording ends before a window does.
    """
    stream = iter(blocks)
    held = np.zeros(0, np.float32)
    held_from = 0
    for window in windows:
        end = window.start_sample + window.num_samples
        parts = [held]
        reached = held_from + len(held)
        while reached < end:
            block = next(stream, None)
            if block is None:
                raise ValueError(f"the recording ends at sample {reached}, a window at {end}")
            parts.append(to_float32(block))
            reached += len(block)
        held = np.concatenate(parts)[window.start_sample - held_from :]
        held_from = window.start_sample
        yield window, held[: window.num_samples]
    for _ in stream:
        pass
