"""Tokens of a waveform without Ray: one folder holds the encoder, its codebooks and the settings.

``pipeline.tokenizer.Tokenizer`` is this with the way back. Shapes: S samples, T frames, K clusters, Q residual stages.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import soxr

from pipeline import schema
from pipeline.audio.decode import to_float32
from pipeline.errors import CodebookMismatchError, FeatureError
from pipeline.features.encoders import shipped
from pipeline.features.passes.extractor import FeatureExtractor, Rejected
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.read_codebooks import read_codebooks
from pipeline.kmeans.residual import chains
from pipeline.store.dataset import canonical
from pipeline.store.storage import Store, open_store
from pipeline.tokens.quantize import check_codebooks, quantize

CONFIG = "config.json"
ENCODER = "encoder"
CODEBOOKS = "codebooks"
FORMAT = "strata-tokenizer"


class WaveformTokenizer:
    """An encoder and the codebooks of its layers; gives the tokens that tokenize_corpus writes.

    Attributes:
        layers: Encoder layers, ascending.
        encoder_sha256: Hash of the encoder, as codebooks and vocoders name it.
        sample_rate: Rate at which the encoder hears, Hz; ``encode`` resamples to it.
        hop_length: Samples a frame.
        frame_rate: Frames a second.
        num_clusters: K by layer.
        num_quantizers: Residual stages (Q) by layer.
        pads: Whether the corpus job pads batches of this encoder. Its float32 tokens then equal those given here up
            to near-ties; where it does not, always.
    """

    def __init__(self, extractor: FeatureExtractor, codebooks: Sequence[Codebook]) -> None:
        encoder = extractor.encoder
        check_codebooks(
            codebooks,
            encoder_sha256=encoder.weights_sha256,
            dim=encoder.dim,
            normalize_waveform=encoder.normalize_waveform,
        )
        found = chains(codebooks)
        layers = [layer for layer, _ in found]
        if layers != list(encoder.layers):
            raise CodebookMismatchError(
                f"the encoder gives layers {list(encoder.layers)}, codebooks exist for {layers}; "
                "there must be one for each"
            )
        self._extractor = extractor
        self.codebooks = [book for chain in found.values() for book in chain]
        self.layers = tuple(layers)
        self.num_clusters = {layer: num_clusters for layer, num_clusters in found}
        self.num_quantizers = {layer: len(chain) for (layer, _), chain in found.items()}
        self.encoder_sha256 = encoder.weights_sha256
        self.sample_rate = encoder.sample_rate
        self.hop_length = encoder.hop_length
        self.frame_rate = encoder.frame_rate
        self.pads = encoder.can_pad

    @classmethod
    def from_pretrained(cls, folder: str, *, device: str = "cpu", threads: int = 1) -> Self:
        """Load a folder that ``save_bundle`` wrote, or the encoder that ships with its codebooks.

        Args:
            folder: Local folder, or ``encoder-small``: layers 2, 4 and 6, K = 500.
            device: A torch device.
            threads: Compute threads on CPU; the corpus job's default is 1.

        Raises:
            CodebookMismatchError: It is no such folder, or its parts do not belong together.
        """
        if shipped.is_shipped(folder):
            ships = FeatureExtractor(encoder=folder, layers=shipped.LAYERS, device=device, threads=threads)
            return cls(ships, read_codebooks(folder, shipped.LAYERS, shipped.NUM_CLUSTERS))
        root = Path(folder)
        try:
            config = json.loads((root / CONFIG).read_text())
            if config["format"] != FORMAT:
                raise KeyError(config["format"])
        except (OSError, ValueError, KeyError) as error:
            raise CodebookMismatchError(
                f"{folder} is no tokenizer folder ({error!r}); run_pipeline writes one to OUTPUT/tokenizer"
            ) from error
        books = []
        for entry in config["codebooks"]:
            path = root / CODEBOOKS / entry["file"]
            book = Codebook.from_bytes(path.read_bytes(), str(path))
            if book.sha256 != entry["sha256"]:
                raise CodebookMismatchError(f"{path} is not the codebook that {CONFIG} names; restore the folder")
            books.append(book)
        extractor = FeatureExtractor(
            encoder=str(root / ENCODER),
            layers=sorted({book.layer for book in books}),
            dtype=config["dtype"],
            device=device,
            normalize_waveform=config["normalize_waveform"],
            batch_seconds=config["batch_seconds"],
            window_seconds=config["window_seconds"],
            window_margin_seconds=config["window_margin_seconds"],
            threads=threads,
        )
        return cls(extractor, books)

    def encode(self, waveform: np.ndarray, sample_rate: int) -> dict[int, np.ndarray]:
        """Tokenise one utterance.

        Args:
            waveform: (S,) float in [-1, 1] of any width, as ``soundfile.read`` gives it, or int16; it is not changed.
            sample_rate: Its rate, Hz; resampled to the encoder's where it differs.

        Returns:
            By layer, uint16 in [0, K): (T,), or (T, Q) where the layer has Q > 1 residual stages.

        Raises:
            TypeError: The waveform is neither floats nor int16.
            ValueError: The waveform is not (S,), or not finite as float32.
            FeatureError: It is too short for one frame, or its features do not fit float16.
        """
        samples = as_waveform(waveform, sample_rate, self.sample_rate)
        found = self._extractor.extract([samples])[0]
        if isinstance(found, Rejected):
            raise FeatureError(f"waveform cannot be tokenised: {found.reason}: {found.detail}")
        return quantize(found, self.codebooks).tokens


def as_waveform(waveform: np.ndarray, sample_rate: int, wanted_rate: int) -> np.ndarray:
    """Give samples as networks hear them.

    Args:
        waveform: (S,) float in [-1, 1] of any width, or int16; it is not changed.
        sample_rate: Its rate, Hz.
        wanted_rate: Rate of what is given, Hz.

    Returns:
        float32 (S,).

    Raises:
        TypeError: The waveform is neither floats nor int16.
        ValueError: The waveform is not (S,), or not finite as float32.
    """
    samples = np.asarray(waveform)
    if samples.ndim != 1:
        raise ValueError(f"waveform must be (S,), one channel, got shape {samples.shape}")
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            samples = samples.astype(np.float32)
    else:
        samples = to_float32(samples.astype(samples.dtype.newbyteorder("="), copy=False))
    if not np.isfinite(samples).all():
        raise ValueError("waveform holds values that are not finite")
    if sample_rate != wanted_rate:
        samples = soxr.resample(samples, sample_rate, wanted_rate, quality="HQ")
    return samples


def save_bundle(
    target: str,
    *,
    encoder_files: Callable[[], Mapping[str, bytes]],
    codebooks: Sequence[Codebook],
    settings: Mapping[str, Any],
) -> None:
    """Write the folder that ``from_pretrained`` loads; its config last, so that half a folder is refused.

    A folder that holds just this already is left as it is.

    Args:
        target: Local folder or s3:// prefix.
        encoder_files: Reads the encoder's files by name, as ``config.json``, ``model.safetensors``.
        codebooks: Of each layer one codebook, or the stages of one chain.
        settings: ``dtype``, ``normalize_waveform``, ``batch_seconds``, ``window_seconds`` and
            ``window_margin_seconds`` of the encoder pass.
    """
    store: Store = open_store(target)
    books = {
        schema.codebook_name(book.layer, book.num_clusters, book.quantizer): book
        for book in sorted(codebooks, key=lambda book: (book.layer, book.quantizer))
    }
    entries = [{"file": name, "layer": book.layer, "sha256": book.sha256} for name, book in books.items()]
    config = {"format": FORMAT, "schema_version": schema.SCHEMA_VERSION, "codebooks": entries, **settings}
    # A codebook's hash holds its encoder's: the same config means the same folder.
    if store.exists(CONFIG) and store.read(CONFIG) == canonical(config).encode():
        return
    for name, data in encoder_files().items():
        store.write(f"{ENCODER}/{name}", data)
    for name, book in books.items():
        store.write(f"{CODEBOOKS}/{name}", book.to_bytes())
    store.write(CONFIG, canonical(config).encode())
