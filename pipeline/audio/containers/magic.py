"""Which container a file is, by its first bytes: those that are read, and names for those that are not."""

import re

MAGIC_BYTES = 64
"""How many bytes ``sniff`` and ``name_of`` look at."""

_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"

# What a file is that is not read. The first of two that both fit is the right one.
_NAMES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"ADIF", "AAC (ADIF)"),
        (rb"\x56[\xe0-\xff]", "AAC (LATM)"),
        (rb"RIFF.{4}AVI ", "AVI"),
        (rb"RIFF.{4}CDXA|RIFF.{4}[ -~]{4}", "RIFF without WAVE"),
        (rb"FORM.{4}8SVX|FORM.{4}16SV", "IFF 8SVX"),
        (rb"FORM.{4}[ -~]{4}", "IFF without AIFF"),
        (rb"MAC ", "Monkey's Audio"),
        (rb"wvpk", "WavPack"),
        (rb"TTA[12]", "TTA"),
        (rb"MP\+|MPCK", "Musepack"),
        (rb"OFR ", "OptimFROG"),
        (rb"ajkg", "Shorten"),
        (rb"DSD |FRM8", "DSD"),
        (rb"\.RMF|\.ra\xfd", "RealAudio"),
        (rb"Creative Voice File", "Creative VOC"),
        (rb"\x64\xa3[\x01-\x04]\0|\0[\x01-\x04]\xa3\x64", "IRCAM"),
        (rb"caff", "CAF of an unknown version"),
        (rb"MThd", "MIDI"),
        (rb"\x0b\x77", "AC-3"),
        (rb"\x7f\xfe\x80\x01", "DTS"),
        (rb"FLV\x01", "Flash video"),
        (rb"\0\0\x01\xba", "MPEG program stream"),
        (rb"PK\x03\x04", "a ZIP archive"),
        (rb"\x1f\x8b", "compressed with gzip"),
        (rb"BZh[1-9]", "compressed with bzip2"),
        (rb"\xfd7zXZ", "compressed with xz"),
        (rb"\x28\xb5\x2f\xfd", "compressed with zstandard"),
        (rb"\0B(?:FM|DM|CM)", "a Kaldi archive"),
        (rb"\x93NUMPY", "a NumPy array"),
        (rb"\s*<(?:!|html|HTML|\?xml|Error)", "a web page or XML"),
        (rb"version https://git-lfs", "a pointer of Git LFS, not the file"),
        (rb"\0{32}", "zeros"),
        (rb"[\t\n\r -~]{16}", "text"),
    )
)


def sniff(head: bytes) -> str | None:
    """Name the container, by its magic bytes.

    Args:
        head: The first ``MAGIC_BYTES`` of a file, or fewer of a shorter one.

    Returns:
        wav, w64, aiff, au, caf, sphere, flac, ogg or mp3; mp4, matroska, adts, amr or asf, which FFmpeg reads; None for
        anything else.
    """
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:16] == _W64_RIFF:
        return "w64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    for magic, container in _MAGIC.items():
        if head.startswith(magic):
            return container
    if head[4:8] in _BOXES:
        return "mp4"
    if len(head) < 4 or head[0] != 0xFF or head[1] >> 5 != 7:
        return None
    if head[1] & 0xF6 == 0xF0:
        # Of layer 0, which MPEG audio reserves; a rate of the table, and a frame that has room for its head.
        length = (head[3] & 3) << 11 | int.from_bytes(head[4:6], "big") >> 5
        return "adts" if len(head) > 6 and head[2] >> 2 & 15 < 13 and length > 6 else None
    # Of MPEG audio, layers II and III: FF FE, which would be layer I, begins a text in UTF-16.
    version, layer, bit_rate, sample_rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    return "mp3" if version != 1 and layer in (1, 2) and bit_rate != 15 and sample_rate != 3 else None


_MAGIC = {
    b"fLaC": "flac",
    b"OggS": "ogg",
    b".snd": "au",
    b"dns.": "au",
    b"caff\0\x01": "caf",
    b"NIST_1A\n": "sphere",
    b"ID3": "mp3",
    b"#!AMR\n": "amr",
    b"#!AMR-WB\n": "amr",
    b"#!AMR_MC1.0\n": "amr",
    b"#!AMR-WB_MC1.0\n": "amr",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"\x1a\x45\xdf\xa3": "matroska",
}
_BOXES = {b"ftyp", b"moov", b"mdat", b"wide"}


def name_of(head: bytes) -> str | None:
    """Name what a file is that is not read, for its reject.

    Args:
        head: The first ``MAGIC_BYTES`` of the file, or fewer.
    """
    return next((name for pattern, name in _NAMES if pattern.match(head)), None)
