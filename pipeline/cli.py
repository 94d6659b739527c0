"""Command lines of the jobs: flags -> config -> logging -> stage -> report; and the console script ``strata``.

A job is ``run(stage, description)``. Its flags are the fields of the config class in the stage's signature.
Order: class default < preset < flag; a flag twice is refused. The last line on standard output is the report as JSON.
"""

import contextlib
import gc
import inspect
import json
import logging
import os
import re
import signal
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any

import tyro

from pipeline.errors import PipelineError, SettingsError
from pipeline.estimation.flags import take_wishes
from pipeline.passed_over import PassedOver
from pipeline.preset_files import preset_file, read_preset
from pipeline.redaction import RedactingFormatter, holds_secret, redact, redact_json, redact_uri
from pipeline.store.provenance import record_report
from pipeline.store.storage import open_store
from pipeline.training.progress import read_standing
from pipeline.work.reporting import print_report

logger = logging.getLogger(__name__)

JOBS = {
    "run_pipeline": "pipeline.run",
    "build_manifest": "pipeline.audio.stage",
    "extract_features": "pipeline.features.stage",
    "fit_kmeans": "pipeline.kmeans.fit.stage",
    "import_codebooks": "pipeline.kmeans.imports.stage",
    "describe_codebooks": "pipeline.kmeans.cards.stage",
    "sweep_codebooks": "pipeline.kmeans.sweep.stage",
    "tokenize_corpus": "pipeline.tokens.stage",
    "export_tokens": "pipeline.export.stage",
    "pretrain_encoder": "pipeline.pretraining.stage",
    "train_task": "pipeline.tasks.stage",
    "train_vocoder": "pipeline.vocoder.training.stage",
    "synthesize": "pipeline.synthesis.stage",
    "enhance": "pipeline.enhancement.stage",
    "speak": "pipeline.synthesis.speaking.stage",
    "evaluate": "pipeline.evaluation.stage",
    "cross_validate": "pipeline.cross_validation.stage",
    "run_study": "pipeline.study.stage",
    "run_pretraining": "pipeline.pretraining.iterations.stage",
    "verify_dataset": "pipeline.store.verification",
    "check_gpu": "pipeline.gpu_check",
    "synthesize_corpus": "pipeline.audio.synthesis.stage",
    "concatenate_corpus": "pipeline.audio.concatenation.stage",
    "mix_corpus": "pipeline.audio.mixtures.stage",
    "convert_alignments": "pipeline.audio.alignments.stage",
}
"""Jobs of the console script, and the module that holds each one's stage."""

FLAT = (tyro.conf.OmitArgPrefixes,)
"""Settings are nested in code; their flags are not."""

LIBRARIES_THAT_TALK = (
    "ray",
    "httpx",
    "transformers",
    "botocore",
    "aiobotocore",
    "s3fs",
    "fsspec",
    "faiss",
    "matplotlib",
)

_FLAG = re.compile("--[A-Za-z]")

COMMON = """

common flags:
  --preset NAME_OR_FILE   settings from a TOML file or a shipped preset; flags on the line win
  --estimate              say what the run will cost (hours, bytes, time), after a few seconds of its work; writes no
                          data; for extract_features, tokenize_corpus, run_pipeline and run_study
  --estimate-hours H ...  with --estimate: size up corpora like this one, of so many hours: workers, cores, network,
                          storage, price, and what gives out first
  --estimate-days DAYS    days in which each is to be encoded (default: 7)
  --estimate-price PRICE  of one worker and its share of everything else, for an hour
  --estimate-speed SPEED  times real time of a worker of another machine, in place of the one measured here
  --status                say what is done, pending and rejected in the output, from its commits; starts no Ray
  --ray-address ADDRESS   Ray cluster to join; 'local' starts one here; default: RAY_ADDRESS, else one that runs here
  --verbose               log also details, as each iteration of K-means, and what libraries say
"""


def main() -> None:
    """Run the console script: ``strata JOB [flags]``."""
    if len(sys.argv) < 2 or sys.argv[1] not in JOBS:
        asked = len(sys.argv) >= 2 and sys.argv[1] in ("-h", "--help")
        print("usage: strata JOB [flags]; strata JOB --help\njobs: " + ", ".join(JOBS), file=sys.stderr)
        sys.exit(0 if asked else 2)
    name = sys.argv.pop(1)
    stage = stage_of(name)
    run(stage, description=inspect.getdoc(stage) or name)


