"""Trials: a cell with a seed, as the settings of its training and of its evaluation.

A trial is named by a content key: the task's settings, its layers, the seed, the keys of what it is trained and
tested on, and those of the trials that speak and hear its test. Cells of two factors, or of two studies in one folder,
that ask for the same are one trial.
"""

import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

from pipeline.enhancement.settings import EnhanceConfig
from pipeline.errors import SettingsError
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.settings import Settings, setting_paths
from pipeline.store.dataset import canonical, sha256
from pipeline.store.storage import join
from pipeline.study.planning.cells import Cell, TokensOf, cells
from pipeline.study.planning.checking import made
from pipeline.study.planning.parts import Part, Parts
from pipeline.study.settings import RunStudyConfig
from pipeline.study.speech import Speech
from pipeline.study.table import HEARD, SPOKEN, VOCODER, Study
from pipeline.synthesis.speaking.settings import SpeakConfig
from pipeline.tasks.settings import TrainTaskConfig
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.vocoder.training.settings import TrainVocoderConfig

KEY_VERSION = 1
_ITS_OWN = {
    *("task", "output", "manifest", "tokens", "features", "codebooks", "clean_manifest", "clean_tokens"),
    *("target_layers", "seed", "runner", "threads_per_worker", "use_gpu", "num_workers", "max_workers", "storage_path"),
    *("model", "vocoder", "recorded", "compare"),
}
"""Settings of trainings and evaluations that a study sets."""
MODEL, TEST, HEARD_BY = "model", "test", "heard"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A training and its evaluation.

    Attributes:
        key: Of its content.
        cell: The cell; where several are the same trial, the first one.
        seed: Of the training.
        folder: Where it is written.
        training: Settings of train_task or train_vocoder.
        evaluation: Settings of evaluate.
        speech: How its test is spoken and heard; None where it is not.
    """

    key: str
    cell: Cell
    seed: int
    folder: str
    training: TrainTaskConfig | TrainVocoderConfig
    evaluation: EvaluateConfig
    speech: Speech | None = None

    @property
    def name(self) -> str:
        """What the trial is called, as ``asr, num_clusters 500, seed 1``."""
        return f"{self.cell.name}, seed {self.seed}"

    def inputs(self) -> set[str]:
        """Name all datasets and folders that it reads or writes."""
        configs: list[Settings] = [self.training, self.evaluation]
        if self.speech is not None:
            configs += [self.speech.say, self.speech.again, self.speech.listen]
        read = {value for config in configs for value in config.flat().values() if isinstance(value, str)}
        return read if self.speech is None else read | {self.speech.manifest}

    def command(self, output: str) -> str:
        """Give the command that trains it again, into ``again/``, with the study's folder as ``study``.

        Args:
            output: The study's folder.
        """
        job = "train_vocoder" if self.cell.task.name == VOCODER else "train_task"
        words = ["python", f"jobs/{job}.py", *flags(self.training.but(output=f"again/{self.key}"))]
        return shlex.join([word.replace(output, "study") for word in words])


def plan_trials(study: Study, config: RunStudyConfig) -> tuple[list[Trial], Parts]:
    """Plan all trials of a study and what they share; writes nothing.

    Returns:
        The trials, seed by seed of each cell, those of the first seed before the others; and the parts.

    Raises:
        SettingsError: A setting is wrong; the message names its table.
    """
    for name in study.corpora:
        # One that no cell uses is planned for its checks alone.
        Parts(study, config).manifest(name)
    laid, parts = cells(study), Parts(study, config)
    parts.plan(_tokens_asked(study, laid))
    asked = [(seed, cell) for seed in study.seeds for cell in laid]
    others = [_trial(study, config, parts, cell, seed) for seed, cell in asked if not _is_heard(cell)]
    plain = iter(others)
    found = [
        _heard_trial(study, config, parts, cell, seed, others) if _is_heard(cell) else next(plain)
        for seed, cell in asked
    ]
    return found, parts


def unlike(trials: Iterable[Trial]) -> list[Trial]:
    """Give each trial once: the first of those with one key."""
    found: dict[str, Trial] = {}
    for trial in trials:
        found.setdefault(trial.key, trial)
    return list(found.values())


def _is_heard(cell: Cell) -> bool:
    """Say whether a cell is judged by what is heard of its speech."""
    return cell.task.name in SPOKEN and cell.task.metric in HEARD


def _tokens_asked(study: Study, laid: Collection[Cell]) -> list[TokensOf]:
    found = []
    for cell in laid:
        mine = [cell.tokens]
        if cell.task.name == "se":
            mine += [replace(cell.tokens, corpus=cell.task.test)] if cell.task.test else []
            mine += [_clean(study, tokens) for tokens in mine]
        found += mine
    return list(dict.fromkeys(found))


def _clean(study: Study, tokens: TokensOf) -> TokensOf:
    """Name the tokens of the clean speech of a noisy corpus: those with the same codebooks."""
    clean = study.corpora[tokens.corpus].clean
    assert clean is not None, f"corpus {tokens.corpus} is noisy"
    return replace(tokens, corpus=clean)


def _trial(
    study: Study, config: RunStudyConfig, parts: Parts, cell: Cell, seed: int, after: Sequence[Trial] = ()
) -> Trial:
    """Plan a trial; ``after`` are those whose models its test is spoken and heard by."""
    tokens = parts.tokens(cell.tokens)
    made_of: dict[str, Part] = {"tokens": tokens, "manifest": parts.manifest(cell.tokens.corpus)}
    settings: dict[str, Any] = dict(cell.settings)
    if cell.settings.get("embedding_init") == "centroids":
        made_of["codebooks"] = parts.codebooks(cell.tokens)
    if cell.task.name == "se":
        clean = _clean(study, cell.tokens)
        made_of |= {"clean_tokens": parts.tokens(clean), "clean_manifest": parts.manifest(clean.corpus)}
        settings["target_layers"] = cell.layers
    if settings.get("fusion") == "single":
        settings.setdefault("fusion_layer", f"layer_{cell.layers[-1]:02d}")
    if own := sorted(_ITS_OWN & (set(cell.settings) | set(cell.task.judging))):
        raise SettingsError(f"{_table(cell)}: {', '.join(own)} is set by the study itself; leave it away")
    tested_on = _tested_on(study, parts, cell)
    told = {
        "version": KEY_VERSION,
        "task": cell.task.name,
        "settings": settings,
        "judging": dict(cell.task.judging),
        "layers": list(cell.layers),
        "seed": seed,
        "threads": config.threads_per_trial,
        "parts": {what: part.key for what, part in made_of.items()},
        "tested_on": {what: part.key for what, part in tested_on.items()},
        "after": [trial.key for trial in after],
    }
    key = sha256(canonical(told).encode())[:12]
    folder = join(config.output, "trials", cell.task.name, key)
    places = {what: part.uri for what, part in made_of.items()}
    return Trial(
        key=key,
        cell=cell,
        seed=seed,
        folder=folder,
        training=_training(config, cell, seed, {**settings, **places, "output": join(folder, MODEL)}),
        evaluation=_evaluation(cell, places, {what: part.uri for what, part in tested_on.items()}, folder),
    )


def _tested_on(study: Study, parts: Parts, cell: Cell) -> dict[str, Part]:
    """Give the parts of the corpus that is a test of its own, by their settings of evaluate."""
    if cell.task.test is None:
        return {}
    if cell.task.name != "se":
        return {"manifest": parts.manifest(cell.task.test)}
    noisy = replace(cell.tokens, corpus=cell.task.test)
    clean = _clean(study, noisy)
    return {
        "manifest": parts.manifest(noisy.corpus),
        "tokens": parts.tokens(noisy),
        "clean_manifest": parts.manifest(clean.corpus),
        "clean_tokens": parts.tokens(clean),
    }


def _training(
    config: RunStudyConfig, cell: Cell, seed: int, settings: Mapping[str, Any]
) -> TrainTaskConfig | TrainVocoderConfig:
    alone = {"runner": "here", "threads_per_worker": config.threads_per_trial, "seed": seed, "layers": cell.layers}
    table = _table(cell)
    if config.gpus_per_trial:
        alone["use_gpu"] = True
    if cell.task.name == VOCODER:
        return made(TrainVocoderConfig, table, {**settings, **alone})
    return made(TrainTaskConfig, table, {**settings, **alone, "task": cell.task.name})


def _table(cell: Cell) -> str:
    """Name the tables that a cell's settings come from."""
    return f"tasks.{cell.task.name}" + (f" with factors.{cell.factor}.levels.{cell.level}" if cell.factor else "")


