"""DNSMOS P.835: a network's guess of how listeners would rate signal, background and all of it, 1 to 5, no reference.

The package speechmos ships the network; it is called here directly, since the package imports four others that it does
not name. The figure depends on level (an overall of 3.38 is 1.85 at a gain of 0.03), so each utterance is brought to
-26 dB first. The network hears 9.01 s: shorter utterances are repeated until they fill it, longer ones are judged every
second and averaged. Under 2 s the figure says nothing, and silence would get 1.8; both are nulls.

Source: Reddy et al. 2022, DNSMOS P.835 (arXiv 2110.01763); network and polynomials of Microsoft's DNS challenge, as the
package speechmos (MIT) has them.
"""

import numpy as np

from pipeline.metrics.speech.judge import SAMPLE_RATE, Judge, Measure, Pair, Score, Waveform
from pipeline.metrics.speech.levels import at_level, check_audible
from pipeline.metrics.speech.libraries import library, weights_path

WEIGHTS = "speechmos/dnsmos_models/sig_bak_ovr.onnx"
LEAST_SECONDS = 2.0
WINDOW_SECONDS = 9.01
# From what the network says to the scale of listeners, highest power first, in the order of its outputs.
_POLYNOMIALS = {
    "dnsmos_sig": (-0.08397278, 1.22083953, 0.0052439),
    "dnsmos_bak": (-0.13166888, 1.60915514, -0.39604546),
    "dnsmos_ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class Dnsmos(Judge):
    """Judges by a network that has learned listeners' ratings.

    Raises:
        SettingsError: speechmos or onnxruntime is not installed.
    """

    name = "dnsmos"
    measures = tuple(Measure(name=name, unit="", higher_is_better=True) for name in _POLYNOMIALS)
    needs_reference = False

    def __init__(self) -> None:
        self.library = library("speechmos", who=f"the judge {self.name}", weights=WEIGHTS)
        library("onnxruntime", who=f"the judge {self.name}")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(weights_path("speechmos", WEIGHTS, who=f"the judge {self.name}"))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def score(self, pair: Pair) -> Score:
        """Judge one utterance; ``Judge.score`` says how."""
        check_audible(pair.generated, least_seconds=LEAST_SECONDS)
        heard = [self._session.run(None, {"input_1": one[None]})[0][0] for one in _windows(pair.generated)]
        columns = np.asarray(heard, np.float64).T
        values = zip(_POLYNOMIALS.items(), columns, strict=True)
        return Score(values={name: float(np.polyval(terms, column).mean()) for (name, terms), column in values})


def _windows(waveform: Waveform) -> list[Waveform]:
    length = int(WINDOW_SECONDS * SAMPLE_RATE)
    levelled = at_level(waveform)
    filled = np.resize(levelled, max(length, len(levelled)))
    # The last second that begins a window is that of Microsoft's own script.
    count = int(len(filled) // SAMPLE_RATE - WINDOW_SECONDS) + 1
    return [filled[second * SAMPLE_RATE :][:length] for second in range(count)]
