"""The streaming blocks, in the order of the data: health, preprocess, features, model, decision."""
