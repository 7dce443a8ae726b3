"""Data sets: ImageNet folders and the embedded digits, calibration lists, verification."""
