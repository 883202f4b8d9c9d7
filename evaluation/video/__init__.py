"""Any video file in, the same video with the predicted path drawn on it out."""
