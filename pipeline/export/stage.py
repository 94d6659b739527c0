"""Write tokens as data that trainers of language models open: sequences of ids, documents, shards, formats.

Reads: a tokens dataset, and its manifest for what is known of recordings and speakers.
Writes, each a dataset that goes on where it was stopped:

    OUTPUT/vocabulary.json, tokenizer/, bpe/          which id stands for what
    OUTPUT/sequences/part-000/                        one row an utterance: its ids and its document
    OUTPUT/FORMAT/part-000/train-00000.*              what trainers open
    OUTPUT/README.md, card.json                       the dataset card

Another tokens dataset into the same folder becomes part-001: what was there is not touched, and the card adds up.
Restart: units and shards without a commit are done, others not.
Memory: one shard of ids in each worker, about four times (``layout.py`` has the driver's).
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from pipeline import faults
from pipeline.export.cards.making import counting_work, finished_parts, ngrams_of, write_card
from pipeline.export.cards.statistics import Statistics
from pipeline.export.formats.arrays import Spelling
from pipeline.export.formats.fairseq import dictionary
from pipeline.export.formats.files import described
from pipeline.export.formats.registry import FORMATS
from pipeline.export.ids.encoding import Encoding
from pipeline.export.ids.tokenizer_folder import FOLDER, tokenizer_folder
from pipeline.export.ids.vocabularies import read_vocabulary
from pipeline.export.makers import (
    FormatMaker,
    ScatterMaker,
    SequenceInput,
    SequenceMaker,
    scatter_units,
    statistics_of,
)
from pipeline.export.plans import lineage_of, sequences_plan
from pipeline.export.preparing import PreparedExport, encoding_of, prepare
from pipeline.export.sealing import KINDS, sealed_files
from pipeline.export.settings import ExportTokensConfig
from pipeline.export.shards.layout import Layout, lay_out
from pipeline.export.shards.parts import Part, claim_part, refuse_known
from pipeline.passed_over import PassedOver
from pipeline.store.completion import finish, read_shard_table, success
from pipeline.store.dataset import FILES, SUCCESS, Dataset, Plan
from pipeline.store.provenance import record_settings
from pipeline.store.storage import join, located
from pipeline.work.choice import Choice
from pipeline.work.executor import run_stage
from pipeline.work.reporting import StageReport
from pipeline.work.units import MakerFactory

logger = logging.getLogger(__name__)

SEQUENCES, SCATTERED = "sequences", "scattered"


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The reports of all passes of an export.

    Attributes:
        stage: ``export``.
        output: The export's folder.
        part: The part that this run wrote.
        vocabulary_size: Ids, padding included.
        shards: Shards of each format.
        stages: Reports of the passes: sequences, scattered where documents are shuffled, and each format.
        utterances: Utterances that were looked for in word times, or with a document pattern.
        matched: How many of them were met; by setting.
        passed_over: What was not met, by kind (docs/passed_over.md).
    """

    stage: str
    output: str
    part: str
    vocabulary_size: int
    shards: int
    stages: list[StageReport]
    utterances: int = 0
    matched: Mapping[str, int] = field(default_factory=dict)
    passed_over: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """Give the report as label and value pairs."""
        lines = [
            ("part", self.part),
            ("vocabulary", f"{self.vocabulary_size:,} ids"),
            ("shards", f"{self.shards:,} in each format"),
            *(
                (name, f"met {count:,} of {self.utterances:,} utterances ({count / max(1, self.utterances):.1%})")
                for name, count in self.matched.items()
            ),
            *PassedOver.of(self.passed_over).lines(),
        ]
        for report in self.stages:
            lines += [("", ""), (report.output.removeprefix(self.output).strip("/"), ""), *report.lines()]
        return lines


def export_tokens(config: ExportTokensConfig) -> ExportReport:
    """Export the tokens of a corpus, or add them to an export as its next part.

    Raises:
        SettingsError: Settings do not fit the tokens, the manifest or a format; or word times or a document pattern
            meet no utterance.
        ManifestError: With ``strict``, they do not meet some.
        PlanMismatchError: The folder was made with other settings.
    """
    prepared = prepare(located(config, "tokens", "output", "manifest", "words"))
    prepared.matching.passed_over.log(logger, prepared.tokens.uri)
    root = Dataset.create(prepared.config.output, prepared.plan)
    record_settings(root.store, prepared.config)
    refuse_known(root.store, prepared.part, prepared.tokens)
    part = claim_part(root.store, prepared.part)
    faults.point("after_part", root.uri)
    encoding = encoding_of(prepared, root.store, part)
    faults.point("after_vocabulary", root.uri)
    _write_tokenizer(root, prepared, encoding)
    faults.point("after_tokenizer", root.uri)
    choice = config.work.choice(_seconds(prepared))
    run = _Run(prepared=prepared, root=root, part=part, encoding=encoding, choice=choice)
    before = _finished_kinds(root, part)
    reports = [run.sequences()]
    layout = run.lay_out()
    faults.point("after_layout", root.uri)
    if layout.groups:
        reports.append(run.scattered(layout))
    reports += [run.written(layout, name) for name in config.formats]
    faults.point("before_card", root.uri)
    if _finished_kinds(root, part) != before or not _sealed_as_it_is(root):
        _write_card(root, encoding, choice)
    faults.point("after_card", root.uri)
    finish(root, extra={FILES: sealed_files(root.store, [done for done, _ in finished_parts(root)])})
    return ExportReport(
        stage="export",
        output=root.uri,
        part=part.name,
        vocabulary_size=encoding.vocabulary.size,
        shards=len(layout.shards),
        stages=reports,
        utterances=prepared.matching.utterances,
        matched=prepared.matching.matched,
        passed_over=prepared.matching.passed_over.to_json(),
    )


