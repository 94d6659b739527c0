"""What trials share: manifests, encoders, features, codebooks and tokens, each made once and named by a content key.

A key is a hash of the settings of a part and of the keys of what it is made from. So a study that is changed finds the
parts that still fit, and paths have no share in a key. The datasets themselves check what their inputs hold.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.mixtures.settings import MixCorpusConfig
from pipeline.audio.stage import BuildManifestConfig
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.settings import Settings
from pipeline.store.dataset import canonical, sha256
from pipeline.store.storage import join
from pipeline.study.planning.cells import TokensOf
from pipeline.study.planning.checking import made
from pipeline.study.random_encoder import RandomEncoderConfig
from pipeline.study.settings import RunStudyConfig
from pipeline.study.table import Study
from pipeline.tokens.settings import TokenizeCorpusConfig

KEY_VERSION = 1
_PATHS = ("corpus", "labels", "segments")
_PLAIN = re.compile(r"[^A-Za-z0-9_.+-]+")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that is made once.

    Attributes:
        kind: ``manifests``, ``encoders``, ``features``, ``codebooks`` or ``tokens``.
        name: For people.
        key: Of its content.
        uri: What others read.
        config: Of the stage that makes it.
        of: For features the corpus and the encoder, for codebooks the encoder and the corpora.
        needs: Keys of the parts that it is made from.
    """

    kind: str
    name: str
    key: str
    uri: str
    config: Settings
    of: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


