"""What a vocoder is made for: layers, clusters and codebooks of a tokens dataset, and the clock of their encoder.

A spec holds no tensors and travels to workers. It knows no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import CodebookMismatchError, SettingsError
from pipeline.fusion.settings import FusionSettings
from pipeline.fusion.spec import FuserSpec, token_spec
from pipeline.metrics.speech.judge import Library
from pipeline.vocoder.settings import VocoderSettings


@dataclass(frozen=True, kw_only=True)
class VocoderSpec:
    """What a vocoder is made for, and its sizes.

    Attributes:
        settings: Sizes.
        fuser: What fuses the layers: columns, K and codebooks.
        sample_rate: Of the encoder, Hz; the vocoder speaks at it.
        hop_length: Samples per frame of the encoder.
        speakers: Who ``speaker_input`` table knows, in the order of their ids; for ``vector`` whose mean vector its
            folder has; empty for the others.
        speaker_encoder: What gives the vectors of ``speaker_input`` vector; None for the others, and where nobody says.

    Raises:
        SettingsError: The settings do not fit the tokens.
    """

    settings: VocoderSettings
    fuser: FuserSpec
    sample_rate: int
    hop_length: int
    speakers: tuple[str, ...] = ()
    speaker_encoder: Library | None = None

    def __post_init__(self) -> None:
        self.settings.check_hop(self.hop_length)
        if self.fuser.kind != "tokens":
            raise SettingsError("a vocoder speaks tokens, and this fuser takes features")
        fusion = self.fuser.settings.fusion
        if self.settings.absent_layers == "learned" and fusion != "attention":
            raise SettingsError(f"absent_layers learned is of fusion attention; got fusion {fusion}")
        kind = self.settings.speaker_input
        if (kind == "table" and not self.speakers) or (kind == "none" and self.speakers):
            raise SettingsError(
                f"speaker_input table needs speakers, and none has none; got speaker_input {kind} and "
                f"{len(self.speakers)} speakers"
            )
        if kind != "vector" and self.speaker_encoder is not None:
            raise SettingsError(f"a speaker encoder is of speaker_input vector; got speaker_input {kind}")
        if len(set(self.speakers)) < len(self.speakers):
            raise SettingsError("a speaker is named twice")

    @property
    def columns(self) -> tuple[str, ...]:
        """The layers (L) in the order of the input."""
        return self.fuser.columns

    def present(self, columns: Sequence[str]) -> tuple[bool, ...]:
        """Say which layers are there, for ``Vocoder.forward``.

        Args:
            columns: Those that are, as ``layer_06``, in any order.

        Raises:
            SettingsError: None is, the vocoder does not know one, or it never saw such a set.
        """
        if not columns:
            raise SettingsError(f"no layer is given; the vocoder speaks any of {', '.join(self.columns)}")
        if unknown := [column for column in columns if column not in self.columns]:
            raise SettingsError(f"the vocoder was trained on {', '.join(self.columns)}, not on {', '.join(unknown)}")
        if not self.settings.layer_dropout and set(columns) != set(self.columns):
            raise SettingsError(
                f"the vocoder never saw {', '.join(sorted(columns))} alone: it was trained without layer dropout; give "
                f"all of {', '.join(self.columns)}"
            )
        return tuple(column in columns for column in self.columns)

    def check_durations(self) -> None:
        """Refuse to predict durations where there is no predictor.

        Raises:
            SettingsError: The vocoder was trained without one.
        """
        if not self.settings.duration_predictor:
            raise SettingsError(
                "durations predicted is for a vocoder trained with --duration-predictor, and this one was not; give "
                "tokens of every frame, or train such a vocoder"
            )

    def check_tokens(self, lineage: Mapping[str, Any]) -> tuple[str, ...]:
        """Refuse tokens that the vocoder was not trained on.

        Args:
            lineage: Of the tokens dataset.

        Returns:
            Which of the vocoder's layers the tokens have.

        Raises:
            CodebookMismatchError: They come of another encoder or other codebooks; the message names what differs.
            SettingsError: They have none of its layers.
        """
        told = []
        if lineage["encoder_sha256"] != self.fuser.encoder_sha256:
            told.append(f"encoder {lineage['encoder_sha256'][:12]} there, {self.fuser.encoder_sha256[:12]} here")
        books = lineage["codebooks"]
        shared = tuple(column for column in self.columns if column in books)
        for column in shared:
            there, here = books[column], self.fuser.codebook_sha256[column]
            if there != here:
                told.append(f"codebook of {column}: {there[:12]} there, {here[:12]} here")
        if told:
            raise CodebookMismatchError(
                f"the vocoder was not trained on these tokens: {'; '.join(told)}. Give tokens of the codebooks that it "
                "was trained on (vocoder-small: --codebooks encoder-small --num-clusters 500), or train another"
            )
        if not shared:
            raise SettingsError(
                f"the vocoder was trained on {', '.join(self.columns)}; the tokens have {', '.join(books)}"
            )
        return shared


def vocoder_spec(
    settings: VocoderSettings,
    fusing: FusionSettings,
    lineage: Mapping[str, Any],
    *,
    columns: Sequence[str] = (),
    codebooks: str | None = None,
    speakers: Sequence[str] = (),
    speaker_encoder: Library | None = None,
) -> VocoderSpec:
    """Say what a vocoder of a tokens dataset is made for.

    Args:
        settings: Its sizes.
        fusing: How it fuses layers.
        lineage: Of the tokens dataset.
        columns: The layers; default: all of the dataset.
        codebooks: Where the codebooks are, for embeddings that begin as centroids.
        speakers: Who it is trained on, for ``speaker_input`` table.
        speaker_encoder: What gives the vectors of ``speaker_input`` vector.

    Raises:
        SettingsError: The settings do not fit the tokens.
    """
    return VocoderSpec(
        settings=settings,
        fuser=token_spec(fusing, lineage, columns=columns, codebooks=codebooks),
        sample_rate=int(lineage["sample_rate"]),
        hop_length=int(lineage["hop_length"]),
        speakers=tuple(speakers),
        speaker_encoder=speaker_encoder,
    )