def stage_of(name: str) -> Callable[[Any], Any]:
    """Import the stage of a job."""
    stage: Callable[[Any], Any] = getattr(import_module(JOBS[name]), name)
    return stage


def config_class(stage: Callable[[Any], Any]) -> type:
    """Find the config class in a stage's signature."""
    kind: type = next(iter(typing.get_type_hints(stage).values()))
    return kind


def run(stage: Callable[[Any], Any], *, description: str, args: Sequence[str] | None = None) -> None:
    """Run a stage from the command line and exit: 0 done, 1 failed, 2 wrong settings, 143 terminated.

    Args:
        stage: A function of one config dataclass, giving a report.
        description: Text of ``--help``.
        args: Arguments, default those of the process.
    """
    given = list(sys.argv[1:] if args is None else args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        refuse_secrets(given)
        refuse_twice(given, "the command line", config_class(stage))
        if "--status" in given:
            _show_status(_asked_for(given))
            return
        flags, wishes = take_wishes(given)
        config = parse(stage, flags, description)
        _record(stage(config) if wishes is None else _estimated(config, wishes))
    except SettingsError as error:
        _fail(error, 2)
    except PipelineError as error:
        _fail(error, 1)
    except Exception:
        # As Python would show it, without secrets that a library put into its message.
        sys.stderr.write(redact(traceback.format_exc()))
        sys.exit(1)
    except KeyboardInterrupt:
        _fail("interrupted; what is committed stays, run the same command to go on", 130)
    finally:
        # Python looks for garbage before it ends, a second where torch and transformers are loaded.
        gc.freeze()


def refuse_twice(words: Sequence[str], where: str, kind: type | None = None) -> None:
    """Refuse a flag that is given twice: the last one would count, and nobody would be told.

    Args:
        words: Flags and their values.
        where: Where they were found.
        kind: The config class, which tells flags that take several values.

    Raises:
        SettingsError: There is one; the message shows what to write instead.
    """
    spelt: dict[str, list[str]] = {}
    values: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if _FLAG.match(word):
            flag, equals, value = word.partition("=")
            flag = flag.replace("_", "-")
            # --no-x is the other half of --x.
            name = "--" + flag.removeprefix("--no-") if flag.startswith("--no-") else flag
            spelt.setdefault(name, []).append(flag)
            values.setdefault(name, []).extend([value] if equals else [])
        elif name:
            values[name].append(word)
    for name, flags in spelt.items():
        differ = list(dict.fromkeys(flags))
        if len(differ) > 1:
            raise SettingsError(f"{' and '.join(differ)} exclude each other, and {where} has both; leave one away")
        if len(flags) > 1:
            choices = list(dict.fromkeys(map(redact, values[name])))
            proposal = (
                f"leave one away: {' or '.join(f'{name} {each}' for each in choices)}" if choices else "once is enough"
            )
            if kind is not None and name in _of_several(kind):
                proposal = f"write all values after one: {name} {' '.join(choices)}"
            raise SettingsError(f"{where} has {name} {len(flags)} times, and only the last would count; {proposal}")


def _of_several(kind: type) -> set[str]:
    """Name the flags that take several values."""
    found = set()
    for name, hint in typing.get_type_hints(kind).items():
        if is_dataclass(hint):
            found |= _of_several(typing.cast(type, hint))
        elif typing.get_origin(hint) is tuple:
            found.add(f"--{name.replace('_', '-')}")
    return found


def refuse_secrets(words: Sequence[str]) -> None:
    """Refuse a command line that carries credentials: settings are written into every dataset.

    Raises:
        SettingsError: The message shows no secret.
    """
    flag = "a setting"
    for word in words:
        name, sign, value = word.partition("=") if word.startswith("--") else ("", "", word)
        flag = name or flag
        if holds_secret(value if sign or not name else word):
            raise SettingsError(
                f"{redact(flag)} must not carry credentials or a signed query; give them to the environment "
                f"(AWS_PROFILE, instance role): {redact_uri(value)}. A local path that only looks so begins with ./"
            )


def _fail(error: object, code: int) -> typing.NoReturn:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(code)


def parse(stage: Callable[[Any], Any], given: list[str], description: str) -> Any:
    """Build the config of a stage from preset and flags; starts logging.

    Raises:
        SettingsError: There is no such preset, a flag is given twice, or a setting is out of range.
        SystemExit: With 2, on a wrong flag.
    """
    kind = config_class(stage)
    refuse_twice(given, "the command line", kind)
    preset = _take(given, "--preset")
    address = _take(given, "--ray-address")
    if address is not None:
        os.environ["RAY_ADDRESS"] = address
    shown = logging.StreamHandler(sys.stderr)
    shown.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[shown])
    if "--verbose" in given:
        logging.getLogger("pipeline").setLevel(logging.DEBUG)
    else:
        for name in LIBRARIES_THAT_TALK:
            logging.getLogger(name).setLevel(logging.WARNING)
    flags = [flag for flag in given if flag != "--verbose"]
    if preset is not None:
        flags = [*_preset_flags(preset), *flags]
        refuse_secrets(flags)
    try:
        return tyro.cli(kind, args=flags, description=description.strip() + COMMON, config=FLAT)
    except BrokenPipeError:
        # Help that somebody stopped reading, as head does. Python would complain again when it empties its buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _asked_for(given: list[str]) -> str:
    """Find the folder whose state is asked for; the other settings do not matter to it."""
    words = list(given)
    preset = _take(words, "--preset")
    if preset is not None:
        words = [*words, *_preset_flags(preset)]
        refuse_secrets(words)
    folder = _take(words, "--output") or _take(words, "--dataset")
    if folder is None:
        raise SettingsError("--status needs the folder: --output, or --dataset for verify_dataset")
    return folder


