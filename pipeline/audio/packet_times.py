"""Where a recording of MP4 begins and ends, and whether packets are missing, by the times of its packets.

FFmpeg takes the delay of the encoder away where the container says it: the edit list of MP4, the codec delay and the
padding of Matroska. Two things it leaves, and they are done here.

- The delay in an edit list is counted in units of the track's clock; FFmpeg takes it for samples. Opus has 48,000 in a
  second, whatever the clock: of a clock of 16,000 it takes 104 of 312 samples away.
- The padding behind the last sample of MP4, which the duration of the last packet or of the edit leaves out, or the
  count of samples in a tag of iTunes.
"""

import re
import struct
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.audio.containers.declared import BadRecording

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet

# More than the rounding to milliseconds and the unsteady clocks of telephones; less than a packet of WMA.
_JUMP_SECONDS = 0.1
_ITUNES = re.compile(r"\s*(?:[0-9A-Fa-f]{8}\s+){3}([0-9A-Fa-f]{16})\b")


class PacketTimes:
    """Follows the packets and frames of one decoding.

    Args:
        edited: Whether the container has edit lists and exact durations, as MP4.
        stream: The stream that is decoded.
        itunes: The tag iTunSMPB: hexadecimal numbers, the fourth is the count of samples.
    """

    def __init__(self, edited: bool, stream: "AudioStream", itunes: str) -> None:
        self._edited = edited
        self._unit = float(stream.time_base or 0)
        self._stop = stream.duration
        self._first: tuple[int, int] | None = None
        self._lead: int | None = None
        self._given = self._kept = 0
        self._count = int(found[1], 16) if (found := _ITUNES.match(itunes)) else 0
        self._drift: float | None = None
        self._last = False
        self._rest_seconds: float | None = None
        self._rest: int | None = None

    def packet(self, packet: "Packet[AudioStream]", *, last: bool) -> None:
        """Note the next packet that goes to the decoder.

        Args:
            packet: The packet.
            last: Whether no other follows.
        """
        if not self._edited or packet.pts is None:
            return
        if self._first is None:
            skipped = 0
            if packet.has_sidedata("skip_samples"):
                (skipped,) = struct.unpack_from("<I", bytes(packet.get_sidedata("skip_samples")))
            self._first = packet.pts, skipped
        if last:
            ends = [packet.pts + packet.duration if packet.duration else None, self._stop]
            behind = [end - packet.pts for end in ends if end is not None and end > packet.pts]
            self._rest_seconds = min(behind) * self._unit if behind else None
            self._last = True

    def cut(self, frame: "AudioFrame", samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take away what is no part of the recording.

        Args:
            frame: The frame.
            samples: (S, C) its samples.

        Raises:
            BadRecording: Time is missing before the frame.
        """
        self._check_jump(frame)
        self._given += frame.samples
        if self._lead is None:
            pts, skipped = self._first or (0, 0)
            self._lead = max(0, round(-pts * self._unit * frame.sample_rate) - skipped)
        if self._last and self._rest is None:
            self._rest = self._left(frame)
        if self._lead:
            taken = min(self._lead, len(samples))
            self._lead -= taken
            samples = samples[taken:]
        if self._rest is not None:
            samples = samples[: self._rest]
            self._rest -= len(samples)
        self._kept += len(samples)
        return samples

    def _left(self, frame: "AudioFrame") -> int | None:
        """Say how many samples there are from the last packet on; None: all."""
        rests = [] if self._rest_seconds is None else [round(self._rest_seconds * frame.sample_rate)]
        if 0 < self._count - self._kept <= frame.samples:
            rests.append(self._count - self._kept)
        return min(rests, default=None)

    def _check_jump(self, frame: "AudioFrame") -> None:
        if frame.pts is None:
            return
        drift = frame.pts * self._unit - self._given / frame.sample_rate
        jump = 0.0 if self._drift is None else drift - self._drift
        if abs(jump) > _JUMP_SECONDS:
            found = f"its clock jumps by {jump:.2f} s after {self._given / frame.sample_rate:.2f} s"
            raise BadRecording(
                "truncated", f"{found}: packets are missing, or it is joined; fill it (ffmpeg -af aresample=async=1)"
            )
        self._drift = drift
