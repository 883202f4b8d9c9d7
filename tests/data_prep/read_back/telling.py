"""What the readers of chats tell of a sample, alike. Run inside other environments; not a test itself."""


def tell_sample(input_ids, labels, batch, tokenizer):
    """Its text, what of it is supervised (-100 is not), and the mean of each of its video's frames, 0 to 255.

    The patches lie as (pairs of frames * height * width, 3 * 2 * pixels), normalised to -1 to 1.
    """
    ((pairs, height, width),) = batch["video_grid_thw"].tolist()
    patches = batch["pixel_values_videos"].reshape(pairs, height * width, 3, 2, -1)
    return {
        "text": tokenizer.decode(input_ids),
        "supervised": tokenizer.decode([token for token in labels if token != -100]),
        "greys": ((patches.mean((1, 2, 4)).flatten() + 1) * 127.5).tolist(),
    }
