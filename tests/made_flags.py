"""The flags of every job as the command line takes them; ``python -m tests.made_flags`` writes the golden file anew."""

import json
import warnings
from pathlib import Path

import tyro

from pipeline import cli

GOLDEN = Path(__file__).parent / "golden" / "flags.json"


def flags(kind):
    """Give each flag of a settings class: how it is spelt, what it takes, and its help, which ends with the default."""
    with warnings.catch_warnings():
        # tyro has no other way yet to ask for the flags without printing them.
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(kind, config=getattr(cli, "FLAT", ()))
    found = {}
    for action in parser._actions:
        spelt = {"spelt": sorted(action.option_strings), "takes": str(action.metavar), "many": str(action.nargs)}
        name = min(each for each in action.option_strings if not each.startswith("--no-"))
        found[name] = {**spelt, "required": action.required, "help": action.help}
    return dict(sorted(found.items()))


def all_flags():
    """Give the flags of all jobs, by job."""
    return {job: flags(cli.config_class(cli.stage_of(job))) for job in sorted(cli.JOBS)}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(all_flags(), indent=1, sort_keys=True) + "\n")
