"""Ask how much of words, speakers, emotions and sex can be read off an encoder's features and tokens, layer by layer.

    python -m bench.probes --encoder DIR [--compare NAME=DIR ...] [--layers 0 1 ...] [--seeds 3] [--tasks ...]
        [--num-clusters 100] [--fit-on fsdd librispeech] [--codebooks FOLDER] [--no-random] [--no-tokens]
        [--json FILE] [--plot FILE.png]

Systems: mfcc; random, encoders of the same config.json and preprocessor with weights drawn anew for each seed; encoder,
the one that is given; those to compare it with. All are loaded by the product's FeatureExtractor.

Features: the means of the four quarters of an utterance, and logistic regression on them (bench/probes/classifier.py).
Tokens: each layer's codebook, K clusters fitted on the corpora of --fit-on as far as training heard them, or read from
--codebooks where they are of that encoder; the square roots of the shares of the tokens in an utterance go to the same
classifier. Fitted on both corpora, codebooks of different layers leave digits different numbers of clusters (perplexity
73 to 36 of 100, of the encoder that ships), so their bags compare layers and room at once; fitted on FSDD alone, digits
have all K in every layer. I(token; label) is of all frames of what is told, FSDD's takes 0 to 4, or all of the new
speaker, where it holds nothing of who speaks; plain and corrected for bias, beside it with labels shuffled among
utterances.

Tasks (bench/probes/tasks.py), split alike for all systems:
    digit              FSDD: take 5 and above of six speakers; told: takes 0 to 4
    digit_new_speaker  FSDD: five speakers; told: the one that training never heard
    speaker            FSDD: the speaker, split like digit
    emotion            EmoDB: seven emotions, each actor told after learning from the others; all utterances together
    sex                LibriSpeech: readers that training heard; told: those kept from it

Seed 0 learns from every training utterance once; a further seed from a bootstrap sample of them, the same for all
systems, and it also seeds K-means and the weights of the random encoder. Tables are on standard error; the last line
of standard output is JSON. All of it runs on one thread: 3 seeds of the encoder that ships, seven layers of width 192,
take seven minutes of one core of an AMD EPYC, most of it for the random encoders.
"""

import json
import sys

from bench.measuring import machine, write_json
from bench.probes.flags import parser
from bench.probes.plots import draw
from bench.probes.report import show
from bench.probes.running import run
from pipeline.errors import PipelineError
from pipeline.work.runtime import set_threads


def main() -> None:
    """Measure, print tables and figures, draw."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    from transformers.utils.logging import disable_progress_bar

    given = parser(__doc__).parse_args()
    measured_on = machine()
    # Libraries that load later read the environment; those that are loaded already are limited.
    set_threads(1)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with threadpool_limits(1):
            found = {"machine": measured_on, **run(given)}
    except PipelineError as error:
        sys.exit(f"error: {error}")
    show(found)
    if given.plot is not None:
        given.plot.write_bytes(draw(found))
    write_json(given.json, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
