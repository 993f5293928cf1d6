"""The words of docs/generators.md; `fit_page` fills in what stands in double braces."""

PAGE = """# Generators: links and grids without files

Scenarios with `kind: generated` need no trace: links are drawn by `envs/generate_links.py`, grid zones by
`envs/generate_zones.py`. Their parameters, in `configs/links` and `configs/zones`, are fitted to recordings.
This page, its pictures and those files are made by

    {{COMMAND}}

"Recorded, fitted" is what the parameters were fitted to, "generated" is what comes out of them, "recorded,
check only" was not looked at by the fit. Each file in `configs/` names its source, licence and credit.

## How links are made

1. Per episode: a family by weight, and a base RTT from the measured levels (medians of pieces).
2. Per second: a regime from a Markov chain. *good*; *degraded*: RTT above 1.5 x the level (assumed border);
   *lossy*: some probes were lost; *blocked*: no reply at all, or a mean reply over 1 s. Leaving a regime has
   its measured probability, blocked its measured mean stay; the ways in are scaled so that each regime takes
   its measured share of the time.
3. RTT = base x multiple. The multiple is read from the regime's measured quantiles by a normal score whose
   memory (a slow part, and a part new each second) is fitted to the autocorrelation of the recorded ranks.
4. Loss is zero outside lossy seconds. There it is the measured per-second loss: what TCP may see comes in
   bursts, and radio links hide most of the rest below IP, so a mean ping loss is not spread over all seconds.
   A drive recording has five probes a second, so its loss moves in steps of 20 %.
5. Jitter within a second is a measured multiple of the RTT (from the slowest reply of 5 or about 20; Starlink
   and WiFi recordings lack it, there the change between neighbouring seconds stands in: assumed).
6. Uplink rate: a shape around the episode's median, with quantiles and memory of three saturated cellular
   uplinks (2013 and 2016, floor 5 % of the median). That it holds for every family, and that it falls to 0.6
   in degraded and 0.8 in lossy seconds, is assumed: no recording has rate and RTT together.

## How grids are made

The mean of an hour is a 24-hour profile that swings with the season, plus a half-yearly term and a weekend
shift. The residual is read from its measured quantiles by a score that sums a slow and a fast AR(1). The sum
is cut at the lowest and highest recorded value. Electricity Maps files: fitted on 2022, checked on 2023. EIA
files: fitted on the first 6400 hours of 2022, checked on the rest of it, which is another season.

## Links, recorded / generated

{{LINK_SUMMARY}}

What does not fit:

- **Levels differ between recordings more than a fit can know.** The check columns below (other months, other
  roads, the end of a recording) mostly differ from the fitted ones more than the generated ones do.
- **us-drive**: the tail is too thick at p95 and too thin at p99: the worst seconds cluster in certain places,
  while the generator draws level and regime independently. Autocorrelation at 1 s is a little too low. A
  burst lasts 30 s, so nothing is known about longer memory or about stalls over 30 s.
- **starlink**: the terminal smooths its statistics over seconds, so changes are gentler than a packet sees;
  no second is blocked and the RTT ends at Starlink's point of presence. The 15 s rhythm of the satellite
  schedule is not modelled, only its mean memory.
- **5g**: autocorrelation at 1 s is too low; the transport is reliable, so there is no loss to fit.
- **5g-rural**: fitted to 267 s; p95 comes out a fifth too low. Its last part is blocked
  for 43 % of the time, the fitted part for 4 %. A sketch of a link with stalls, no more.
- **wifi**: one home link that moved to another level half-way; generated medians fall between its two levels,
  and the check has almost no memory, where the generated has that of the move.

{{LINKS}}

## Grids, recorded / generated

{{ZONE_SUMMARY}}

What does not fit: regions differ from year to year (check columns), which one fitted year cannot show; the
residual has the same spread all year, so the lowest quantiles of windy and sunny grids (GB, DE,
New South Wales, Ontario) are off by up to 13 %; Bonneville's p25 comes out a third too
high, Ontario's median 9 %; zones are drawn independently of each other.

{{ZONES}}
"""
