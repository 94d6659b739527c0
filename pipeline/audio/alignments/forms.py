"""The forms in which other tools write word and phone times, by name."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

from pipeline.audio.alignments.ctm import read_ctm
from pipeline.audio.alignments.folders import read_folder
from pipeline.audio.alignments.lhotse import read_lhotse
from pipeline.audio.alignments.textgrid import read_textgrid
from pipeline.audio.alignments.timed import Timed
from pipeline.audio.alignments.timit import ENDINGS, read_timit
from pipeline.audio.alignments.utterances import Utterances
from pipeline.errors import SettingsError
from pipeline.passed_over import PassedOver

Form = Literal["textgrid", "ctm", "lhotse", "timit"]

_TABLES = {"ctm": read_ctm, "lhotse": read_lhotse}
_PRAAT = ".textgrid"
_BESIDE_PRAAT = (".lab", ".txt")
_BESIDE_TIMIT = (".phn", ".wrd", ".txt")


def check_tier(form: Form, tier: str | None) -> None:
    """Refuse a tier that a form cannot have.

    Raises:
        SettingsError: There is none such.
    """
    if form == "ctm" and tier is not None:
        raise SettingsError(f"tier {tier} means nothing to a ctm, which has one; leave it away")
    if form == "timit" and tier is not None and tier not in ENDINGS:
        raise SettingsError(f"tier must be one of {', '.join(ENDINGS)} for timit, got {tier!r}")


def read_form(form: Form, uri: str, tier: str, utterances: Utterances, passed_over: PassedOver) -> Iterator[Timed]:
    """Read times.

    Args:
        form: How they are written.
        uri: An absolute path or ``s3://`` URI of a file, or of a folder for textgrid and timit.
        tier: Which of them.
        utterances: Those that they are to name.
        passed_over: Counts what is not read.

    Raises:
        ManifestError: There is nothing, or something that cannot be read.
        SettingsError: No file of a folder is called as an utterance or a recording.
    """
    if form in _TABLES:
        return _TABLES[form](uri, tier, passed_over)
    folder = partial(read_folder, uri, tier=tier, utterances=utterances, passed_over=passed_over)
    if form == "timit":
        return folder(ending=ENDINGS[tier], beside=_BESIDE_TIMIT, read=read_timit)
    return folder(ending=_PRAAT, beside=_BESIDE_PRAAT, read=read_textgrid)
