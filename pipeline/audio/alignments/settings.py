"""Settings of convert_alignments."""

from dataclasses import dataclass

from pipeline.audio.alignments.forms import Form, check_tier
from pipeline.errors import SettingsError
from pipeline.settings import Settings

OUTPUTS = (".parquet", ".csv")
SILENCE = ("sil", "sp", "spn", "SIL", "<sil>", "<eps>")
"""How the aligners of this field spell that nothing is said, or nothing that they know."""


@dataclass(frozen=True, kw_only=True)
class ConvertAlignmentsConfig(Settings):
    """Settings of convert_alignments."""

    alignments: str
    """Times that another tool wrote, local or s3://: a folder (textgrid, timit) or a file (ctm, lhotse)."""
    format: Form
    """Form of the times: textgrid (Praat, Montreal Forced Aligner), ctm (NIST, Kaldi), lhotse (supervisions or cuts as
    JSON lines, also .gz), timit (.PHN and .WRD)."""
    manifest: str
    """Manifest dataset whose utterances, or recordings, the times name, local or s3://."""
    output: str
    """File that is written, .parquet or .csv, local or s3://; one that is there is replaced."""
    tier: str | None = None
    """Which times, where a form has several: words or phones, or how a tier of a TextGrid or an alignment of lhotse is
    called; default: words."""
    silence: tuple[str, ...] = SILENCE
    """Labels that are dropped, and empty ones with them; --silence without a label keeps all, empty ones too."""
    strict: bool = False
    """Stop, before anything is written, where times and utterances do not meet, or anything else is passed over."""

    def __post_init__(self) -> None:
        if not self.output.lower().endswith(OUTPUTS):
            raise SettingsError(f"output must be a file that ends in {' or '.join(OUTPUTS)}, got {self.output!r}")
        if self.tier == "":
            raise SettingsError("tier must name one, got nothing")
        check_tier(self.format, self.tier)
