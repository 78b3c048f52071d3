"""What a study takes over from earlier ones: the table `[prior]`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.address import has_secret
from search.errors import SpecError
from search.spec.keys import keys_of
from search.spec.values import check_table, shown, study_name_of, value_of

__all__ = ["Earlier", "Prior", "parse_prior"]

MOST_STUDIES = 20


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """An earlier study; its storage is a URL, or None: the new study's."""

    name: str
    storage: str | None


@dataclass(frozen=True, kw_only=True)
class Prior:
    """The earlier studies, and how many of their best configurations run first."""

    studies: tuple[Earlier, ...]
    trials: int


def parse_prior(table: Mapping[str, Any] | None, where: str) -> Prior | None:
    """The table `[prior]`; None where there is none.

    Raises:
        SpecError: names the key, the rule, the value received and what to do.
    """
    if table is None:
        return None
    keys, here = keys_of("prior"), f"{where}: prior"
    check_table(table, "prior", keys, where)
    addresses, trials = (value_of(table, keys[key], here) for key in ("studies", "trials"))
    if not 1 <= len(addresses) <= MOST_STUDIES:
        raise SpecError(
            f"{here}: studies lists 1 to {MOST_STUDIES} studies, got {len(addresses)}; name some, "
            "or remove [prior]"
        )
    studies = []
    for address in addresses:
        name, at, url = address.partition("@") if isinstance(address, str) else ("", "", "")
        if has_secret(url):
            raise SpecError(
                f"{here}: a study file is stored and shown, so a URL in it has no password and no "
                "unusual parameter; leave it out and give it by PGPASSWORD or ~/.pgpass"
            )
        if not isinstance(address, str) or not address.isprintable():
            raise SpecError(
                f'{here}: a study is named as "NAME" or "NAME@URL", got {shown(address)}'
            )
        if at and not url:
            raise SpecError(f"{here}: behind @ stands the URL of a storage, got {shown(address)}")
        study_name_of(name, f"{here}: studies")
        studies.append(Earlier(name=name, storage=url or None))
    return Prior(studies=tuple(studies), trials=trials)
