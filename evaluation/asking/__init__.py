"""Questions to a model and its answers as they came, before anybody judges them."""
