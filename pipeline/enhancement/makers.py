"""What a worker of enhance does: the noisy tokens of a shard in, clean ones in their place, their speech out."""

from collections.abc import Iterator, Mapping

import numpy as np

from pipeline.errors import CorruptDatasetError
from pipeline.synthesis.makers import SpeechMaker, SpeechTask
from pipeline.tasks.enhancer import Enhancer


class EnhancedSpeechMaker(SpeechMaker):
    """Enhances and speaks one shard after the other.

    Tokens are enhanced utterance by utterance, so clean ones follow from an utterance alone.
    """

    def __init__(self, task: SpeechTask, enhancement: str, device: str) -> None:
        """Load the enhancement and the vocoder.

        Args:
            task: What is to be done.
            enhancement: Folder of the task se.
            device: A torch device.
        """
        super().__init__(task, device)
        self._uri, self._enhance = task.given.uri, Enhancer(enhancement, device)

    def rows(self, unit: str) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
        """Give ids, and the clean tokens of each.

        Raises:
            CorruptDatasetError: An id is none of its codebook's.
        """
        for utterance_id, tokens in super().rows(unit):
            try:
                yield utterance_id, self._enhance(tokens)
            except ValueError as error:
                where = f"{utterance_id} of {self._uri}"
                raise CorruptDatasetError(f"{where}: {error}; the tokens are not those of these codebooks") from error
