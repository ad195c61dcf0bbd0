"""English. Keys are shared by all languages; {names} are filled in by the program."""

from ui.translations.en import general, measuring

TEXTS: dict[str, str] = {**general.TEXTS, **measuring.TEXTS}
