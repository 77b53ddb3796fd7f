"""The leaderboard in all its forms, and the report."""
