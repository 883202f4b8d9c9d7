"""The words of motion: verbs of the own car, who drives, and what makes a verb a denial or an advice.

Phrases are regular expressions in which a space stands for any white space.
"""

from __future__ import annotations

import re

from driving.motion_facts import ACCELERATES, BRAKES, REVERSES, STARTS, STOPS, TURNS_LEFT, TURNS_RIGHT


def _any(*phrases: str) -> str:
    return "(?:" + "|".join(re.sub(r" (?!\])", r"\\s+", phrase) for phrase in phrases) + ")"


_SPEED = "(?:(?:its|our|the|their) )?speed"
_IS = "(?:is|are|was|were|remains?|stays?|sits?|waits?)"
_HOW = r"(?: (?:\w+ly|sharp|slight|slow|wide|complete|full|brief|gentle|to|a|an|the|its|their|our))*"
_TURN = r"(?:turn|veer)(?:s|ed|ing)?"
_MAKE = _any(
    "makes?", "making", "made", "takes?", "taking", "took", "(?:execute|complete)[sd]?", "(?:execut|complet)ing",
    "perform(?:s|ed|ing)?",
)  # fmt: skip


def _turns(side: str) -> str:
    return _any(
        rf"{_TURN}{_HOW} {side}",
        rf"{_MAKE}{_HOW} {side}(?:[\s-]hand)? turn",
        rf"(?:takes?|took|taking) a{_HOW} {side}(?! lane)",
    )


_VERBS = {
    ACCELERATES: _any(
        "accelerat(?:es?|ed|ing)", "speeds? up", "speeding up", "sped up", "pick(?:s|ed|ing)? up speed",
        "gain(?:s|ed|ing)? speed", f"increas(?:es?|ed|ing) {_SPEED}",
    ),
    BRAKES: _any(
        "brak(?:es?|ed|ing)(?! (?:lights?|lamps?))", "slow(?:s|ed|ing)(?: down)?(?! of )", "slow down",
        "(?<=to[ ])slow", "(?<=we[ ])slow", "decelerat(?:es?|ed|ing)", f"reduc(?:es?|ed|ing) {_SPEED}",
    ),
    STOPS: _any(
        "stop(?:s|ped|ping)?(?! (?:signs?|lights?|lines?))", "halt(?:s|ed|ing)",
        f"(?:comes?|came|coming|rolls?) to{_HOW} (?:stop|halt|standstill)", rf"{_IS}(?: \w+ly)? (?:stationary|idle)",
        f"{_IS} at a standstill",
    ),
    STARTS: _any(
        "start(?:s|ed|ing)? (?:moving|to move|driving|again)", "(?:begins?|began) (?:moving|to move)",
        "sets? off",
        r"resum(?:es?|ed|ing) (?:\w+ )?(?:moving|driving|motion|travel|movement|course|forward)",
        "(?:pulls?|pulled|pulling|drives?|moves?|moved|moving) (?:off|away)",
    ),
    REVERSES: _any("revers(?:es|ed|ing)", "back(?:s|ed|ing) (?:up|out)", "(?:moves?|drives?|rolls?) backwards?"),
    TURNS_LEFT: _turns("left"),
    TURNS_RIGHT: _turns("right"),
}  # fmt: skip
VERBS = {kind: re.compile(rf"\b{pattern}\b", re.IGNORECASE) for kind, pattern in _VERBS.items()}
# "stop", "turn": the form that tells only after "we", and advises elsewhere.
BASE_FORM = re.compile(
    r"(?:accelerate|speed|pick|gain|increase|brake|slow|decelerate|reduce|stop|halt|start|turn|veer|make|take)\b",
    re.IGNORECASE,
)

