"""Volumes in and out: open one of any format, read its labels, write a result.

`open_volume` finds the format and gives a `Volume`, which is read as it is sliced; there is one module a format.
"""

from segment.volumes.create import create_volume
from segment.volumes.labels import read_labels
from segment.volumes.volume import Volume, open_volume
from segment.volumes.voxel_size import VoxelSize, parse_voxel_size
from segment.volumes.writer import VolumeWriter

__all__ = ["Volume", "VolumeWriter", "VoxelSize", "create_volume", "open_volume", "parse_voxel_size", "read_labels"]
