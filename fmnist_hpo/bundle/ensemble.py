"""The members of an ensemble's bundle: each a bundle in a folder of its own, and how often."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from fmnist_hpo.bundle.bundle import Bundle
from fmnist_hpo.bundle.fields import Fields
from fmnist_hpo.bundle.records import Config

__all__ = ["MOST_MEMBERS", "Member", "Selection", "folder_of", "members"]

MOST_MEMBERS = 1000  # with their multiplicity


@dataclass(frozen=True, kw_only=True)
class Member:
    """A trial of an ensemble."""

    trial: int
    count: int  # how often it was chosen: its weight in the mean of the logits
    accuracy: float  # of its own weights on the validation images, 0 to 1


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How an ensemble's members were chosen, and what the validation images said of them."""

    members: tuple[Member, ...]  # different trials, in the order in which they were first chosen
    candidates: int  # trials whose weights were there
    images: int  # validation images
    single: Member  # the best candidate alone
    accuracy: float  # of the ensemble, without mirror images

    @property
    def size(self) -> int:
        """Members with their multiplicity."""
        return sum(member.count for member in self.members)

    def to_json(self) -> dict[str, Any]:
        """JSON values; `of` reads them back."""
        return {
            "members": {
                str(member.trial): {"count": member.count, "accuracy": member.accuracy}
                for member in self.members
            },
            "candidates": self.candidates,
            "images": self.images,
            "single": {"trial": self.single.trial, "accuracy": self.single.accuracy},
            "accuracy": self.accuracy,
        }

    @classmethod
    def of(cls, config: Config) -> Self:
        """The selection in an ensemble's config.json.

        Raises:
            InputError: a field is missing or absurd.
        """
        fields = config.fields.object("selection")
        found, single = fields.object("members"), fields.object("single")
        if not found.values or not all(name.isdecimal() for name in found.values):
            fields.refuse("members", "an object with a trial's number for each member")
        return cls(
            members=tuple(
                Member(
                    trial=int(name),
                    count=found.object(name).whole("count", 1, MOST_MEMBERS),
                    accuracy=_share(found.object(name)),
                )
                for name in found.values
            ),
            candidates=fields.whole("candidates", 1),
            images=fields.whole("images", 1),
            single=Member(trial=single.whole("trial"), count=1, accuracy=_share(single)),
            accuracy=_share(fields),
        )


def folder_of(trial: int) -> str:
    """The folder of a member within an ensemble's bundle, with the slash behind it."""
    return f"members/{trial}/"


def members(bundle: Bundle) -> Iterator[tuple[Member, Bundle]]:
    """Each different member of an ensemble, as the bundle that it is.

    Raises:
        InputError: config.json describes no ensemble.
    """
    for member in Selection.of(bundle.config).members:
        folder = folder_of(member.trial)
        files = {
            name.removeprefix(folder): data
            for name, data in bundle.files.items()
            if name.startswith(folder)
        }
        yield member, Bundle(path=bundle.path / folder, files=files)


def _share(fields: Fields) -> float:
    return fields.number("accuracy", 0, 1)
