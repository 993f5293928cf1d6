"""Why a figure of Khan et al. comes out as it does.

The contradictions are numbered as in docs/reproduce-khan.md.
"""

THROUGHPUT = "One stream: the inverse of the mean latency, which p50 and p95 do not fix."
MISSES = (
    "'15-17% or more'. Follows from the row's p50 and p95 and the profile's shortest RTT; a plain lognormal "
    "through p50 and p95 would give 18.8 %."
)
EMU_B_JOULES = "The paper says 'about 30 J (including idle time)'; the marginal account knows no network."
NO_PIXELS = "The simulator carries one accuracy, mIoU; PixAcc is a property of the trained model alone."
CARBON = (
    "Energy x 0.4 kg/kWh, printed to 0.1 mg. Contradictions (1): Figs. 3 and 4 have 3-4 mg for local; (6): "
    "with these energies offloading is cleaner only where the server's grid is below 0.171 of the device's."
)
LITTLE = (
    "Contradiction (7): eight in flight at 65 im/s are answered after 8/65 s = 123 ms on average (Little's "
    "law), so their p95 cannot be 120 ms. Throughput is fitted; the p95 follows with the LAN row's spread."
)
BATCH_JOULES = "Energy in proportion to GPU time: a batch of 8 costs as many single images as it takes long."
LOCAL_FIG_3 = (
    "Contradiction (1): 3 mg is 27 J an image, at 12 im/s 324 W in an Orin of at most 60 W. Table 2's 5.1 J "
    "and a share of idle power give less."
)
LOCAL_FIG_3_FAST = (
    "Ours is the device's fastest stream, it cannot do 16 im/s (Table 1: 12.4). Contradiction (1): 3 mg at "
    "16 im/s would be 432 W."
)
OFFLOAD_FIG_3 = (
    "Active energy plus idle power over rate. The curve through the paper's ends, 10 mg at 1 and 3.5 mg at "
    "16 im/s, passes below 4 mg at 8-12 im/s; 5 mg lies on no such curve."
)
FIG_4 = {
    "always-local": (
        "Contradictions (1), (2): 3.1 g is 28 J an image, 346 W at 12.4 im/s; and the text's own product, "
        "0.0035 g x 1000, is 3.5 g."
    ),
    "always-offload": (
        "Contradiction (1): 5 mg an image is Fig. 3's outlier; Table 2's 29.8 J and idle power shared at 16 "
        "and 8.3 im/s are less."
    ),
    "adaptive": (
        "Contradiction (3): local is the cleaner placement for every image, so the per-image oracle is "
        "always-local; the text has it offload at a slightly higher carbon."
    ),
}
SAVED = (
    "Contradiction (2): the paper also says 15-20 % (abstract) and 'over 10 %' (discussion). Here it follows "
    "from the three totals."
)
SWITCHING = (
    "Contradiction (3): section 4.3's rule, 'offload when the network is good (and offloading meets SLO), "
    "otherwise run local', played by rtt-threshold: it emits more than always-local, not less."
)
TCP_IMAGE = (
    "Contradiction (4): what one TCP connection needs for the 1 MB image over a gigabit wire (assumed; 8 ms "
    "of it is the wire)."
)
TCP_SMALL = (
    "Contradiction (4): about 30 kB is what the printed rows have room for, and even then loss recovery "
    "decides the tail."
)
