"""The Berlin Database of Emotional Speech: actor, sentence, emotion and version in the name, as ``03a01Fa``.

Source: Burkhardt et al. 2005, A database of German emotional speech.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.manifest import encode_id
from pipeline.passed_over import PassedOver

_NAME = re.compile(r"([0-9]{2})([ab][0-9]{2})([WLEAFTN])[a-z]?")
_EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend k\u00f6nnte ich es ihm sagen.",
    "a05": "Das schwarze St\u00fcck Papier befindet sich da oben neben dem Holzst\u00fcck.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das f\u00fcr T\u00fcten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def read_emodb(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its file."""
    return read_walked(corpus, "emodb", _label, passed_over)


def _label(candidate: Candidate, path: str) -> Candidate | None:
    name = stem(path.rpartition("/")[2])
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return replace(
        candidate,
        utterance_id=encode_id(name),
        text=_TEXTS.get(match[2]),
        speaker=match[1],
        emotion=_EMOTIONS[match[3]],
        language="de",
    )
