"""The network: a U-Net that slices of any size can go through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from segment.errors import InputError
from segment.training.backend import load_keras

MAX_WIDTH, MAX_DEPTH = 256, 6
_LOGIT_OF_RARE = -2.5  # the head starts at 8 % foreground, so that the first steps need not learn that


@dataclass(frozen=True)
class NetworkSettings:
    """What shape the network has.

    Parameters
    ----------
    width : int
        Feature maps at the finest level; each level below has twice as many. Multiples of 16 run fastest.
    depth : int
        Levels below the finest, each of half the resolution of the one above.
    stem : {1, 2, 4}
        Side of the square of pixels that one position of the finest level stands for. 1 is the U-Net of the paper.
    slice_offsets : tuple of int
        Slices that are fed as channels, relative to the one that is segmented; odd in number, symmetric.

    Raises
    ------
    InputError
        A value is out of its range.
    """

    width: int = 16
    depth: int = 3
    stem: int = 2
    slice_offsets: tuple[int, ...] = (-2, 0, 2)

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise InputError(f"width: expected 1 to {MAX_WIDTH} feature maps, found {self.width}")
        if not 1 <= self.depth <= MAX_DEPTH:
            raise InputError(f"depth: expected 1 to {MAX_DEPTH} levels, found {self.depth}")
        if self.stem not in (1, 2, 4):
            raise InputError(f"stem: expected 1, 2 or 4 pixels, found {self.stem}")
        offsets = self.slice_offsets
        if list(offsets) != sorted({-offset for offset in offsets}) or len(offsets) % 2 == 0:
            raise InputError(f"slice_offsets: expected ascending numbers as in (-2, 0, 2), found {offsets}")

    @property
    def stride(self) -> int:
        """Height and width of an image are multiples of this many pixels."""
        return self.stem * 2**self.depth

    @property
    def radius(self) -> int:
        """How many pixels beyond a tile, whose edges are on multiples of the stride, can change an output in it.

        Examples
        --------
        >>> NetworkSettings(depth=4, stem=1).radius
        94
        """
        first, last = 8 * self.stride, 9 * self.stride - 1
        return max(_reach(first, self)[0], _reach(last, self)[1])

    @property
    def halo(self) -> int:
        """The radius rounded up to the stride."""
        return -(-self.radius // self.stride) * self.stride


def build_unet(settings: NetworkSettings) -> Any:
    """Build the network.

    Parameters
    ----------
    settings : NetworkSettings

    Returns
    -------
    keras.Model
        From normalised images of shape (n, height, width, n_slices), float32, about -1 to 1, to logits of shape (n,
        height, width, 1), float32. Height and width are free multiples of ``settings.stride``. Weights are random,
        drawn by Keras's global generator.

    Notes
    -----
    Against the paper: zero padding, so that the output has the size of the input; batch normalisation before each
    rectifier; in place of transposed convolutions, nearest-neighbour upsampling of maps that were narrowed first (a
    quarter of the work); and with ``stem`` above 1 a
    strided convolution in front and a pixel shuffle behind, which take and give ``stem`` by ``stem`` pixels a
    position: the finest level, half the cost of a U-Net, then has a quarter of the positions, and the head still
    places borders by the pixel.

    References
    ----------
    Ronneberger, Fischer & Brox 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI,
    doi:10.1007/978-3-319-24574-4_28. Ioffe & Szegedy 2015, Batch Normalization, ICML. Odena, Dumoulin & Olah 2016,
    Deconvolution and Checkerboard Artifacts, Distill, doi:10.23915/distill.00003.
    """
    keras = load_keras()
    initializers, layers = keras.initializers, keras.layers

    def convolve(x: Any, width: int, kernel: int = 3, strides: int = 1) -> Any:
        x = layers.Conv2D(
            width, kernel, strides, padding="same", use_bias=False, kernel_initializer=initializers.HeNormal()
        )(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.99)(x))

    image = layers.Input((None, None, len(settings.slice_offsets)))
    x = convolve(image, settings.width, 2 * settings.stem, settings.stem) if settings.stem > 1 else image
    skips = []
    for level in range(settings.depth):
        x = convolve(x, settings.width * 2**level)
        if level or settings.stem == 1:  # the strided convolution was the first of its level
            x = convolve(x, settings.width * 2**level)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = convolve(x, settings.width * 2**settings.depth)
    for level in reversed(range(settings.depth)):
        x = convolve(x, settings.width * 2**level)  # narrowed before it is enlarged: a quarter of the work
        x = layers.Concatenate()([layers.UpSampling2D(2)(x), skips[level]])
        x = convolve(x, settings.width * 2**level)
    x = convolve(x, settings.width)
    head = layers.Conv2D(
        settings.stem**2, 1, bias_initializer=initializers.Constant(_LOGIT_OF_RARE), dtype="float32", name="head"
    )
    return keras.Model(image, _spread(head(x), settings.stem), name="unet")


def _spread(x: Any, patch: int) -> Any:
    """Lay the ``patch`` squared maps of a position out as a square of pixels."""
    from keras import layers, ops

    class PixelShuffle(layers.Layer):  # Shi et al. 2016, doi:10.1109/CVPR.2016.207
        """From (n, height, width, patch * patch) to (n, height * patch, width * patch, 1)."""

        def call(self, maps: Any) -> Any:
            height, width = ops.shape(maps)[1], ops.shape(maps)[2]
            maps = ops.reshape(maps, (-1, height, width, patch, patch))
            return ops.reshape(ops.transpose(maps, (0, 1, 3, 2, 4)), (-1, height * patch, width * patch, 1))

        def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return (shape[0], *(n and n * patch for n in shape[1:3]), 1)

    return PixelShuffle(dtype="float32")(x) if patch > 1 else x


def _reach(position: int, settings: NetworkSettings) -> tuple[int, int]:
    """Return how far before and after a pixel the image can change its output, along one axis."""
    low = high = position // settings.stem
    for _ in range(settings.depth):  # up: two convolutions, then the nearest position of the level below
        low, high = (low - 2) // 2, (high + 2) // 2
    low, high = low - 2, high + 2
    for level in reversed(range(settings.depth)):
        low, high = 2 * low, 2 * high + 1  # down: what was pooled, then one or two convolutions
        n = 2 if level or settings.stem == 1 else 1
        low, high = low - n, high + n
    if settings.stem > 1:
        low = low * settings.stem - settings.stem // 2
        high = high * settings.stem - settings.stem // 2 + 2 * settings.stem - 1
    return position - low, high - position
