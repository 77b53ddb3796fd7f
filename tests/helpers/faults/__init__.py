"""Does harm to runs of the suite and judges what comes of it: kills, damaged files, full disks, wrong input."""
