"""Lines for the user, printed once however many ranks there are."""

from lightning_utilities.core.rank_zero import rank_zero_only


def say(text: str) -> None:
    """Print a line on rank 0 only.

    Args:
        text: The line.

    Example:
        >>> say("prior: reused")
        prior: reused
    """
    if getattr(rank_zero_only, "rank", 0) == 0:
        print(text, flush=True)
