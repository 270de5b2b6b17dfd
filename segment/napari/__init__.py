"""The plugin for napari: a widget that segments an image layer, a reader, a writer and a sample.

`napari.yaml` names what there is; napari imports a module when it is first used, and this package imports nothing.
"""
