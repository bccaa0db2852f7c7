"""The campaign: damaged media, kills, full disks, racing writers, hostile bundles, settings and names, as a program.

``python bench/faults.py`` runs it whole and prints what came of it; `tests/test_campaign.py` runs a small slice. Every
case comes from a seed, so that one that fails can be made again. What is right is decided by another program where
there is one (FFmpeg's own decoder says whether a file is damaged and how many frames it holds).
"""
