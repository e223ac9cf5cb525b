"""The states of Brazil and their regions, by IBGE; names are understood with or without accents, in any case, and as UF codes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

REGIONS: Mapping[str, tuple[str, ...]] = {
    "N": ("AC", "AM", "AP", "PA", "RO", "RR", "TO"),
    "NE": ("AL", "BA", "CE", "MA", "PB", "PE", "PI", "RN", "SE"),
    "CO": ("DF", "GO", "MS", "MT"),
    "SE": ("ES", "MG", "RJ", "SP"),
    "S": ("PR", "RS", "SC"),
}
STATES: Mapping[str, str] = {
    "AC": "Acre",
    "AL": "Alagoas",
    "AM": "Amazonas",
    "AP": "Amapá",
    "BA": "Bahia",
    "CE": "Ceará",
    "DF": "Distrito Federal",
    "ES": "Espírito Santo",
    "GO": "Goiás",
    "MA": "Maranhão",
    "MG": "Minas Gerais",
    "MS": "Mato Grosso do Sul",
    "MT": "Mato Grosso",
    "PA": "Pará",
    "PB": "Paraíba",
    "PE": "Pernambuco",
    "PI": "Piauí",
    "PR": "Paraná",
    "RJ": "Rio de Janeiro",
    "RN": "Rio Grande do Norte",
    "RO": "Rondônia",
    "RR": "Roraima",
    "RS": "Rio Grande do Sul",
    "SC": "Santa Catarina",
    "SE": "Sergipe",
    "SP": "São Paulo",
    "TO": "Tocantins",
}
UNKNOWN = frozenset({"", "unknown", "desconhecido", "desconhecida", "nao informado", "none", "null", "nan", "-"})


def plain(text: str | None) -> str:
    """`text` without accents, in lower case, with single spaces."""
    letters = unicodedata.normalize("NFKD", text or "")
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).casefold().split())


_STATE_OF = {plain(word): code for code, name in STATES.items() for word in (code, name)}
_REGION_OF = {code: region for region, codes in REGIONS.items() for code in codes}


def state(name: str | None) -> str | None:
    """The UF code of a state's name or code, or None. "SE" is Sergipe, never the region."""
    return _STATE_OF.get(plain(name))


def region(uf: str) -> str:
    """The region of a UF code."""
    return _REGION_OF[uf]


def is_brazil(country: str | None) -> bool:
    """Whether a country of birth is Brazil, in any of its spellings, or not known."""
    word = plain(country)
    return word in UNKNOWN or word == "br" or word.startswith("bra")
