"""The cells of a study: the centre, and each level of each factor with everything else as in the centre."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SettingsError
from pipeline.study.table import CENTRE, OF_TOKENS, OWN, Study, Task, Values, root


@dataclass(frozen=True, kw_only=True)
class TokensOf:
    """Which tokens of a corpus.

    Attributes:
        corpus: Whose.
        encoder: A name of the study's encoders.
        codebooks_of: Corpora that K-means learned from, sorted.
        num_clusters: K.
    """

    corpus: str
    encoder: str
    codebooks_of: tuple[str, ...]
    num_clusters: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A task under the settings of a level.

    Attributes:
        task: The task.
        factor: That is changed; "" for the centre.
        level: Of the factor; ``CENTRE`` for the centre.
        tokens: What is learned from.
        layers: Which of their layers.
        settings: Of train_task or train_vocoder, without those of data and place.
    """

    task: Task
    factor: str
    level: str
    tokens: TokensOf
    layers: tuple[int, ...]
    settings: Values

    @property
    def name(self) -> str:
        """What the cell is called, as ``asr, num_clusters 500``."""
        return f"{self.task.name}, {self.factor} {self.level}" if self.factor else f"{self.task.name}, {CENTRE}"


def cells(study: Study) -> list[Cell]:
    """Lay out the cells: of each task the centre, then each level of its factors that is not the centre.

    Raises:
        SettingsError: A level asks for layers that its encoder does not have.
    """
    return [cell for task in study.tasks.values() for cell in _of_task(study, task)]


def _of_task(study: Study, task: Task) -> Iterator[Cell]:
    yield _cell(study, task, "", CENTRE, {})
    for factor in study.factors.values():
        if task.name in factor.tasks:
            for level, values in factor.levels.items():
                if level != factor.centre:
                    yield _cell(study, task, factor.name, level, values)


def _cell(study: Study, task: Task, factor: str, level: str, changed: Values) -> Cell:
    values: dict[str, Any] = {**study.centre, **changed}
    encoder, layers = values["encoder"], tuple(values["layers"])
    there = study.encoders[encoder].settings["layers"]
    if lacking := sorted(set(layers) - set(there)):
        where = f"factors.{factor}.levels.{level}" if factor else CENTRE
        raise SettingsError(
            f"{where}: encoder {encoder} gives layers {_listed(there)}, not {_listed(lacking)}; name its layers beside "
            "it"
        )
    own = root(study.corpora, task.corpus)
    of = tuple(sorted({own if name == OWN else name for name in values["codebooks_of"]}))
    return Cell(
        task=task,
        factor=factor,
        level=level,
        tokens=TokensOf(corpus=task.corpus, encoder=encoder, codebooks_of=of, num_clusters=values["num_clusters"]),
        layers=layers,
        settings={**task.settings, **{key: value for key, value in values.items() if key not in OF_TOKENS}},
    )


def _listed(numbers: Any) -> str:
    return " ".join(map(str, numbers))
