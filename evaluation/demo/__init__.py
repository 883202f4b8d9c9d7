"""A local web page: choose a clip, see the answer."""
