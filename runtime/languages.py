"""The languages that Whisper was trained on: codes, English names, and what users call them.

Codes and names are those of openai/whisper, whisper/tokenizer.py, in the order of the vocabulary;
the hub's models use the same codes in their tokens. Cantonese is in large-v3 and its turbo alone.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from jetlift.runtime.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Collection

LANGUAGES: dict[str, str] = {
    "en": "English", "zh": "Chinese", "de": "German", "es": "Spanish", "ru": "Russian",
    "ko": "Korean", "fr": "French", "ja": "Japanese", "pt": "Portuguese", "tr": "Turkish",
    "pl": "Polish", "ca": "Catalan", "nl": "Dutch", "ar": "Arabic", "sv": "Swedish",
    "it": "Italian", "id": "Indonesian", "hi": "Hindi", "fi": "Finnish", "vi": "Vietnamese",
    "he": "Hebrew", "uk": "Ukrainian", "el": "Greek", "ms": "Malay", "cs": "Czech",
    "ro": "Romanian", "da": "Danish", "hu": "Hungarian", "ta": "Tamil", "no": "Norwegian",
    "th": "Thai", "ur": "Urdu", "hr": "Croatian", "bg": "Bulgarian", "lt": "Lithuanian",
    "la": "Latin", "mi": "Maori", "ml": "Malayalam", "cy": "Welsh", "sk": "Slovak",
    "te": "Telugu", "fa": "Persian", "lv": "Latvian", "bn": "Bengali", "sr": "Serbian",
    "az": "Azerbaijani", "sl": "Slovenian", "kn": "Kannada", "et": "Estonian", "mk": "Macedonian",
    "br": "Breton", "eu": "Basque", "is": "Icelandic", "hy": "Armenian", "ne": "Nepali",
    "mn": "Mongolian", "bs": "Bosnian", "kk": "Kazakh", "sq": "Albanian", "sw": "Swahili",
    "gl": "Galician", "mr": "Marathi", "pa": "Punjabi", "si": "Sinhala", "km": "Khmer",
    "sn": "Shona", "yo": "Yoruba", "so": "Somali", "af": "Afrikaans", "oc": "Occitan",
    "ka": "Georgian", "be": "Belarusian", "tg": "Tajik", "sd": "Sindhi", "gu": "Gujarati",
    "am": "Amharic", "yi": "Yiddish", "lo": "Lao", "uz": "Uzbek", "fo": "Faroese",
    "ht": "Haitian Creole", "ps": "Pashto", "tk": "Turkmen", "nn": "Nynorsk", "mt": "Maltese",
    "sa": "Sanskrit", "lb": "Luxembourgish", "my": "Myanmar", "bo": "Tibetan", "tl": "Tagalog",
    "mg": "Malagasy", "as": "Assamese", "tt": "Tatar", "haw": "Hawaiian", "ln": "Lingala",
    "ha": "Hausa", "ba": "Bashkir", "jw": "Javanese", "su": "Sundanese", "yue": "Cantonese",
}  # fmt: skip

# Further names, and ISO 639-1's own code for Javanese, which the vocabulary does not use.
ALIASES: dict[str, str] = {
    "burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb",
    "pushto": "ps", "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si",
    "castilian": "es", "mandarin": "zh", "jv": "jw",
}  # fmt: skip

# Written without spaces between words.
WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
_NEAR = 3


def language_code(asked: str, offered: Collection[str]) -> str:
    """The code of a language that a user names.

    Args:
        asked: A code or an English name, in any case: 'ja', 'Japanese'.
        offered: Codes that the model has tokens for.

    Raises:
        UnknownNameError: There is no such language, or the model does not have it.
    """
    named = {name.lower(): code for code, name in LANGUAGES.items()} | ALIASES
    key = asked.strip().lower()
    code = named.get(key, key)
    if code in offered:
        return code
    if code in LANGUAGES:
        raise UnknownNameError(
            f"This model has no {LANGUAGES[code]} ({code})",
            expected=f"One of its {len(offered)} languages",
            do="Leave --language out to have it detected, or use whisper-large-v3",
        )
    known = [
        *(c for c in offered if c in LANGUAGES),
        *(n for n, c in named.items() if c in offered),
    ]
    near = [_shown(named.get(n, n)) for n in difflib.get_close_matches(key, known, n=_NEAR)]
    raise UnknownNameError(
        f"Language {asked!r} is unknown",
        expected="A code or an English name, as in ja or Japanese",
        do=f"Did you mean {' or '.join(dict.fromkeys(near))}?" if near else "",
    )


def _shown(code: str) -> str:
    return f"{code} ({LANGUAGES[code]})"
