"""Documents that share speakers go to one side of the split together.

A document with several speakers joins them, and a speaker all of his documents, so documents and speakers fall into
groups: the connected parts of the graph that has them as its nodes. The side of a group follows from one of its
speakers, chosen by hash; a group with more than half of the audio is trained on; and who is in an earlier part of the
export keeps his side. Documents of one speaker, and those of none, lie where their names put them.

Cost: one pass over the labels of the manifest on the driver, some microseconds and 200 bytes per document.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import SettingsError
from pipeline.export.grouping import Grouping, Together, key_of, on_valid_side

logger = logging.getLogger(__name__)

_MOST = 0.5
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class SpokenDocument:
    """What one utterance says of its document.

    Attributes:
        document_id: The document.
        speaker: Who speaks in the utterance, None where nobody knows.
        seconds: Its length.
    """

    document_id: str
    speaker: str | None
    seconds: float


@dataclass
class _Document:
    """A document as it is met.

    Attributes:
        seconds: Its audio.
        speaker: The first of its speakers.
        sides: The sides of its utterances, were each on that of its own speaker: bit 0 training, bit 1 validation.
    """

    seconds: float = 0.0
    speaker: str | None = None
    sides: int = 0


@dataclass
class _Group:
    """Speakers and documents that belong together."""

    speakers: list[str] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def called(self) -> str:
        """Name the speaker from whom the side follows: any would do, so chance chooses."""
        return min(self.speakers, key=lambda speaker: (key_of(speaker, "together"), speaker))


def shares_speakers(grouping: Grouping) -> bool:
    """Say whether a document may have several speakers."""
    return grouping.pattern is not None or grouping.by not in ("utterance", "speaker")


def put_together(
    utterances: Iterable[SpokenDocument], valid_fraction: float, earlier: Mapping[str, bool | None]
) -> Together:
    """Find the documents that cannot lie where their names put them, because they share speakers with others.

    Args:
        utterances: All utterances, in any order.
        valid_fraction: Share of the validation side.
        earlier: Whether a speaker of earlier parts is on the validation side; None where he is on both.

    Raises:
        SettingsError: Nothing is left to split, or a group has speakers of both sides in earlier parts.
    """
    own_side: dict[str, bool] = {}
    parents: dict[str, str] = {}
    documents: dict[int, _Document] = {}
    for utterance in utterances:
        key = key_of(utterance.document_id)
        document = documents.setdefault(key, _Document())
        document.seconds += utterance.seconds
        speaker = utterance.speaker
        if speaker is None:
            document.sides |= 1 << on_valid_side(utterance.document_id, valid_fraction)
            continue
        if speaker not in parents:
            parents[speaker] = speaker
            own_side[speaker] = on_valid_side(f"speaker {speaker}", valid_fraction)
        document.sides |= 1 << own_side[speaker]
        if document.speaker is None:
            document.speaker = speaker
        else:
            parents[_root(parents, speaker)] = _root(parents, document.speaker)
    groups: dict[str, _Group] = {}
    for speaker in parents:
        groups.setdefault(_root(parents, speaker), _Group()).speakers.append(speaker)
    nobody = 0
    for key, document in documents.items():
        if document.speaker is None:
            nobody |= document.sides
            continue
        group = groups[_root(parents, document.speaker)]
        group.documents.append(key)
        group.seconds += document.seconds
    total = sum(document.seconds for document in documents.values())
    moved: dict[bool, list[int]] = {False: [], True: []}
    sides = nobody
    for group in groups.values():
        valid = _side(group, own_side, earlier, group.seconds / max(total, 1e-9))
        sides |= 1 << valid
        moved[valid] += [key for key in group.documents if documents[key].sides != 1 << valid]
    largest = max(groups.values(), key=lambda group: group.seconds, default=_Group())
    _check(largest, len(documents), largest.seconds / max(total, 1e-9), both=sides == 3)
    return Together(train=_packed(moved[False]), valid=_packed(moved[True]))


def _root(parents: dict[str, str], speaker: str) -> str:
    while parents[speaker] != speaker:
        parents[speaker] = parents[parents[speaker]]
        speaker = parents[speaker]
    return speaker


def _side(group: _Group, own: Mapping[str, bool], earlier: Mapping[str, bool | None], share: float) -> bool:
    """Say whether a group is on the validation side."""
    held = {speaker: earlier[speaker] for speaker in group.speakers if speaker in earlier}
    if len(set(held.values())) > 1 or None in held.values():
        names = ", ".join(repr(name) for name in sorted(held)[:_SHOWN])
        raise SettingsError(
            f"--split-by-speaker cannot keep its word: the speakers {names} share documents, and earlier parts of this "
            "export have them on both sides; export into another folder, or leave --split-by-speaker away"
        )
    if held:
        return bool(next(iter(held.values())))
    if len(group.speakers) > 1 and share > _MOST:
        return False
    return own[group.called]


def _check(largest: _Group, num_documents: int, share: float, *, both: bool) -> None:
    if len(largest.speakers) < 2:
        return
    told = (
        f"{len(largest.documents):,} of {num_documents:,} documents ({share:.1%} of the audio) share speakers: "
        f"{len(largest.speakers):,} speakers, as {', '.join(map(repr, sorted(largest.speakers)[:_SHOWN]))}"
    )
    if not both and share > _MOST:
        raise SettingsError(
            f"--split-by-speaker leaves nothing to split: {told}, so all are on one side; choose smaller documents "
            "(--documents utterance), or leave --split-by-speaker away"
        )
    logger.info("documents that share speakers are on one side; of the largest group, %s", told)


def _packed(keys: list[int]) -> bytes:
    return np.sort(np.array(keys, "<u8")).tobytes()
