"""The panel: what of the plugin needs Qt."""
