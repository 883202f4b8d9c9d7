"""Two finished evaluations side by side, with paired intervals."""
