"""A trained task that enhances, loaded: noisy tokens of one utterance in, clean tokens out.

Utterances are computed one by one, so what one gives depends on no other. Letters: T frames, K clusters of a layer.
"""

import threading
from collections.abc import Mapping

import numpy as np
import torch

from pipeline.fusion.laying import lay_tokens
from pipeline.tasks.enhancement import open_enhancement
from pipeline.tasks.se.enhancing import enhance_tokens


class Enhancer:
    """A loaded network; threads that share it take turns.

    Attributes:
        trained: The folder that it comes from.
        columns: The layers that it hears.
        targets: The layers that it says.
        said: Encoder and codebooks of what it says, as a tokens dataset's lineage.
    """

    def __init__(self, uri: str, device: str) -> None:
        """Load it.

        Args:
            uri: A finished folder of ``train_task --task se``.
            device: A torch device.

        Raises:
            CorruptDatasetError: It is damaged.
            DatasetError: It is something else, or not finished.
            SettingsError: It is of another task, or hears features.
        """
        found = open_enhancement(uri)
        self.trained, self.targets, self.said = found.trained, found.targets, found.said
        self.columns = self.trained.fuser.columns
        self._model = self.trained.model(self.trained.task()).to(device)
        self._device, self._turn = device, threading.Lock()

    def __call__(self, tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Give the clean tokens of one utterance.

        Args:
            tokens: Integers (T,) of each layer that it hears, by column; others are not looked at.

        Returns:
            uint16 (T,) of each layer that it says, by column.

        Raises:
            ValueError: A layer is absent, layers differ in length, or an id is none of its codebook's; the message is
                one sentence.
        """
        if absent := [column for column in self.columns if column not in tokens]:
            raise ValueError(f"enhancement hears {', '.join(self.columns)}, and {', '.join(absent)} is not given")
        laid = torch.from_numpy(lay_tokens(tokens, self.trained.fuser, self.columns)).to(self._device)
        with self._turn:
            said = enhance_tokens(self._model, laid).cpu().numpy().astype(np.uint16)
        return {target.column: said[:, place] for place, target in enumerate(self.targets)}
