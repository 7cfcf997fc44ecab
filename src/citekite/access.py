"""Access lists: the groups that may see a document, and which documents the holder of some groups may write."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from citekite.errors import AccessDenied, DocumentError, SettingsError

AccessList = tuple[str, ...]
"""Names of groups, sorted; empty for everyone."""

EVERYONE = "everyone"
MOST_GROUPS = 64
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

_PROTECTED = (
    "a document of this source is stored for other readers, and a key changes only documents whose access list is "
    "within its own groups: have the holder of an unrestricted key sync it, or give it another name"
)


def check_group(name: str) -> str:
    """The name, if a group can have it; raises `SettingsError`.

    >>> check_group("hr@example.com")
    'hr@example.com'
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{name!r} is no name of a group: it has 1 to 64 of the characters A-Z, a-z, 0-9, '_', '.', '@' and '-'"
        )
    if name == EVERYONE:
        raise SettingsError(f"{EVERYONE!r} is no group: in an access list it stands alone, for all readers")
    return name


def access_list(groups: str | Iterable[str]) -> AccessList:
    """The access list of these groups; of none, or of `everyone` alone, that of a document for all readers.

    Raises `SettingsError`.

    >>> access_list(["legal", "hr"]), access_list("everyone")
    (('hr', 'legal'), ())
    """
    names = {groups} if isinstance(groups, str) else set(groups)
    if names == {EVERYONE}:
        return ()
    if len(names) > MOST_GROUPS:
        raise SettingsError(f"an access list names at most {MOST_GROUPS} groups, not {len(names)}")
    return tuple(sorted(map(check_group, names)))


@dataclass(frozen=True, slots=True)
class Grant:
    """Which access list a sync gives to documents, and which documents it may change.

    `given` is the list that it was told, None where it was told none: a document keeps the list that it has, and a new
    one is for `groups`, or for everyone where these are None: then every document may be changed, else those alone
    whose list is within them. Documents for everyone are changed by who has no group, or is not restricted to any.
    """

    given: AccessList | None = None
    groups: frozenset[str] | None = None

    @classmethod
    def make(cls, access: str | Iterable[str] | None, groups: frozenset[str] | None) -> Grant:
        """The grant of a sync with that argument; raises `AccessDenied` for a list that is not within the groups."""
        given = None if access is None else access_list(access)
        grant = cls(given, groups)
        if given is not None and not grant.may_change([given]):
            assert groups is not None
            raise AccessDenied(
                f"documents for {', '.join(given) or EVERYONE} cannot be written with the groups "
                f"{', '.join(sorted(groups)) or 'none'}: an access list has to be within them"
            )
        return grant

    @property
    def for_new(self) -> AccessList:
        """The access list of a document that is not stored yet."""
        return self.given if self.given is not None else access_list(self.groups or ())

    def may_change(self, stored: Iterable[AccessList]) -> bool:
        """Whether a document whose rows have these access lists may be replaced and deleted."""
        if self.groups is None:
            return True
        return all(self.groups.issuperset(access) and bool(access) == bool(self.groups) for access in stored)

    def check(self, stored: Iterable[AccessList]) -> None:
        """Raise `DocumentError` where the document may not be changed; the message tells nothing of its list."""
        if not self.may_change(stored):
            raise DocumentError(_PROTECTED)

    def list_for(self, stored: Collection[AccessList]) -> AccessList:
        """The access list that a document gets whose rows have these lists now.

        They are more than one after a sync that gave another list and was killed: the narrower one is kept, and
        `DocumentError` raised where none is.
        """
        if self.given is not None or not stored:
            return self.for_new
        restricted = [set(access) for access in stored if access]
        if not restricted:
            return ()
        if common := set.intersection(*restricted):
            return tuple(sorted(common))
        raise DocumentError(
            "a sync that was to change its access list was interrupted: give the list that it should have (--access)"
        )
