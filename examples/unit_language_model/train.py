r"""Train a small GPT-2 on an export, and compare its bits an id with those of unigrams and bigrams.

    python jobs/export_tokens.py --tokens out/tokens --manifest out/manifest --deduplicate --valid-fraction 0.1 \
        --formats megatron --output out/export
    python -m examples.unit_language_model.train --export out/export --output out/language_model

Reads: the Megatron files, ``vocabulary.json`` and, where there is one, ``card.json`` of an export in a folder that all
workers see. Writes: a folder that ``AutoModelForCausalLM`` opens, of the weights whose validation was best; beside it
``metrics.jsonl`` and ``tensorboard/``. Restart: from the latest checkpoint, with the losses of a run never stopped.
Memory: see ``pipeline/training/loop.py``; for n-grams, the driver takes 70 bytes an id (traced: 1 million ids).

All bits are over ids of utterances, without begin, prefix and end. The card's n-grams learn from one half of its sample
and predict the other. Those of this run learn from the training shards, as the model does, and predict the very ids
that the model is validated on: they are the fairest comparison. The best step is chosen by the same validation.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from safetensors.torch import save
from transformers import GPT2Config

from examples.unit_language_model.packing import Corpus
from examples.unit_language_model.recipe import NETWORK, DataSettings, LanguageModelRecipe
from pipeline import cli
from pipeline.errors import DatasetError, SettingsError
from pipeline.export.cards.making import JSON as CARD
from pipeline.export.cards.ngrams import MAX_IDS, BigramModel
from pipeline.export.grouping import TRAIN, VALID
from pipeline.export.ids.vocabulary import BEGIN, END, FILE, Vocabulary
from pipeline.export.shards.parts import read_parts
from pipeline.settings import Settings
from pipeline.store.completion import success
from pipeline.store.dataset import SUCCESS, Dataset, Output, Plan, check_folder
from pipeline.store.storage import LocalStore, absolute, join, open_store
from pipeline.training.publishing import MODEL, Trained, make_model
from pipeline.training.settings import OptimizerSettings, TrainingSettings, check_together, learning_content

logger = logging.getLogger(__name__)

DATA_VERSION = 2
"""2: the embedding is also the head, as in GPT-2, and every validation may be the best."""
BITS = "validation_rows_bits"


TRAINING = TrainingSettings(num_steps=1_000, validate_every=50, checkpoint_every=250, best_by=BITS)
OPTIMIZER = OptimizerSettings(lr=1e-3, warmup_steps=100, weight_decay=0.1)


@dataclass(frozen=True, kw_only=True)
class UnitLanguageModelConfig(Settings):
    """Settings of the example; the defaults suit an hour of speech and two CPU cores."""

    export: str
    """Folder of an export with Megatron files, local."""
    output: str
    """Folder of the model, local or s3://."""
    width: int = 256
    """Width of the model."""
    num_layers: int = 4
    """Blocks of the model."""
    num_heads: int = 4
    """Heads of attention."""
    block: int = 256
    """Ids that the model reads at a time."""
    batch_blocks: int = 8
    """Blocks of ids in a micro-batch."""
    dropout: float = 0.2
    """Dropout of embeddings, attention and activations."""
    noise: float = 0.1
    """Share of inputs that are replaced in training by others of the micro-batch."""
    training: Annotated[TrainingSettings, tyro.conf.OmitArgPrefixes] = TRAINING
    """How long, and where; the weights of the best validation are kept."""
    optimizer: Annotated[OptimizerSettings, tyro.conf.OmitArgPrefixes] = OPTIMIZER
    """How weights are updated."""

    def __post_init__(self) -> None:
        check_together(self.training, self.optimizer)
        for name, least in (("width", 1), ("num_layers", 1), ("num_heads", 1), ("block", 2), ("batch_blocks", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.width % self.num_heads:
            raise SettingsError(f"width {self.width} must be a multiple of num_heads {self.num_heads}")
        for name in ("dropout", "noise"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not self.training.validate_every:
            raise SettingsError("the report is of validations: validate_every must be at least 1, got 0")


@dataclass(frozen=True, kw_only=True)
class LanguageModelReport:
    """What a run did, for ``_report.json`` and for the person who ran it.

    Attributes:
        stage: What was made.
        output: Where.
        num_parameters: Weights of the model.
        num_steps: Steps done.
        train_ids: Ids learned from in each epoch, begin, prefix and end among them.
        epochs: How often all were learned from.
        valid_ids: Ids of utterances that validation is over.
        best_step: The step whose weights were kept.
        best_nats: Validation loss at that step, nats an id.
        bits: By what predicts: bits an id.
        below_unigram: Whether the model is below all unigrams.
        below_bigram: Whether it is below all bigrams.
        curve: Bits of validation by step.
        wall_seconds: Time this run took.
        workers: How the run lay on the cluster.
    """

    stage: str
    output: str
    num_parameters: int
    num_steps: int
    train_ids: int
    epochs: float
    valid_ids: int
    best_step: int
    best_nats: float
    bits: dict[str, float]
    below_unigram: bool
    below_bigram: bool
    curve: list[tuple[int, float]]
    wall_seconds: float
    workers: str

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [
            ("output", self.output),
            ("model", f"{self.num_parameters:,} parameters"),
            ("learned from", f"{self.train_ids:,} ids, {self.epochs:.1f} times in {self.num_steps:,} steps"),
            ("validated on", f"{self.valid_ids:,} ids of utterances"),
            ("wall time", f"{self.wall_seconds:.1f} s"),
            ("workers", self.workers),
            ("", "bits an id"),
        ]
        lines += [(name, f"{bits:.3f}") for name, bits in self.bits.items()]
        for name, below in (("unigrams", self.below_unigram), ("bigrams", self.below_bigram)):
            lines.append((f"model below {name}", "yes" if below else "NO"))
        return lines


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the driver knows before Ray starts."""

    plan: Plan
    recipe: LanguageModelRecipe
    vocabulary: Vocabulary


def prepare(config: UnitLanguageModelConfig) -> Prepared:
    """Plan the run and refuse an export or a folder that does not fit. Needs no Ray.

    Raises:
        DatasetError: The export has no finished Megatron files, or none of a side.
        PlanMismatchError: The output folder was made with other settings.
    """
    store = open_store(config.export)
    if not isinstance(store, LocalStore):
        raise SettingsError(f"export must be a local folder, its files are memory-mapped; copy {config.export} to one")
    if not store.exists(FILE):
        raise DatasetError(f"{store.uri} is no export: it has no {FILE}")
    vocabulary = Vocabulary.from_json(json.loads(store.read(FILE)), f"{store.uri}/{FILE}")
    parts = [Dataset.open(join(store.uri, "megatron", part.name)) for part in read_parts(store)]
    shards = [(part.uri, name) for part in parts for name in part.plan.units]
    train_shards, valid_shards = (
        tuple(shard for shard in shards if shard[1].startswith(f"{side}-")) for side in (TRAIN, VALID)
    )
    if not train_shards or not valid_shards:
        raise DatasetError(
            f"{store.uri}/megatron needs shards of {TRAIN} and {VALID}; set --valid-fraction of the export"
        )
    data = DataSettings(
        train=train_shards,
        valid=valid_shards,
        block=config.block,
        batch_blocks=config.batch_blocks,
        noise=config.noise,
        end=vocabulary.special(END),
        seed=config.training.seed,
    )
    network = _network(config, vocabulary)
    content = {
        "data_version": DATA_VERSION,
        "parts": [success(part)["dataset_sha256"] for part in parts],
        "network": network,
        "batch_blocks": config.batch_blocks,
        "noise": config.noise,
        **learning_content(config.training, config.optimizer),
    }
    plan = Plan(
        kind="language-model",
        content=content,
        lineage={"kind": "language-model", "vocabulary": vocabulary.to_json(), **content},
        units=[MODEL],
        extension=".safetensors",
    )
    check_folder(open_store(config.output), plan)
    recipe = LanguageModelRecipe(data=data, network=network, optimizer=config.optimizer)
    return Prepared(plan=plan, recipe=recipe, vocabulary=vocabulary)


def _network(config: UnitLanguageModelConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary.size,
        "n_positions": config.block,
        "n_embd": config.width,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout),
        "bos_token_id": vocabulary.special(BEGIN),
        "eos_token_id": vocabulary.special(END),
    }


def train_language_model(config: UnitLanguageModelConfig) -> LanguageModelReport:
    """Train, keep the weights of the best validation, and compare.

    Raises:
        DatasetError: The export does not fit.
        TrainingError: A loss is not finite, or workers were lost too often.
        PlanMismatchError: The output folder was made with other settings.
    """
    began = time.monotonic()
    prepared = prepare(config)

    def publish(dataset: Dataset, trained: Trained) -> Output:
        return _published(dataset, prepared, trained)

    made = make_model(config, config.output, prepared.plan, lambda: prepared.recipe, config.training, publish)
    return _report(made.dataset, config, prepared, made.workers, began)


def _published(dataset: Dataset, prepared: Prepared, trained: Trained) -> Output:
    """Write the model's config, and give its weights and what they tell of themselves."""
    progress, network = trained.progress, GPT2Config(**prepared.recipe.network, architectures=["GPT2LMHeadModel"])
    validations = [line for line in progress.history if BITS in line]
    best = next(line for line in validations if line["step"] == trained.checkpoint.progress.step)
    weights = trained.checkpoint.weights(NETWORK)
    # The head is the embedding, which stands in the file once, as transformers writes it.
    tensors = {name.removeprefix("model."): weights[name] for name in weights if name != "model.lm_head.weight"}
    dataset.store.write("config.json", network.to_json_string().encode())
    return Output(
        data=save(tensors, metadata={"format": "pt"}),
        rows=sum(tensor.numel() for tensor in tensors.values()),
        notes={
            "best": best,
            "curve": [(int(line["step"]), line[BITS]) for line in validations],
            "steps": progress.step,
            "learned_ids": progress.amount,
        },
    )


def _report(
    dataset: Dataset, config: UnitLanguageModelConfig, prepared: Prepared, workers: str, began: float
) -> LanguageModelReport:
    commit = dataset.read_commit(MODEL)
    if commit is None:
        raise DatasetError(f"{dataset.uri} has {SUCCESS} and no commit; restore the folder or train again elsewhere")
    data = prepared.recipe.data
    train_corpus, valid_corpus = Corpus(data.train), Corpus(data.valid)
    best, curve = commit.notes["best"], [(step, bits) for step, bits in commit.notes["curve"]]
    bits = {"model, best step": best[BITS], "model, last step": curve[-1][1]}
    bits |= ngram_bits(train_corpus, valid_corpus, prepared.vocabulary.used)
    bits |= card_bits(Path(absolute(config.export)) / CARD)
    train_ids = int(train_corpus.lengths.sum())
    learned = sum(int(train_corpus.document(number).learned.sum()) for number in range(len(train_corpus)))
    return LanguageModelReport(
        stage="language-model",
        output=dataset.uri,
        num_parameters=commit.data.rows,
        num_steps=int(commit.notes["steps"]),
        train_ids=train_ids,
        epochs=commit.notes["learned_ids"] / learned,
        valid_ids=len(_pairs(valid_corpus)),
        best_step=int(best["step"]),
        best_nats=best["validation_rows_nats"],
        bits=bits,
        below_unigram=best[BITS] < min(value for name, value in bits.items() if name.startswith("unigram")),
        below_bigram=best[BITS] < min(value for name, value in bits.items() if name.startswith("bigram")),
        curve=curve,
        wall_seconds=time.monotonic() - began,
        workers=workers,
    )


def card_bits(path: Path) -> dict[str, float]:
    """Read what an export's card says of n-grams: bits an id by kind; nothing where there is no card."""
    if not path.exists():
        logger.warning("%s is not there; n-grams are compared with those of the shards alone", path)
        return {}
    ngrams = json.loads(path.read_text())["ngrams"] or {"orders": [], "held_out": None}
    names = {1: "unigram", 2: "bigram"}
    found = {
        f"{names[order['order']]}, card, plain": order["bits"] for order in ngrams["orders"] if order["order"] in names
    }
    if held_out := ngrams["held_out"]:
        found |= {f"{name}, card, held out": held_out[f"{name}_bits"] for name in names.values()}
    return found


def ngram_bits(train_corpus: Corpus, valid_corpus: Corpus, num_ids: int) -> dict[str, float]:
    """Price the validation ids by unigrams and bigrams of the training documents.

    Args:
        train_corpus: What n-grams are counted on.
        valid_corpus: What they predict.
        num_ids: Ids of the vocabulary that stand for something.

    Returns:
        Bits an id of utterances; the first id of an utterance follows its beginning.
    """
    model = BigramModel(*np.unique(_pairs(train_corpus), return_counts=True), num_ids=num_ids)
    pairs = _pairs(valid_corpus)
    return {
        "unigram, training shards": float(-np.log2(model.unigram(pairs & MAX_IDS)).mean()),
        "bigram, training shards": float(-np.log2(model.bigram(pairs)).mean()),
    }


def _pairs(corpus: Corpus) -> np.ndarray:
    """Pack each id of an utterance with the one before it plus 1, 0 at its beginning, as ``BigramModel`` wants it."""
    found = [np.zeros(0, np.int64)]
    for number in range(len(corpus)):
        document = corpus.document(number)
        before = np.concatenate([np.zeros(1, np.int64), document.ids[:-1] + 1])[: len(document.ids)]
        before[document.starts[document.starts < len(before)]] = 0
        found.append((before * (MAX_IDS + 1) + document.ids)[document.rows & document.learned])
    return np.concatenate(found)


if __name__ == "__main__":
    cli.run(train_language_model, description=__doc__)
