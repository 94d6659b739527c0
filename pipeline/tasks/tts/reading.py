"""What a trained text to speech can read, and why it cannot read something else. Loads no torch."""

from pipeline.schema import Reason
from pipeline.tasks.asr.text import Alphabet

Problem = tuple[str, str]
"""A reason, and a sentence."""
_TOLD = 10


def text_problem(alphabet: Alphabet, text: str, *, drops_unknown: bool) -> Problem | None:
    """Say why a text cannot be read; None where it can.

    Args:
        alphabet: What training has read.
        text: The text.
        drops_unknown: Whether characters outside the alphabet are left out; then one inside must be left.
    """
    letters = alphabet.spell(text)
    if not letters:
        return Reason.EMPTY_TEXT, "the text has no character"
    strange = sorted(set(letters) - alphabet.characters)
    if not strange or (drops_unknown and set(letters.replace(" ", "")) - set(strange)):
        return None
    told = ", ".join(f"{character!a}" for character in strange[:_TOLD])
    more = f" and {len(strange) - _TOLD} more" if len(strange) > _TOLD else ""
    known = "the text has no character" if drops_unknown else "the text has characters"
    which = "that the tts learned, only" if drops_unknown else "that the tts never learned:"
    return Reason.UNKNOWN_CHARACTERS, f"{known} {which} {told}{more}"


def speaker_problem(known: tuple[str, ...], name: str | None, who: str) -> Problem | None:
    """Say why a speaker cannot be told from others; None where nobody is told apart, or this one is known.

    Args:
        known: Speakers who are told apart; none for one voice.
        name: Who is to speak; None where nobody is named.
        who: Who knows them, as ``tts``.
    """
    if not known or name in known:
        return None
    told = ", ".join(sorted(known)[:5]) + (" and others" if len(known) > 5 else "")
    named = "no speaker is named" if name is None else f"the speaker {name} is named"
    return Reason.UNKNOWN_SPEAKER, f"{named}, and the {who} knows {told}"
