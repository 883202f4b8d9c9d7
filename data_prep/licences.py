"""Under which terms each source may be used, and whether a dataset made of it may be passed on. One owner for both.

    rows by origin ──describe_licences──▶ dataset.json "licence" ──check_may_be_passed_on──▶ one line, or silence

What is written here is a summary for a guard that must not be too generous. The published terms decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from driving.errors import LicenceError

SYNTHETIC = "synthetic"  # the origin of rows that a program drew, in whatever layout


@dataclass(frozen=True)
class Licence:
    """The terms of one source.

    Attributes:
        name: an identifier of the Hugging Face Hub ("mit", "cc-by-nc-sa-4.0"), or the licence's own name.
        url: where it is published; "" where nobody publishes any.
        may_be_passed_on: whether copies, and what is derived from them, may go to others at all.
        terms: one sentence for the data card.
    """

    name: str
    url: str
    may_be_passed_on: bool
    terms: str


LICENCES: dict[str, Licence] = {
    "physical_ai": Licence(
        "NVIDIA Autonomous Vehicle Dataset License Agreement",
        "https://huggingface.co/datasets/nvidia/PhysicalAI-Autonomous-Vehicles",
        False,
        "internal development of automated driving with NVIDIA technology; neither the data nor what is derived from "
        "it may be given to others",
    ),
    "kitti": Licence(
        "cc-by-nc-sa-3.0",
        "https://www.cvlibs.net/datasets/kitti/",
        True,
        "not commercially; name the authors; pass on under the same licence",
    ),
    "comma2k19": Licence(
        "mit", "https://github.com/commaai/comma2k19/blob/master/LICENSE", True, "keep the copyright notice"
    ),
    "bdd100k": Licence(
        "BDD100K License",
        "https://doc.bdd100k.com/license.html",
        True,
        "education, research and not-for-profit purposes; keep the notice of the Regents of the University of "
        "California in every copy",
    ),
    "nuscenes": Licence(
        "cc-by-nc-sa-4.0",
        "https://www.nuscenes.org/terms-of-use",
        True,
        "not commercially; name the authors; pass on under the same licence and with nuScenes' terms of use",
    ),
    "folder": Licence("yours to say", "", True, "videos of your own; whoever recorded them decides"),
    SYNTHETIC: Licence("yours to say", "", True, "drawn by scripts/make_synthetic_recordings.py; nobody is shown"),
}
UNKNOWN = Licence("not known", "", False, "no licence is written down for this source in data_prep/licences.py")


def find_licence(origin: str) -> Licence:
    """The terms of a source; those of one that nobody has looked up allow nothing."""
    return LICENCES.get(origin, UNKNOWN)


def describe_licences(origins: Iterable[str]) -> dict[str, Any]:
    """What dataset.json says: whether all may be passed on, and the terms of each origin."""
    terms = {origin: asdict(find_licence(origin)) for origin in sorted(set(origins))}
    return {
        "may_be_passed_on": bool(terms) and all(one["may_be_passed_on"] for one in terms.values()),
        "origins": terms,
    }


def read_licences(facts: dict[str, Any]) -> dict[str, Any]:
    """The licences of a dataset by its dataset.json; one from before they were written has those of its sources."""
    found = facts.get("licence")
    return found if isinstance(found, dict) else describe_licences(facts.get("sources", {}))


def check_may_be_passed_on(licence: dict[str, Any], what: str, *, force: bool) -> list[str]:
    """Raise where a dataset holds what may not be given to others; forced, return who forbids it, for the card.

    Args:
        licence: what `describe_licences` gave.
        what: the dataset, for the message.

    Raises:
        LicenceError: With the first source that forbids it and its licence.
    """
    if licence.get("may_be_passed_on") is True:
        return []
    origins = licence.get("origins", {})
    forbidding = {name: one for name, one in origins.items() if not one.get("may_be_passed_on")} or {"unknown": {}}
    name, terms = next(iter(forbidding.items()))
    if not force:
        raise LicenceError(
            f"{what} is derived from {name}, which may not be passed on ({terms.get('name', UNKNOWN.name)}); "
            "pass --force-licence for a copy that stays with you"
        )
    return list(forbidding)