def _write_tokenizer(root: Dataset, prepared: PreparedExport, encoding: Encoding) -> None:
    """Write the folder that ``AutoTokenizer`` opens; the same vocabulary gives the same bytes."""
    vocabulary = read_vocabulary(root.store) or encoding.vocabulary
    for name, content in tokenizer_folder(vocabulary, prepared.text).items():
        root.store.write(f"{FOLDER}/{name}", content)


def _finished_kinds(root: Dataset, part: Part) -> set[str]:
    """Give what of a part is whole: its sequences and formats."""
    return {kind for kind in KINDS if root.store.exists(f"{kind}/{part.name}/{SUCCESS}")}


def _sealed_as_it_is(root: Dataset) -> bool:
    """Say whether a run has ended since the last part or format was begun, and so has written a card of them."""
    if not root.store.exists(SUCCESS):
        return False
    found = sealed_files(root.store, [done for done, _ in finished_parts(root)])
    return success(root).get(FILES) == found


def _write_card(root: Dataset, encoding: Encoding, choice: Choice) -> None:
    """Write the card of all parts; its numbers are found in tasks, so the driver stays small."""
    vocabulary = read_vocabulary(root.store) or encoding.vocabulary
    runner = choice.runner
    workers = max(1, int(sum(node.cpus for node in runner.nodes())))
    counts = list(runner.tasks(_counted, counting_work(root), workers=workers))
    (entropies,) = runner.tasks(ngrams_of, [(vocabulary,)], shared=root.uri, workers=1)
    write_card(root, encoding, vocabulary, Statistics.total(counts), entropies)


def _counted(_: None, *some: Any) -> Statistics:
    return statistics_of(*some)


def _seconds(prepared: PreparedExport) -> float:
    """Give the audio that the tokens are of, in seconds."""
    tokens = Dataset.open(prepared.config.tokens, kind="tokens")
    return float(sum(read_shard_table(tokens)["seconds"].to_pylist()))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One part on its way."""

    prepared: PreparedExport
    root: Dataset
    part: Part
    encoding: Encoding
    choice: Choice

    def folder(self, kind: str, part: str | None = None) -> str:
        return join(self.root.uri, kind, part or self.part.name)

    def sequences(self) -> StageReport:
        """Turn every utterance into a row."""
        config = self.prepared.config
        found = self.prepared.matching
        plan = sequences_plan(self.prepared.plan, self.prepared.tokens, self.encoding, self.part, found.plain_names)
        given = SequenceInput(
            tokens=config.tokens, manifest=config.manifest, encoding=self.encoding, corpus=self.part.corpus
        )
        return self._run(self.folder(SEQUENCES), plan, partial(SequenceMaker, given, plan))

    def lay_out(self) -> Layout:
        """Plan the shards, once all rows are there."""
        sequences = Dataset.open(self.folder(SEQUENCES), kind="sequences")
        return lay_out(sequences, success(sequences)["dataset_sha256"], self.prepared.config.shards)

    def scattered(self, layout: Layout) -> StageReport:
        """Sort rows by the shard that they go to."""
        sequences = self.folder(SEQUENCES)
        plan = Plan(
            kind=SCATTERED,
            content={"layout_sha256": layout.sha256},
            lineage=lineage_of(self.encoding, self.part, SCATTERED),
            units=scatter_units(layout),
            totals={"seconds": sum(shard.seconds for shard in layout.shards)},
        )
        return self._run(self.folder(SCATTERED), plan, partial(ScatterMaker, sequences, layout.sha256, plan))

    def written(self, layout: Layout, form: str) -> StageReport:
        """Write one format."""
        spelling = Spelling(
            vocabulary=self.encoding.vocabulary,
            pattern=self.encoding.pattern,
            frame_rate=self.encoding.frame_rate,
            lineage=lineage_of(self.encoding, self.part, "export-" + form),
            whole_files=self.prepared.no_audio_list is None,
        )
        without_list = form == "fairseq" and not spelling.whole_files
        plan = Plan(
            kind="export-" + form,
            content={"layout_sha256": layout.sha256, "format": form} | ({"audio_list": False} if without_list else {}),
            lineage=described(spelling),
            units=[shard.name for shard in layout.shards],
            totals={
                "rows": sum(shard.num_documents for shard in layout.shards),
                "seconds": sum(shard.seconds for shard in layout.shards),
            },
            extension=FORMATS[form].EXTENSION,
        )
        if form == "fairseq":
            (block,) = self.encoding.vocabulary.layers
            self.root.store.write(f"{form}/dict.km.txt", dictionary(block.size))
        scattered = self.folder(SCATTERED) if layout.groups else None
        factory = partial(FormatMaker, form, self.folder(SEQUENCES), scattered, layout, spelling, plan)
        return self._run(self.folder(form), plan, factory)

    def _run(self, folder: str, plan: Plan, factory: MakerFactory) -> StageReport:
        return run_stage(
            Dataset.create(folder, plan),
            load=None,
            factory=lambda _: factory,
            choice=self.choice,
            placement=self.prepared.config.placement,
            use_gpu=False,
            numerics_mode=self.prepared.config.numerics,
            max_reject_fraction=1.0,
        )
