"""Strata: a corpus of speech in, discrete audio tokens of several layers out, on Ray.

The walk, one folder a station; stations meet only on disk:

    recordings --audio--> manifest --features--> features --kmeans--> codebooks
                             '---------------tokens---------------------> tokens

Each station has its mathematics in named files and one ``stage.py``, which runs it on Ray; each stage has a
job of its own in ``jobs/``. Import ``Tokenizer`` from ``pipeline.tokenizer`` to tokenise without Ray.

Shapes, in every docstring of the project:
    B batch, S samples, T frames, L layers, D feature width, K clusters, Q residual stages, C channels, M mel bins,
    V output classes.
Locals whose axes move carry the letters as a suffix: ``features_TD``, ``centroids_KD``.
"""
