"""One folder a language, each with the same keys. To add one: copy `en`, translate, name it here."""

from ui.translations import en

LANGUAGES: dict[str, dict[str, str]] = {"en": en.TEXTS}