class Parts:
    """The parts of a study, each planned when it is first asked for, in the order in which they can be made."""

    def __init__(self, study: Study, config: RunStudyConfig) -> None:
        """Plan nothing yet.

        Args:
            study: What is asked.
            config: Where data and output are, and who works.
        """
        self._study, self._config = study, config
        self._found: dict[tuple[Any, ...], Part] = {}
        self._whole: set[tuple[str, str]] = set()

    def plan(self, asked: Collection[TokensOf]) -> None:
        """Say which tokens are wanted: their corpora keep the features of every frame, others a sample.

        Raises:
            SettingsError: A setting is wrong; the message names its table.
        """
        self._whole |= {(tokens.corpus, tokens.encoder) for tokens in asked}
        for tokens in asked:
            self.tokens(tokens)

    def all(self) -> list[Part]:
        """Give what was planned, in the order in which it can be made."""
        return list(self._found.values())

    def behind(self, uris: Collection[str]) -> list[Part]:
        """Give the parts that some are made from, and these, in the order in which they can be made.

        Args:
            uris: Of parts; others are passed over.
        """
        wanted: set[str] = set()
        for part in reversed(self.all()):
            if part.uri in uris or part.key in wanted:
                wanted |= {part.key, *part.needs}
        return [part for part in self.all() if part.key in wanted]

    def manifest(self, name: str) -> Part:
        """Plan the manifest of a corpus."""
        return self._found.get(("manifest", name)) or self._manifest(name)

    def _manifest(self, name: str) -> Part:
        corpus = self._study.corpora[name]
        needs = {"of": self.manifest(corpus.of)} if corpus.of else {}
        settings = dict(corpus.settings)
        if corpus.kind == "mixed":
            for key in ("noises", "rooms"):
                if key in settings:
                    needs[key] = self.manifest(settings.pop(key))
        kinds: dict[str, type[Settings]] = {
            "recordings": BuildManifestConfig, "joined": ConcatenateCorpusConfig, "mixed": MixCorpusConfig
        }  # fmt: skip
        key = self._key(corpus.kind, settings, needs)
        uris = {"manifest" if what == "of" else what: part.uri for what, part in needs.items()}
        kind = kinds[corpus.kind]
        work = {} if kind is ConcatenateCorpusConfig else {"work": self._config.work}
        folder = self._folder("manifests", name, key)
        config = made(kind, f"corpora.{name}", {**self._located(settings), **uris, **work, "output": folder})
        uri = join(folder, "_manifest") if corpus.kind == "mixed" else folder
        part = Part(kind="manifests", name=name, key=key, uri=uri, config=config, needs=_keys(needs))
        return self._add(("manifest", name), part)

    def encoder(self, name: str) -> tuple[str, dict[str, Any], dict[str, Part]]:
        """Give what features are asked of: encoder, settings of its passes, and what must be made before."""
        encoder = self._study.encoders[name]
        if encoder.like is None:
            settings = dict(encoder.settings)
            return str(settings.pop("encoder")), settings, {}
        like, _, needs = self.encoder(encoder.like)
        own = ("encoder", name)
        if own not in self._found:
            key = self._key("random", {"like": like, "seed": encoder.seed}, needs)
            folder = self._folder("encoders", name, key)
            config = RandomEncoderConfig(like=like, seed=encoder.seed, output=folder)
            self._add(own, Part(kind="encoders", name=name, key=key, uri=folder, config=config, needs=_keys(needs)))
        return self._found[own].uri, dict(encoder.settings), {"encoder": self._found[own]}

    def features(self, corpus: str, encoder: str) -> Part:
        """Plan the features of a corpus: of every frame where it is tokenised, else a sample for K-means."""
        own = ("features", corpus, encoder)
        if own in self._found:
            return self._found[own]
        manifest = self.manifest(corpus)
        source, settings, before = self.encoder(encoder)
        sample = None if (corpus, encoder) in self._whole else self._study.kmeans_frames
        told = (
            {**settings, "sample_frames": sample}
            if before
            else {**settings, "encoder": source, "sample_frames": sample}
        )
        key = self._key("features", told, {"manifest": manifest, **before})
        name = f"{corpus}-{encoder}" + ("" if sample is None else "-sample")
        config = made(
            ExtractFeaturesConfig, f"encoders.{encoder}",
            {**settings, "encoder": source, "manifest": manifest.uri, "sample_frames": sample,
             "work": self._config.work, "output": self._folder("features", name, key)},
        )  # fmt: skip
        made_from = _keys({"manifest": manifest, **before})
        return self._add(
            own,
            Part(kind="features", name=name, key=key, uri=config.output, config=config, of=own[1:], needs=made_from),
        )

    def codebooks(self, tokens: TokensOf) -> Part:
        """Plan the codebooks of some tokens."""
        own = ("codebooks", tokens.encoder, tokens.codebooks_of, tokens.num_clusters)
        if own in self._found:
            return self._found[own]
        features = {name: self.features(name, tokens.encoder) for name in tokens.codebooks_of}
        told = {"num_clusters": tokens.num_clusters}
        key = self._key("codebooks", told, features)
        name = f"{'+'.join(tokens.codebooks_of)}-{tokens.encoder}-k{tokens.num_clusters}"
        config = made(
            FitKmeansConfig, f"codebooks of {name}",
            {"features": tuple(part.uri for part in features.values()), "num_clusters": (tokens.num_clusters,),
             "work": self._config.work, "output": self._folder("codebooks", name, key)},
        )  # fmt: skip
        of = (tokens.encoder, *tokens.codebooks_of)
        return self._add(
            own,
            Part(kind="codebooks", name=name, key=key, uri=config.output, config=config, of=of, needs=_keys(features)),
        )

    def tokens(self, tokens: TokensOf) -> Part:
        """Plan tokens."""
        own = ("tokens", tokens)
        if own in self._found:
            return self._found[own]
        features, books = self.features(tokens.corpus, tokens.encoder), self.codebooks(tokens)
        key = self._key("tokens", {}, {"features": features, "codebooks": books})
        name = f"{tokens.corpus}-{books.name}"
        encoding = features.config.flat()
        config = made(
            TokenizeCorpusConfig, f"tokens of {tokens.corpus}",
            {"manifest": self.manifest(tokens.corpus).uri, "features": features.uri, "codebooks": books.uri,
             "encoder": encoding["encoder"], "layers": encoding["layers"], "num_clusters": tokens.num_clusters,
             "work": self._config.work, "output": self._folder("tokens", name, key)},
        )  # fmt: skip
        made_from = _keys({"manifest": self.manifest(tokens.corpus), "features": features, "codebooks": books})
        return self._add(
            own, Part(kind="tokens", name=name, key=key, uri=config.output, config=config, needs=made_from)
        )

    def _key(self, kind: str, settings: Mapping[str, Any], needs: Mapping[str, Part]) -> str:
        told = {"version": KEY_VERSION, "kind": kind, "settings": dict(settings)}
        return sha256(canonical({**told, "needs": {what: part.key for what, part in needs.items()}}).encode())[:12]

    def _folder(self, kind: str, name: str, key: str) -> str:
        return join(self._config.output, "parts", kind, f"{_PLAIN.sub('_', name)}-{key}")

    def _located(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Give settings whose relative paths lie in the folder of the data."""
        found = dict(settings)
        for name in _PATHS:
            if isinstance(found.get(name), str):
                found[name] = self._in_data(found[name])
        if "roots" in found:
            found["roots"] = tuple(map(self._in_data, found["roots"]))
        return found

    def _in_data(self, path: str) -> str:
        there = path.startswith("/") or "://" in path
        return path if there or self._config.data is None else join(self._config.data, path)

    def _add(self, own: tuple[Any, ...], part: Part) -> Part:
        self._found[own] = part
        return part


def _keys(parts: Mapping[str, Part]) -> tuple[str, ...]:
    return tuple(part.key for part in parts.values())
