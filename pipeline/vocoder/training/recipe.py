"""What a vocoder gives the training loop: the vocoder and its discriminators, updated in turn.

Letters: B batch, T frames, L layers, S samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from pipeline.training.recipe import Audio, Figure, Judged, Losses, Modules, Phase, Recipe, Sums, Tensors
from pipeline.training.settings import OptimizerSettings
from pipeline.vocoder.discriminators.ensemble import Discriminators
from pipeline.vocoder.discriminators.judging import Judgement
from pipeline.vocoder.duration import Runs, duration_loss, runs_of
from pipeline.vocoder.layer_sets import validation_sets
from pipeline.vocoder.losses import adversarial_loss, discriminator_loss, feature_loss
from pipeline.vocoder.network import Vocoder, build_vocoder
from pipeline.vocoder.settings import VocoderLossSettings
from pipeline.vocoder.spec import VocoderSpec
from pipeline.vocoder.spectra import MelDistance, StftDistance
from pipeline.vocoder.training.showing import shown
from pipeline.vocoder.training.source import FRAMES, JUDGED, PRESENT, SPEAKER, WAVEFORM, VocoderData, VocoderSource

GENERATOR = "generator"
"""Name of the vocoder, in metrics and checkpoints."""
DISCRIMINATOR = "discriminator"
MEL, STFT = "mel_distance", "stft_distance"
"""Names of the distances, which have no weights: they are built with the networks, and no phase trains them."""


@dataclass(frozen=True, kw_only=True)
class VocoderRecipe(Recipe):
    """A vocoder and its discriminators; see ``pipeline.training.recipe.Recipe``.

    Attributes:
        data: What to read.
        spec: What the vocoder is made for.
        weights: Which losses, and their weights.
        optimizer: How the vocoder is updated.
        discriminator_optimizer: How its discriminators are.
        ema_decay: Decay of the average of the vocoder's weights; None: none is kept.
    """

    data: VocoderData
    spec: VocoderSpec
    weights: VocoderLossSettings
    optimizer: OptimizerSettings
    discriminator_optimizer: OptimizerSettings
    ema_decay: float | None

    @property
    def phases(self) -> Sequence[Phase]:
        """The discriminators, once they have a part, and then the vocoder."""
        weights, begins = self.weights, self.data.judged_from
        losses = {"adversarial": weights.adversarial_weight, "feature": weights.feature_weight}
        late = dict.fromkeys(losses, begins)
        losses |= {"mel": weights.mel_weight, "stft": weights.stft_weight}
        losses = {name: weight for name, weight in losses.items() if weight > 0 or name == "mel"}
        if self._learns_durations:
            losses["duration"] = weights.duration_weight
        return (
            Phase(
                name=DISCRIMINATOR,
                optimizer=self.discriminator_optimizer,
                losses={"adversarial": 1.0},
                begins=begins,
            ),
            Phase(
                name=GENERATOR,
                optimizer=self.optimizer,
                losses=losses,
                loss_begins={name: step for name, step in late.items() if name in losses},
                ema_decay=self.ema_decay,
            ),
        )

    @property
    def _learns_durations(self) -> bool:
        return self.spec.settings.duration_predictor

    @cached_property
    def _generator_losses(self) -> frozenset[str]:
        return frozenset(self.phases[1].losses)

    def build(self) -> Modules:
        """Make the vocoder, its discriminators, and what measures spectra."""
        weights = self.weights
        return {
            GENERATOR: build_vocoder(self.spec),
            DISCRIMINATOR: Discriminators(weights),
            MEL: MelDistance(self.spec.sample_rate, weights.mel_windows, weights.mel_bins),
            STFT: StftDistance(weights.stft_windows),
        }

    def source(self) -> VocoderSource:
        """Open the data."""
        return VocoderSource(self.data)

    def amount(self, batch: Tensors) -> float:
        """Seconds of audio, padding not counted."""
        return float(batch[f"{FRAMES}_lengths"].sum()) * self.spec.hop_length / self.spec.sample_rate

    def counts(self, phase: str, batch: Tensors) -> Tensors:
        """Frames, padding not counted; for durations, runs."""
        found = dict.fromkeys(("adversarial", "feature", "mel", "stft"), batch[f"{FRAMES}_lengths"].sum())
        if self._learns_durations:
            found["duration"] = _inner_runs(batch)[1].sum()
        return found

    def losses(self, phase: str, modules: Modules, batch: Tensors) -> Losses:
        """Speak, and judge what was spoken.

        The vocoder alone runs in the number format of the run; spectra and discriminators are float32.
        """
        vocoder, original = modules[GENERATOR], batch[WAVEFORM]
        assert isinstance(vocoder, Vocoder)
        spoken = vocoder(batch[FRAMES], batch[f"{FRAMES}_mask"], batch[PRESENT], batch.get(SPEAKER))
        lengths = self._lengths(batch)
        frames = batch[f"{FRAMES}_lengths"].sum()
        with torch.autocast(spoken.device.type, enabled=False):
            spoken = spoken.float()
            if phase == DISCRIMINATOR:
                real, fake = self._judgements(modules, original, spoken, lengths)
                return {"adversarial": frames * discriminator_loss(real, fake, self.weights.adversarial_loss)}
            found = self._spectral(modules, spoken, original, lengths)
            found |= self._from_discriminators(modules, batch, spoken, lengths)
        sums = {name: frames * loss for name, loss in found.items() if name in self._generator_losses}
        if self._learns_durations:
            sums["duration"] = _durations(vocoder, batch)
        return sums

    def _lengths(self, batch: Tensors) -> torch.Tensor | None:
        """Give the real samples of each row; None where nothing is padded, which saves a pass over memory each."""
        if bool(batch[f"{FRAMES}_mask"].all()):
            return None
        return batch[f"{FRAMES}_lengths"] * self.spec.hop_length

    def _spectral(
        self, modules: Modules, spoken: torch.Tensor, original: torch.Tensor, lengths: torch.Tensor | None
    ) -> Tensors:
        found: Tensors = {"mel": modules[MEL](spoken, original, lengths)}
        if self.weights.stft_weight > 0:
            found["stft"] = modules[STFT](spoken, original, lengths)
        return found

    def _from_discriminators(
        self, modules: Modules, batch: Tensors, spoken: torch.Tensor, lengths: torch.Tensor | None
    ) -> Tensors:
        if not bool(batch[JUDGED]):
            return {"adversarial": spoken.new_zeros(()), "feature": spoken.new_zeros(())}
        real, fake = self._judgements(modules, batch[WAVEFORM], spoken, lengths)
        return {
            "adversarial": adversarial_loss(fake, self.weights.adversarial_loss),
            "feature": feature_loss(real, fake),
        }

    def _judgements(
        self, modules: Modules, original: torch.Tensor, spoken: torch.Tensor, lengths: torch.Tensor | None
    ) -> tuple[list[Judgement], list[Judgement]]:
        """Give what the discriminators think of recordings, and of what was spoken."""
        judges = modules[DISCRIMINATOR]
        # The vocoder learns nothing from what is thought of recordings.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not spoken.requires_grad):
            real = judges(original, lengths)
        return real, judges(spoken, lengths)

    @cached_property
    def sets(self) -> Mapping[str, tuple[bool, ...]]:
        """The sets of layers that validation speaks: which of the layers are there, by name."""
        columns = self.spec.columns
        named = validation_sets(columns) if self.spec.settings.layer_dropout else {"all": columns}
        return {name: tuple(column in chosen for column in columns) for name, chosen in named.items()}

    def judge(self, modules: Modules, batch: Tensors) -> Judged:
        """Speak each set of layers: its spectral loss and log-mel distance, and how much of all layers is heard."""
        vocoder, original, lengths = modules[GENERATOR], batch[WAVEFORM], self._lengths(batch)
        assert isinstance(vocoder, Vocoder)
        frames = batch[f"{FRAMES}_lengths"].sum()
        sums: dict[str, Sums] = {}
        losses = []
        for name, present in self.sets.items():
            heard = torch.tensor(present, device=original.device)
            spoken = vocoder.speak(batch[FRAMES], batch[f"{FRAMES}_mask"], heard, batch.get(SPEAKER))
            with torch.autocast(original.device.type, enabled=False):
                found = self._spectral(modules, spoken.waveform.float(), original, lengths)
            loss = self.weights.mel_weight * found["mel"]
            if "stft" in found:
                loss = loss + self.weights.stft_weight * found["stft"]
            losses.append(loss)
            sums |= {f"{name}_loss": Sums(frames * loss, frames), f"{name}_mel": Sums(frames * found["mel"], frames)}
            if all(present) and spoken.weights is not None:
                totals = spoken.weights.sum(dim=(0, 1))
                columns = zip(self.spec.columns, totals, strict=True)
                sums |= {f"weight_{column}": Sums(total, frames) for column, total in columns}
        return Judged(sums={**sums, "loss": Sums(frames * torch.stack(losses).mean(), frames)})

    def show(self, modules: Modules, batch: Tensors) -> Sequence[Audio | Figure]:
        """Give the first utterances as they were recorded and as each set of layers speaks them, with spectrograms."""
        vocoder = modules[GENERATOR]
        assert isinstance(vocoder, Vocoder)
        return shown(vocoder, batch, self.sets)


def _inner_runs(batch: Tensors) -> tuple[Runs, torch.Tensor]:
    """Give the runs of a micro-batch, and which have their whole length, bool (B, U): a crop may cut its ends."""
    found = runs_of(batch[FRAMES], batch[f"{FRAMES}_mask"], batch[PRESENT])
    inner = torch.zeros_like(found.mask)
    inner[:, 1:-1] = found.mask[:, 2:]
    return found, inner


def _durations(vocoder: Vocoder, batch: Tensors) -> torch.Tensor:
    """Give the summed error of log durations of inner runs."""
    found, inner = _inner_runs(batch)
    predicted = vocoder.log_durations(found.tokens, found.mask, batch[PRESENT], batch.get(SPEAKER))
    return duration_loss(predicted, found.durations, inner) * inner.sum()