def _evaluation(cell: Cell, places: Mapping[str, str], tested_on: Mapping[str, str], folder: str) -> EvaluateConfig:
    model, table = join(folder, MODEL), f"tasks.{cell.task.name}.judging"
    values: dict[str, Any] = {"output": join(folder, TEST), "examples": 0, **cell.task.judging}
    if cell.task.name == VOCODER:
        values |= {"vocoder": model, "manifest": places["manifest"], "tokens": places["tokens"]}
    else:
        values["model"] = model
    if cell.task.name == "se" and tested_on:
        values |= {"sides": ("all",), **tested_on}
    return made(EvaluateConfig, table, values)


def _heard_trial(
    study: Study, config: RunStudyConfig, parts: Parts, cell: Cell, seed: int, others: Collection[Trial]
) -> Trial:
    """Plan a trial whose test is spoken and heard by what others train."""
    vocoder = _vocoder_of(cell, seed, others)
    listener = next(
        each for each in others if each.cell.task.name == "asr" and not each.cell.factor and each.seed == seed
    )
    trial = _trial(study, config, parts, cell, seed, (vocoder, listener))
    return replace(trial, speech=_speech(config, parts, trial, vocoder, listener))


def _speech(config: RunStudyConfig, parts: Parts, trial: Trial, vocoder: Trial, listener: Trial) -> Speech:
    """Say how the test of a trial is spoken and heard."""
    task, cell = trial.cell.task, trial.cell
    assert task.test is not None
    speech, again = join(trial.folder, "speech"), join(trial.folder, "speech_tokens")
    common = {"task": join(trial.folder, MODEL), "vocoder": join(vocoder.folder, MODEL), "layers": cell.layers,
              "output": speech, "runner": "here", "threads_per_worker": config.threads_per_trial,
              "max_reject_fraction": 1.0}  # fmt: skip
    test = parts.manifest(task.test).uri
    say: EnhanceConfig | SpeakConfig
    if task.name == "se":
        noisy = parts.tokens(replace(cell.tokens, corpus=task.test))
        say = made(EnhanceConfig, "tasks.se", {**common, "tokens": noisy.uri, "manifest": test})
    else:
        say = made(SpeakConfig, "tasks.tts", {**common, "text_file": join(trial.folder, "texts.jsonl")})
    heard = parts.codebooks(listener.cell.tokens)
    encoder = parts.tokens(listener.cell.tokens).config.flat()
    manifest = join(speech, "_manifest")
    retold = {"manifest": manifest, "codebooks": heard.uri, "encoder": encoder["encoder"], "output": again,
              "layers": encoder["layers"], "num_clusters": encoder["num_clusters"], "agreement_frames": 0,
              "runner": "here"}  # fmt: skip
    listening = {"model": join(listener.folder, MODEL), "manifest": manifest, "tokens": again, "sides": ("all",),
                 "examples": 0, "output": join(trial.folder, HEARD_BY)}  # fmt: skip
    return Speech(
        say=say,
        manifest=test,
        again=made(TokenizeCorpusConfig, f"tasks.{task.name}", retold),
        listen=made(EvaluateConfig, f"tasks.{task.name}", listening),
        min_frames=listener.training.flat()["min_frames"],
        after=(vocoder.key, listener.key),
    )


