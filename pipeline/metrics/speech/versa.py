"""Files that the VERSA toolkit reads, which has 90 further measures.

VERSA is installed apart from Strata (github.com/wavlab-speech/versa) and downloads the networks of its measures. After
``versa_files("out/versa", samples)``, with a configuration of one's choice such as its own ``egs/speech.yaml``:

    versa-score --score_config egs/speech.yaml --pred out/versa/wav.scp --gt out/versa/reference.scp \
        --text out/versa/text --io soundfile --output_file out/versa/scores

``--gt`` and ``--text`` are left out where not every sample has a reference or a text: VERSA wants as many references as
samples, and splits a line of ``text`` into a name and at least one word. ``versa_files`` gives the command.

Source: Shi et al. 2025, VERSA (arXiv 2412.17667); its scorer's options and how it reads lists, release of 2025.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SettingsError

PREDICTED, REFERENCE, TEXT = "wav.scp", "reference.scp", "text"
SCORES = "scores"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One recording to score.

    Attributes:
        utterance_id: Its name, without white space.
        generated: Its audio file.
        reference: The audio file of its reference; None where there is none.
        text: What is said; None or empty where nobody knows.
    """

    utterance_id: str
    generated: Path
    reference: Path | None = None
    text: str | None = None


def versa_files(folder: Path, samples: Sequence[Sample], *, score_config: str = "egs/speech.yaml") -> str:
    """Write ``wav.scp``, and ``reference.scp`` and ``text`` where every sample has them, sorted by name.

    Paths are written as absolute ones, so the command works in any folder.

    Args:
        folder: Where the files go; it is made.
        samples: What is to be scored.
        score_config: VERSA's configuration, for the command.

    Returns:
        The command that scores them.

    Raises:
        SettingsError: There is no sample, or a name or path that VERSA cannot read.
    """
    _check(samples)
    ordered = sorted(samples, key=lambda sample: sample.utterance_id)
    lists = {"--pred": (PREDICTED, [(sample.utterance_id, str(sample.generated.absolute())) for sample in ordered])}
    references = [(sample.utterance_id, str(sample.reference.absolute())) for sample in ordered if sample.reference]
    texts = [(sample.utterance_id, " ".join((sample.text or "").split())) for sample in ordered]
    texts = [(name, text) for name, text in texts if text]
    if len(references) == len(ordered):
        lists["--gt"] = (REFERENCE, references)
    if len(texts) == len(ordered):
        lists["--text"] = (TEXT, texts)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["versa-score", "--score_config", score_config]
    for flag, (name, lines) in lists.items():
        (folder / name).write_text("".join(f"{key} {value}\n" for key, value in lines), encoding="utf-8")
        words += [flag, str(folder.absolute() / name)]
    words += ["--io", "soundfile", "--output_file", str(folder.absolute() / SCORES)]
    return shlex.join(words)


def _check(samples: Sequence[Sample]) -> None:
    if not samples:
        raise SettingsError("there is no sample to score with VERSA")
    for name, count in Counter(sample.utterance_id for sample in samples).items():
        if name.split() != [name]:
            raise SettingsError(f"VERSA cannot read the name {name!r}; it must be one word")
        if count > 1:
            raise SettingsError(f"{name} is there {count} times; give each condition a folder of its own")
    for path in (path for sample in samples for path in (sample.generated, sample.reference) if path):
        if str(path).endswith("|") or [str(path)] != str(path).strip().splitlines():
            raise SettingsError(f"VERSA cannot read the path {str(path)!r}; it ends a line, or it is a pipe")
