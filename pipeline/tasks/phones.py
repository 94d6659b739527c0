"""Texts as phones, by espeak-ng: what text to speech reads with ``--units phones``.

A phone is spelt in the letters of the IPA, each of which is a symbol of its own; words keep a blank between them, and
clauses the mark that ends them. Languages are those of espeak-ng, ``en-us`` or ``de``. espeak-ng is under the GPL, so
it is an extra that no other part of the project needs.
"""

import ctypes
import os
import re
import shutil
import tempfile
import threading
import unicodedata
from functools import cache

from pipeline.errors import SettingsError

# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_IPA = 2
# espeak-ng reads a character of the next clause before it gives one back.
_CLAUSE_END = re.compile(r"([.,;:!?])\s*\S?\s*$")


def phones(text: str, language: str) -> str:
    """Spell a text in phones.

    Args:
        text: One line.
        language: Of espeak-ng.

    Returns:
        Letters of the IPA; empty where espeak-ng says nothing.

    Raises:
        SettingsError: espeak-ng is not installed, or has no such language.
    """
    return _phonemizer(language)(text)


class _Phonemizer:
    """One language of espeak-ng, which keeps its state in static variables: each has a copy of the library."""

    def __init__(self, language: str) -> None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise SettingsError(
                'units phones needs espeak-ng; install it with: pip install "strata-tokens[phones]"'
            ) from error
        self._lock = threading.Lock()
        with tempfile.TemporaryDirectory() as folder:
            own = shutil.copy(espeakng_loader.get_library_path(), folder)
            library = ctypes.CDLL(own)
        data_path = espeakng_loader.get_data_path()
        if library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data_path), 0) < 0:
            raise SettingsError(f"espeak-ng did not start with the voices in {data_path}")
        if library.espeak_SetVoiceByName(language.encode()):
            raise SettingsError(f"espeak-ng has no language {language!r}; it has en-us, en-gb, de, fr, es and others")
        self._spell = library.espeak_TextToPhonemes
        self._spell.restype = ctypes.c_char_p
        self._spell.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int)

    def __call__(self, text: str) -> str:
        """Spell a text, a clause at a time."""
        held = ctypes.create_string_buffer(text.encode("utf-8", "replace"))
        begin = ctypes.addressof(held)
        place = ctypes.c_void_p(begin)
        clauses = []
        with self._lock:
            while place.value:
                read = place.value - begin
                said = (self._spell(ctypes.byref(place), _CHARS_UTF8, _IPA) or b"").decode()
                end = place.value - begin if place.value else len(held.value)
                written = held.raw[read:end].decode("utf-8", "ignore")
                mark = _CLAUSE_END.search(written)
                clauses.append(said.strip() + (mark[1] if mark else ""))
        return unicodedata.normalize("NFC", " ".join(" ".join(clauses).split()))


@cache
def _phonemizer(language: str) -> _Phonemizer:
    return _Phonemizer(language)
