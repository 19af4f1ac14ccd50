"""Reads 400 times 4 KiB of a file ($1) at random places, and prints how many seconds that took."""
import os, random, sys, time

rnd = random.Random(4)
fd = os.open(sys.argv[1], os.O_RDONLY)
places = [rnd.randrange(os.fstat(fd).st_size // 4096) * 4096 for _ in range(400)]
begun = time.perf_counter()
for place in places:
    assert len(os.pread(fd, 4096, place)) == 4096
print(time.perf_counter() - begun)
