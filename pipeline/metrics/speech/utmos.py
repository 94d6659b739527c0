"""UTMOS: the mean opinion score that listeners would give, 1 to 5, by a network. Its weights are given, never fetched.

The network is one that torch.hub loads by the entry point ``utmos22_strong``: a local folder with a ``hubconf.py``, or
a repository on GitHub, as ``tarepan/SpeechMOS:v1.2.0``, which torch.hub downloads. Either is code that runs here, so it
is whoever names it who vouches for it. Strata was not run with the published weights, only with stand-ins.

Source: Saeki et al. 2022, UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022 (arXiv 2204.02152); torch.hub entry
of tarepan/SpeechMOS (MIT).
"""

from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.metrics.speech.judge import SAMPLE_RATE, Judge, Library, Measure, Pair, Score
from pipeline.metrics.speech.levels import check_audible

ENTRY = "utmos22_strong"
LEAST_SECONDS = 0.5


class Utmos(Judge):
    """Judges how natural an utterance sounds.

    Args:
        model: Folder with a ``hubconf.py``, or a GitHub repository as torch.hub names it; None is refused.

    Raises:
        SettingsError: None is given, or torch.hub finds no such entry there.
    """

    name = "utmos"
    measures = (Measure(name="utmos", unit="", higher_is_better=True),)
    needs_reference = False

    def __init__(self, model: str | None) -> None:
        if model is None:
            raise SettingsError(
                f"the judge {self.name} ships no weights: give --utmos FOLDER, a clone of tarepan/SpeechMOS with its "
                "weights, or --utmos tarepan/SpeechMOS:v1.2.0, which torch.hub downloads"
            )
        import torch

        local = Path(model).is_dir()
        try:
            self._network: Any = torch.hub.load(  # type: ignore[no-untyped-call]
                model, ENTRY, source="local" if local else "github", trust_repo=True
            ).eval()
        except (OSError, RuntimeError, ValueError, ImportError) as error:
            raise SettingsError(
                f"torch.hub finds no {ENTRY} in {model} ({' '.join(str(error).split())[:200]}); give a folder with a "
                "hubconf.py, or OWNER/REPOSITORY:TAG of GitHub"
            ) from error
        self.library = Library(name=f"{ENTRY} of {Path(model).name if local else model}", version="as given")

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        import torch

        check_audible(pair.generated, least_seconds=LEAST_SECONDS)
        with torch.inference_mode():
            found = self._network(torch.from_numpy(pair.generated)[None], SAMPLE_RATE)
        return Score(values={"utmos": float(found.reshape(-1)[0])})
