"""The spine: the nouns of driving data. Standard library and numpy only; every other room may import it."""
