"""Opens a recording for the decode child: its container, what that declares, and libsndfile on the corrected bytes.

What libsndfile cannot read is left to ``media.py``. Imports no torch, ray or pyarrow. Cost: see ``containers``; what
was found of the last recording is kept, because segments of one recording follow each other.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import soundfile

from pipeline.audio.containers.check import READ, Found, check, find_container
from pipeline.audio.containers.declared import BadRecording, Declared, joined
from pipeline.audio.media import FORMATS, MediaSound
from pipeline.audio.views import Fetch, Overlaid, View

_FORMATS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3"}
# What libsndfile gives for a FLAC whose encoder wrote to a pipe.
_NO_LENGTH = 2**63 - 1
# Two MPEG frames: readers of MP3 differ on whether encoder delay and padding are part of the recording.
_MP3_SLACK = 2 * 1152
# Two of the longest Vorbis blocks.
_VORBIS_LEAD = 2 * 8192
# A frame of Layer III may use bits of 255 bytes before it (511 of MPEG 1), and its filters hear two frames before it.
# At the lowest bit rates that is 87 frames of 576 samples; 64 of 1,152 are 1.3 ms of decoding.
_MPEG_LEAD = 64 * 1152
# Where libsndfile's seek lands on the sample with the state that reading gives.
_SEEKABLE = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "OPUS"}
_SEEKABLE |= {
    "IMA_ADPCM",
    "MS_ADPCM",
    "ALAC_16",
    "ALAC_20",
    "ALAC_24",
    "ALAC_32",
    "VORBIS",
    "MPEG_LAYER_I",
    "MPEG_LAYER_II",
    "MPEG_LAYER_III",
}
# What follows the end of audio may be read ahead by this much.
_READ_AHEAD = 1 << 17
_COMPRESSED = ("flac", "ogg", "mp3")


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read straight on."""

    def seekable(self) -> bool:
        """Keep ``read`` from seeking after each block: that fails at the end of a FLAC without a length."""
        return False


AnySound = Sound | MediaSound


@dataclass(frozen=True, kw_only=True)
class Recording:
    """An open recording whose header was found possible.

    Attributes:
        sound: The open file.
        container: As ``find_container`` names it.
        num_samples: As the container declares, None when it does not.
        fewest: Samples that there must be at least where it does not declare them.
        lead: Samples that libsndfile gives before the first of the recording.
        early: Samples to begin early by after a seek.
        seek_end: The last sample to which a seek is exact.
        slack: Samples that may be missing at the end without being called truncated.
        trailing_bytes: Bytes behind the audio that are passed over.
        undeclared: Whether more audio was found than the header says.
        others: Kinds of the streams beside the one that is read.
        late: Whether the audio begins later than the recording's clock.
        check_end: To be called when the last sample was read.
    """

    sound: AnySound
    container: str
    num_samples: int | None
    fewest: int
    lead: int
    early: int
    seek_end: int
    slack: int
    trailing_bytes: int
    undeclared: bool
    others: tuple[str, ...] = ()
    late: bool = False
    check_end: Callable[[], None] = lambda: None


class Opener:
    """Opens one recording after the other.

    Args:
        limits: Fields of ``DecodeLimits``.
        fetch: Makes bytes of a remote recording present in its file.
    """

    def __init__(self, limits: dict[str, Any], fetch: Fetch) -> None:
        self.limits = limits
        self._fetch = fetch
        self._last: tuple[Any, bool, Found, Declared] | None = None
        self._media: tuple[Any, MediaSound] | None = None

    @contextmanager
    def open(self, source: dict[str, Any], *, thorough: bool, wanted: int = 0) -> Iterator[Recording]:
        """Open a recording and refuse a header that cannot be true or breaks a limit.

        Args:
            source: See ``decode_child.probe``.
            thorough: Whether to search the whole of it for a second recording.
            wanted: Samples that a manifest counts: of a FLAC that declares as many no more is asked.

        Raises:
            BadRecording: The recording cannot be used.
        """
        remote = source["remote"]
        with contextlib.ExitStack() as opened:
            view = opened.enter_context(_view(source, 0, self._fetch))
            found, declared = self._declared(source, view, thorough=thorough, wanted=wanted)
            if found.container in FORMATS:
                with self._kept(source, view, found, declared) as recording:
                    yield recording
                return
            self._let_go()
            num_bytes = source["num_bytes"] - found.start
            if found.start:
                view = opened.enter_context(_view(source, found.start, self._fetch))
            plain = source["whole"] and not remote and not found.start and not source["careful"]
            file = source["path"] if plain else view
            if declared.overlay is not None:
                file = Overlaid(view, declared.overlay)
            view.seek(0)
            try:
                sound = Sound(file)
            except soundfile.LibsndfileError as error:
                raise refusal("not_audio", f"libsndfile cannot open this {found.container}", error) from error
            with sound:
                recording = _checked(sound, found.container, declared, num_bytes, self.limits)
                yield replace(recording, check_end=lambda: _check_end(view, found.container)) if remote else recording

    @contextmanager
    def _kept(self, source: dict[str, Any], view: View, found: Found, declared: Declared) -> Iterator[Recording]:
        """Open a recording for FFmpeg, or take the last one where it is the same: it reads on from where it stands."""
        changed = None if source["remote"] else view.changed()
        key = source["name"], source["path"], source["start"], source["num_bytes"], view.identity(), changed
        if self._media is None or self._media[0] != key or source["careful"]:
            self._let_go()
            own = _view(source, found.start, self._fetch)
            try:
                self._media = key, MediaSound(own, found.container, declared, self.limits)
            except BaseException:
                own.close()
                raise
        sound = self._media[1]
        sound.seek(0)
        try:
            yield Recording(
                sound=sound,
                container=found.container,
                num_samples=None,
                fewest=declared.fewest,
                lead=0,
                early=0,
                seek_end=_NO_LENGTH,
                slack=0,
                trailing_bytes=declared.trailing_bytes,
                undeclared=False,
                others=sound.others,
                late=sound.late,
            )
        except BaseException:
            self._let_go()
            raise

    def _let_go(self) -> None:
        """Close the recording that FFmpeg holds open."""
        if self._media is not None:
            self._media[1].close()
            self._media = None

    def _declared(self, source: dict[str, Any], view: View, *, thorough: bool, wanted: int) -> tuple[Found, Declared]:
        path, remote = source["path"], source["remote"]
        changed = None if remote else view.changed()
        key = source["name"], path, source["start"], source["num_bytes"], changed
        last = None if source["careful"] else self._last
        if last is not None and last[0] == key and last[1] >= thorough:
            return last[2], last[3]
        found = find_container(view)
        settings = {"thorough": thorough, "remote": remote, "wanted": wanted}
        if not found.start:
            declared = check(view, found.container, **settings)
        else:
            with _view(source, found.start, self._fetch) as behind:
                declared = check(behind, found.container, **settings)
        if thorough or found.container != "flac":
            self._last = key, thorough, found, declared
        return found, declared