_ACTOR = _any(
    "cars?", "vehicles?", "trucks?", "bus(?:es)?", "vans?", "suvs?", "sedans?", "taxis?", "pickups?", "trailers?",
    "trams?",
    "trains?", "pedestrians?", "cyclists?", "riders?", "motorcyclists?", "motorcycles?", "bicycles?", "bikes?",
    "scooters?",
    "persons?", "people", "man", "men", "woman", "women", "child", "children", "traffic", "drivers?", "lights?",
    "signal",
)  # fmt: skip
_PLACED = _any(
    "ahead", "in front", "behind", "on", "to", "in", "beside", "next", "that", "which", "from", "parked", "coming",
    "across", "opposite", "directly", "immediately",
)  # fmt: skip
_EGO = _any(
    r"(?:the )?ego(?:[\s-](?:vehicle|car))?", "(?:the )?(?:host|camera|recording|dash-?cam) (?:car|vehicle)",
    "(?:our|my|own|viewer's|observer's|driver's|capturing|observing) (?:car|vehicle|truck|van)",
    "we", "i", "the driver", rf"the (?:car|vehicle)(?!s| {_PLACED}\b)",
)  # fmt: skip
SUBJECT = re.compile(rf"\b(?:(?P<own>{_EGO})|(?P<other>{_ACTOR}))\b", re.IGNORECASE)
# "a slowing car", "stopped traffic": what follows the verb.
ACTOR_AFTER = re.compile(
    rf"\s+(?:(?!(?:behind|at|for|by|near|in|on|with|to|the|an?|before|after|because|due|as|while|when|and)\b)[\w-]+\s+)"
    rf"{{0,2}}{_ACTOR}\b",
    re.IGNORECASE,
)
# A noun after one of these is what is driven behind, past or towards, not who drives.
OBJECT_BEFORE = re.compile(
    r"\b"
    + _any(
        "behind", "towards?", "near", "past", "with", "for", "of", "to", "by", "from", "at",
        "between",
        "beside", "alongside", "around", "against", "into", "follow(?:s|ed|ing)?", "pass(?:es|ed|ing)?",
        "overtak(?:es?|ing)", "approach(?:es|ed|ing)?", "lets?", "letting", "allow(?:s|ed|ing)?", "sees?", "meets?",
    )
    + r"\s+(?:(?!(?:while|when|and|but|then|because|so|until|as|before|after)\b)[\w-]+\s+){0,3}$",
    re.IGNORECASE,
)  # fmt: skip
# Between a noun and its own verb: "a truck that stops", "a car turning left".
RELATIVE = re.compile(
    r"\s*(?:(?:directly\s+)?(?:ahead|in\s+front)(?:\s+of\s+\w+)?\s*)?(?:,?\s*(?:that|which|who)\s+)?"
    r"(?:(?:is|are|was|were|has|have)\s+)?(?:\w+ly\s+)?",
    re.IGNORECASE,
)

DENIES = re.compile(
    r"(?:\b" + _any("not", "never", "without", "no", "neither", "nor", "rather than", "instead of") + r"\b|n't)"
    r"\W+(?:\w+\W+){0,2}$",
    re.IGNORECASE,
)  # fmt: skip
HEDGES = re.compile(
    r"\b"
    + _any(
        "should", "must", "may", "might", "could", "can", "would", "will", "shall", "needs? to", "ready to",
        "prepared? to",
        "prepares to", "about to", "going to", "ha(?:s|ve) to", "if", "unless", "signals? to", "wait(?:s|ing)? to",
        "wants? to",
        "intends? to", "required to",
        "possibly", "perhaps", "presumably", "probably", "maybe", "likely", r"recommend\w*", r"advis\w*",
    )
    + r"\b(?:[^\w,;:]+\w+){0,4}[^\w,;:]*$",
    re.IGNORECASE,
)  # fmt: skip
BEGINS = re.compile(
    r"\b(?:begins?|began|starts?|started|continues?|continued|proceeds?|proceeded)\s+to\s+$", re.IGNORECASE
)
# "frequent stops", "including halts": nouns.
NOUN_BEFORE = re.compile(
    r"\b"
    + _any(
        "with", "including", "indicating", "frequent", "brief", "occasional", "several", "multiple", "of", "periodic",
    )
    + r"\s+$",
    re.IGNORECASE,
)  # fmt: skip
# "a Mazda is seen stopped": somebody, but not the own car.
IS_SEEN = re.compile(
    r"\b(?:is|are|was|were|be)\s+(?:seen|visible|observed|shown|spotted)\s+(?:\w+ly\s+)?$", re.IGNORECASE
)
PURPOSE = re.compile(r"\bfor\s+$", re.IGNORECASE)
INFINITIVE = re.compile(r"\bto\s+(?:\w+ly\s+)?$", re.IGNORECASE)
