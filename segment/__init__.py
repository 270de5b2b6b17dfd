"""Segmentation of electron-microscopy volumes: a network that was trained once, served from one ONNX file.

A plugin of streamdetect: ``segment ...`` and ``streamdetect segment ...`` are the same command.
"""
