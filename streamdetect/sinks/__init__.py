"""Where decisions go: files and Lab Streaming Layer outlets."""
