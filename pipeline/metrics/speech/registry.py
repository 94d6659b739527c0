"""The judges by name."""

from collections.abc import Callable, Sequence
from functools import partial

from pipeline.errors import SettingsError
from pipeline.metrics.speech.cepstra import CepstralDistortion
from pipeline.metrics.speech.dnsmos import Dnsmos
from pipeline.metrics.speech.intelligibility import Intelligibility
from pipeline.metrics.speech.judge import Judge
from pipeline.metrics.speech.log_mel import LogMelDistance
from pipeline.metrics.speech.pitch import Pitch
from pipeline.metrics.speech.recogniser import WordErrors
from pipeline.metrics.speech.speaker import SpeakerSimilarity
from pipeline.metrics.speech.stft_distance import StftDistance
from pipeline.metrics.speech.utmos import Utmos

JUDGES: dict[str, Callable[[], Judge]] = {
    "stft": StftDistance,
    "log_mel": LogMelDistance,
    "mcd": CepstralDistortion,
    "pitch": Pitch,
    "stoi": Intelligibility,
    "dnsmos": Dnsmos,
    "speaker": SpeakerSimilarity,
    "recogniser": WordErrors,
}
"""Makers by name; each loads its network when it is called."""

WITHOUT_LIBRARIES = ("stft", "log_mel", "mcd")
"""Judges that need no extra."""


def make_judges(names: Sequence[str], *, utmos: str | None = None) -> list[Judge]:
    """Load judges, in the order given.

    Args:
        names: Of ``JUDGES``, or ``utmos``.
        utmos: Where the network of ``utmos`` is; see ``Utmos``.

    Raises:
        SettingsError: There is no such judge, one is named twice, a library is not installed, or the network of
            ``utmos`` is not there.
    """
    makers: dict[str, Callable[[], Judge]] = {**JUDGES, Utmos.name: partial(Utmos, utmos)}
    unknown = [name for name in names if name not in makers]
    if unknown or len(set(names)) != len(names):
        what = f"there is no judge {unknown[0]}" if unknown else f"judges are named twice: {', '.join(names)}"
        raise SettingsError(f"{what}; each of {', '.join(makers)} may be named once")
    return [makers[name]() for name in names]