def _view(source: dict[str, Any], skipped: int, fetch: Fetch) -> View:
    start, num_bytes = source["start"] + skipped, source["num_bytes"] - skipped
    if not source["remote"]:
        return View(source["path"], start, num_bytes)

    def fetched(begin: int, end: int) -> tuple[int, int]:
        held = fetch(begin + skipped, end + skipped)
        return held[0] - skipped, held[1] - skipped

    return View(source["path"], start, num_bytes, fetched)


def _check_end(view: View, container: str) -> None:
    """Look at what follows the last sample of a remote recording, where much does: a second recording?

    Before that its bytes were not there, and the ends of two recordings of equal length look like that of one.
    """
    if container not in _COMPRESSED or view.size - view.last_read <= _READ_AHEAD:
        return
    if check(view, container, thorough=True, remote=False).undeclared:
        raise joined(container)


def _checked(sound: Sound, container: str, declared: Declared, num_bytes: int, limits: dict[str, Any]) -> Recording:
    if sound.format not in _FORMATS:
        raise BadRecording("not_audio", f"the container is {sound.format}, not {READ}")
    _check_header(sound, declared, num_bytes, limits)
    num_samples = sound.frames if declared.counted and sound.frames != _NO_LENGTH else None
    if declared.num_samples is not None and num_samples is not None:
        if declared.num_samples > num_samples:
            found = f"libsndfile finds {num_samples} samples where the bytes hold {declared.num_samples}"
            raise BadRecording("header_lies", found)
        num_samples = declared.num_samples
    if num_samples == 0:
        raise BadRecording("too_short", "the recording has no samples")
    return Recording(
        sound=sound,
        container=container,
        num_samples=num_samples,
        fewest=declared.fewest,
        lead=declared.lead,
        early=_MPEG_LEAD if container == "mp3" else 0,
        seek_end=_seek_end(sound, declared),
        slack=_MP3_SLACK if container == "mp3" and declared.counted else 0,
        trailing_bytes=declared.trailing_bytes,
        undeclared=declared.undeclared,
    )


def _seek_end(sound: Sound, declared: Declared) -> int:
    # libsndfile 1.2.2 seeks wrongly within the last page of Vorbis: 17,000 samples of 44.1 kHz were others.
    if sound.subtype == "VORBIS":
        return max(0, sound.frames - declared.last_page - _VORBIS_LEAD) if declared.last_page is not None else 0
    return int(sound.frames) if sound.subtype in _SEEKABLE else 0


def _check_header(sound: Sound, declared: Declared, num_bytes: int, limits: dict[str, Any]) -> None:
    if sound.channels > limits["max_channels"]:
        raise BadRecording("too_many_channels", f"{sound.channels} channels; at most {limits['max_channels']} are read")
    low, high = limits["min_sample_rate"], limits["max_sample_rate"]
    if not low <= sound.samplerate <= high:
        raise BadRecording("bad_sample_rate", f"{sound.samplerate} Hz is outside {low} to {high} Hz")
    size = sound.frames * sound.channels * 2
    if declared.counted and sound.frames != _NO_LENGTH and size > limits["max_expansion"] * num_bytes:
        raise BadRecording("header_lies", f"{sound.frames} samples are declared in a file of {num_bytes} bytes")


def refusal(reason: str, what: str, error: soundfile.LibsndfileError) -> BadRecording:
    """Make a reject of an error of libsndfile."""
    text = error.error_string.strip()
    return BadRecording("decoder_memory" if "malloc" in text.lower() else reason, f"{what}: {text}")
