"""A cued session at the desk: signal check, cues, and a recording to train on."""