def _vocoder_of(cell: Cell, seed: int, trials: Collection[Trial]) -> Trial:
    """Find the vocoder of the same tokens, layers and seed: that of the same level, or else that of the centre.

    Raises:
        SettingsError: The study trains none.
    """
    fit = [
        each for each in trials
        if each.cell.task.name == VOCODER and each.seed == seed and each.cell.layers == cell.layers
        and replace(each.cell.tokens, corpus=cell.tokens.corpus) == cell.tokens
    ]  # fmt: skip
    same = [each for each in fit if (each.cell.factor, each.cell.level) == (cell.factor, cell.level)]
    found = same or [each for each in fit if not each.cell.factor]
    if not found:
        raise SettingsError(
            f"factors.{cell.factor}.levels.{cell.level} makes other tokens for {cell.task.name} than any vocoder "
            f"speaks; add {VOCODER} to the tasks of this factor, or leave {cell.task.name} out of it"
        )
    return found[0]


def flags(config: Settings) -> list[str]:
    """Spell the settings that are not the defaults out as flags."""
    plain, found = _defaults(type(config)), []
    for name, value in config.flat().items():
        if value == plain.get(name, MISSING):
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            found.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            found += [flag, *map(str, value)]
        elif value is not None:
            found += [flag, str(value)]
    return found


def _defaults(kind: Any) -> dict[str, Any]:
    """Give the default of each setting that has one, by its flat name."""
    found: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for each in fields(kind):
        inner = hints[each.name]
        if is_dataclass(inner):
            group = None if each.default_factory is MISSING else each.default_factory()
            found |= _defaults(inner) if group is None else {name: _at(group, path) for name, path in
                                                            setting_paths(inner).items()}  # fmt: skip
        elif each.default is not MISSING:
            found[each.name] = each.default
    return found


def _at(group: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        group = getattr(group, step)
    return group
