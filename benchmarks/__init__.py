"""The suite: command line, students, recipes, evaluation, results and leaderboard."""
