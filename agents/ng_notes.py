"""Why a figure of Ng et al. comes out as it does; docs/reproduce-ng.md says more."""

FITTED_DEVICE = "Fixes the TX2's service time, 18.82 ms (configs/scenarios/ng-network.yaml)."
FITTED_OFFLOAD = (
    "Fixes the payload, 5.92 kB, given the A2's 13 ms. Eq (7) takes the link for M/M/1; frames of one size make "
    "it M/D/1, so the simulator's mean is 40 ms: still twice the device's."
)
FITTED_LEVELS = (
    "Fixes the A2's service time (12.3 to 15 ms would do; 13 taken). The clocks are those of the TX2's table, "
    "service inverse to the clock (assumed)."
)
FITTED_YOLO = "Fixes YOLOv8n's payload, 43.5 kB (41 to 48 would do)."
FITTED_TENANTS = (
    "Fixes YOLOv8n's service times, 55 ms on the TX2 and 17.5 ms on the A2: offloading must pay with 30 and 40 RPS on "
    "the server and no more with 50 and 60, near the ratio of their TFLOPS (configs/scenarios/ng-tenants.yaml)."
)
NANO_LEVELS = (
    "Does not add up with section 4.7: 13.2 ms, which keep its 10 Mbit/s below 100 RPS, are 27 ms at the lowest clock "
    "if service is inverse to the clock; offloading at 5 Mbit/s takes 22.7 ms. At most 11 ms would do here, but then "
    "offloading wins at 10 Mbit/s from at most 78 RPS on."
)
INCEPTION = "Follows from the 18 applications, TFLOPS and an interpolated payload."
YOLO_NANO = "Follows from the TX2's service time by TFLOPS."
SWITCH = (
    "The manager learns of the change from telemetry: the uplink probed once a second and smoothed, load reports "
    "up to 1 s old, and decides once a second."
)
CHANGES = "Counted over a whole episode, mean over the episodes."
TX2_TIP = (
    "Orin Nano's 15 Mbit/s fixes the RTX 4070 at 10.0 ms; this follows. At 5 Mbit/s itself the device is still ahead "
    "by 0.6 ms (3 %). Workload and rate of Fig. 4a are taken as section 4.3's (not printed)."
)
NANO_TIP = (
    "Fixes the RTX 4070's service time for MobileNetV2, 10.0 ms (by TFLOPS from the A2 it would be 2.0)."
)
CROSSOVER = "Fixes Orin Nano's service time, 13.2 ms, with k = 1.85 there and 6 on the A2."
NO_CROSSOVER = (
    "Share of the rates up to 100 RPS (assumed to be the figure's range) at which the device wins; fixes the two k. "
    "Beyond 100 RPS offloading wins at 10 Mbit/s too. With k = 1 on both sides it would from 66 RPS on."
)
APPLICATIONS = (
    "Fixes InceptionV4 on the A2, 22.7 ms; devices by TFLOPS, so that Fig. 5c's device is the TX2. Bandwidth as in "
    "case 2 (not printed)."
)
ACCURACY = (
    "The paper: forms against its testbed. Ours: forms against this simulator over {settings} settings that keep "
    "the paper's assumptions; smaller is better. Standard errors of the simulated means are at most {error:.1%}."
)
LLM = "Needs the service times of Llama-3.2-1B on both sides; none is printed, and no other sentence gives them."
