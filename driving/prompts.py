"""Every sentence we say to a model, named once."""

PHYSICAL_AI_SYSTEM = (
    "You are an autonomy stack assistant that must predict the next second of ego motion as velocity/curvature pairs."
)
HISTORY_START = "Ego motion during this clip"  # no other line of a prompt begins so
HISTORY_HEAD = HISTORY_START + ", {num_pairs} pairs of (velocity in m/s, curvature{sign_hint}), oldest first: "


def format_motion_system(duration_s: float) -> str:
    """PHYSICAL_AI_SYSTEM for a future of another length than its second."""
    return PHYSICAL_AI_SYSTEM if duration_s == 1 else PHYSICAL_AI_SYSTEM.replace("second", f"{duration_s:g} seconds", 1)


def format_motion_question(num_pairs: int, fps: str, duration: str, horizon: str, pattern: str, sign_hint: str) -> str:
    """The seed's question, with the number and the spelling of the pairs that the answer format asks for."""
    return (
        f"Given this {duration}, {fps} FPS driving clip, output exactly {num_pairs} pairs of (velocity in m/s, "
        f"curvature{sign_hint}) for the next {horizon} as {pattern}. No prose, just the list."
    )
