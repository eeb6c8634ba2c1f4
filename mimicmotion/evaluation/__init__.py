"""How good results are, in figures that others can repeat; nothing here makes a result.

run          a folder of results from settings to figures, one bad clip among good ones
measuring    one clip measured, or taken from what is kept of it
workers      clips measured on Ray workers: what each does, and what all must agree in
items        which clips a folder holds, by their records, and where their inputs lie
targets      what a clip is held against: poses fitted to the reference, the reference, true frames
instruments  what is measured with, known before any of it is opened
meters       one pass through a clip's frames: each meter takes blocks of frames and gives numbers at the end
keypoints    meter of body, hands and face: distances to the poses wanted, and what is missing
pixels       meter of PSNR, SSIM, change and sharpness against true frames; true videos of another size or rate
perceptual   learned and computed perceptual distances of clips
perceptual_weights  where the learned one's weights lie
identity     meter of likeness to the reference by the model's own image encoder
brought      networks that the user brings: FVD by I3D, FID-VID, CSIM by ArcFace
frechet      distance of two sets of features, added up clip by clip
kept         what was measured of each clip, kept by content
summary      means with intervals, the protocol in words and values; JSON and CSV
page         the worst and the best clips on one page for a browser; page.html is what it is made of
strips       the pictures of a clip on that page
sessions     sessions of world models from settings to figures
worlds       their measures: closure, flow against actions, drift
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "keypoints": ["PoseMeter", "compare_poses"],
        "perceptual": ["StLpips", "gradient_histogram_distance"],
        "perceptual_weights": ["find_st_lpips"],
        "pixels": ["PixelMeter", "true_frames"],
        "run": ["evaluate_results"],
        "sessions": ["evaluate_sessions"],
        "worlds": ["colour_shift"],
    },
)
