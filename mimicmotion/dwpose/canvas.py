"""Width of the canvas that poses are drawn on before the picture is made as large as a frame, in pixels."""

CANVAS_SIDE = 2160  # as published
# Of the embedded PoseNet: as wide against its pictures of 128 pixels as 2160 are against 576.
SMALL_CANVAS_SIDE = 480