def _take(given: list[str], flag: str) -> str | None:
    """Remove a flag of our own and its value from the line."""
    for position, word in enumerate(given):
        if word == flag and position + 1 < len(given):
            del given[position]
            return given.pop(position)
        if word.startswith(flag + "="):
            return given.pop(position).removeprefix(flag + "=")
    return None


def _preset_flags(name: str) -> list[str]:
    """Spell a preset out as flags, so that a wrong key is refused like a wrong flag."""
    flags = []
    for key, value in read_preset(name).items():
        flag = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        else:
            flags += [flag, str(value)]
    refuse_twice(flags, f"preset {preset_file(name)}")
    return flags


def _estimated(config: Any, wishes: Mapping[str, Any]) -> Any:
    # Imported where it is asked for: it knows every stage, and the encoder.
    from pipeline.study.settings import RunStudyConfig

    if isinstance(config, RunStudyConfig):
        from pipeline.study.estimating import estimate_study

        if wishes:
            raise SettingsError(
                "--estimate-hours, -days, -price and -speed are for the encoder; a study says its own size"
            )
        return estimate_study(config)
    from pipeline.estimation.sizing import SizingWishes
    from pipeline.estimation.stage import estimate

    return estimate(config, SizingWishes(**wishes))


def _show_status(output: str) -> None:
    from pipeline.status import run_status

    for state in run_status(output):
        reasons = ", ".join(f"{reason} {count}" for reason, count in state.reasons.items())
        lines = [
            ("dataset", state.uri),
            ("done", f"{state.done:,} of {state.units:,} units, {state.pending:,} pending"),
            ("rows", f"{state.rows:,} + {state.rejects:,} rejects" + (f" ({reasons})" if reasons else "")),
            ("audio", f"{state.seconds / 3600:.3f}{_of_hours(state.total_seconds)} h"),
            *PassedOver.of(state.passed_over).lines(),
            ("finished", "yes" if state.finished else "no"),
        ]
        standing = read_standing(open_store(state.uri))
        if standing is not None:
            lines.insert(-1, ("training", standing.line()))
        print_report(state.kind, lines)
        print(
            json.dumps(
                {
                    "kind": state.kind,
                    "done": state.done,
                    "pending": state.pending,
                    "rows": state.rows,
                    "rejects": state.rejects,
                    "reasons": dict(state.reasons),
                    "passed_over": dict(state.passed_over),
                    "finished": state.finished,
                }
            )
        )


def _of_hours(seconds: float) -> str:
    """Say what a dataset is to hold; nothing where its plan does not know, as of a corpus not yet read."""
    return f" of {seconds / 3600:.3f}" if seconds else ""


def _record(report: Any) -> None:
    """Write the report beside the data, show it, and print it as JSON."""
    found = redact_json(report.to_json())
    text = json.dumps(found, sort_keys=True)
    with contextlib.suppress(FileNotFoundError):
        if report.stage in ("run", "pretraining"):
            open_store(report.output).write("report.json", text.encode())
        # The output of a spoken file is no folder, and neither is that of an alignment.
        elif report.stage not in ("verify", "gpu-check", "estimate", "cards", "spoken file", "alignments"):
            record_report(open_store(report.output), found)
    print_report(report.stage, [(label, redact(value)) for label, value in report.lines()])
    print(text)
