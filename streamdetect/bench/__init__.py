"""The measurements behind ``streamdetect bench``."""
