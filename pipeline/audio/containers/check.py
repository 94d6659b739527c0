"""Finds the container of a recording and what it declares, whichever it is."""

from dataclasses import dataclass

from pipeline.audio.containers.adts import check_adts
from pipeline.audio.containers.aiff import check_aiff
from pipeline.audio.containers.amr import check_amr
from pipeline.audio.containers.asf import check_asf
from pipeline.audio.containers.au import check_au
from pipeline.audio.containers.caf import check_caf
from pipeline.audio.containers.declared import BadRecording, Bytes, Declared
from pipeline.audio.containers.flac import check_flac
from pipeline.audio.containers.magic import MAGIC_BYTES, name_of, sniff
from pipeline.audio.containers.matroska import check_matroska
from pipeline.audio.containers.mp4 import check_mp4
from pipeline.audio.containers.mpeg import check_mpeg
from pipeline.audio.containers.ogg import check_ogg
from pipeline.audio.containers.riff import check_wave
from pipeline.audio.containers.sphere import check_sphere
from pipeline.audio.containers.tags import behind_id3, behind_zeros
from pipeline.audio.containers.wave64 import check_wave64

READ = "WAV, RF64, W64, AIFF, AU, CAF, NIST SPHERE, FLAC, Ogg, MP3, MP4, AAC, AMR, WMA, Matroska or WebM"
"""The containers that are read, for messages."""

_CHECKS = {
    "wav": check_wave,
    "w64": check_wave64,
    "aiff": check_aiff,
    "au": check_au,
    "caf": check_caf,
    "sphere": check_sphere,
}
_MEDIA = {
    "mp4": check_mp4,
    "matroska": check_matroska,
    "adts": check_adts,
    "amr": check_amr,
    "asf": check_asf,
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A container and its place.

    Attributes:
        container: wav, w64, aiff, au, caf, sphere, flac, ogg or mp3; mp4, matroska, adts, amr or asf.
        start: Its first byte: behind the ID3v2 tags that a file may begin with.
    """

    container: str
    start: int


def find_container(file: Bytes) -> Found:
    """Name the container of a file by its magic bytes, behind ID3v2 tags where it begins with them.

    Raises:
        BadRecording: It is none that is read; says what it is, where that is known.
    """
    head, tagged, name = file.at(0, MAGIC_BYTES), 0, None
    if head.startswith(b"ID3"):
        tagged = behind_id3(file)
    for start in (tagged, behind_zeros(file, tagged)) if tagged else (0,):
        head = file.at(start, MAGIC_BYTES) if start else head
        container = sniff(head)
        if container is not None:
            return Found(container=container, start=start)
        name = name_of(head) or name
    if name is not None:
        raise BadRecording("not_audio", f"this is {name}, not {READ}; convert it (ffmpeg -i FILE FILE.flac)")
    if tagged:
        # Programs leave odd bytes between a tag and the first frame of an MP3.
        return Found(container="mp3", start=tagged)
    raise BadRecording("not_audio", f"it does not begin like {READ}")


def check(file: Bytes, container: str, *, thorough: bool, remote: bool, wanted: int = 0) -> Declared:
    """Find out what a container declares, and whether its bytes agree.

    Args:
        file: The file, from the container's first byte on.
        container: As ``find_container`` names it.
        thorough: Whether to search all of it for a second recording, where its ends do not show one.
        remote: Whether its bytes must be fetched: the middle of a FLAC or Ogg is not, for that search.
        wanted: Samples that a manifest counts: a FLAC that declares as many is read as it is.

    Raises:
        BadRecording: It declares more than it holds, contradicts itself, or is several recordings.
    """
    if container == "mp3":
        return check_mpeg(file, thorough=thorough, remote=remote)
    if container == "flac":
        return check_flac(file, thorough=thorough and not remote, wanted=0 if thorough else wanted)
    if container == "ogg":
        return check_ogg(file, thorough=thorough and not remote)
    if container in _MEDIA:
        return _MEDIA[container](file)
    return _CHECKS[container](file, thorough=thorough)
