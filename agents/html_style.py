"""The style of the report: light, dark and print, a phone and a wide screen. Nothing is loaded from anywhere."""

from __future__ import annotations

_LIGHT = """
  --bg: #ffffff; --card: #f4f6f8; --ink: #16181d; --muted: #525966; --line: #d5dae1; --grid: #e6e9ee;
  --learned: #b34700; --rule: #00609c; --static: #006b4b; --oracle: #16181d;
  --good: #006b4b; --bad: #a8201a; --even: #6a4c00; --wash: #fdf0e6;
  --p0: #9aa3b0; --p1: #0072b2; --p2: #e69f00; --p3: #009e73; --p4: #cc79a7; --p5: #56b4e9; --p6: #d55e00;
  --p7: #c9bd1e; --hatch: rgba(255, 255, 255, .6);
"""
_DARK = """
  --bg: #14161a; --card: #1e2127; --ink: #e9ebef; --muted: #aab1be; --line: #3a404b; --grid: #2b3038;
  --learned: #ffa066; --rule: #7cc1f5; --static: #55d3a3; --oracle: #e9ebef;
  --good: #55d3a3; --bad: #ff9a91; --even: #f0c35a; --wash: #33261d;
  --p0: #7d8694; --p1: #3b9fd9; --p2: #e69f00; --p3: #18b98c; --p4: #d58fb6; --p5: #8fd0f5; --p6: #ef7d2b;
  --p7: #f0e442; --hatch: rgba(20, 22, 26, .55);
"""

_RULES = """
:root { color-scheme: light dark; @LIGHT@ }
@media (prefers-color-scheme: dark) { :root { @DARK@ } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 84rem; margin: 0 auto; padding: 1rem clamp(.9rem, 3vw, 2.5rem) 2rem; }
h1 { font-size: 1.05rem; margin: 0 0 .6rem; font-weight: 600; color: var(--muted); }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .2rem; }
p, li { max-width: 72rem; overflow-wrap: break-word; }
p { margin: .4rem 0; }
.muted, figcaption, footer { color: var(--muted); font-size: .875rem; }
.verdict { border: 1px solid var(--line); border-left: .5rem solid var(--tone); border-radius: .5rem;
  padding: .8rem 1.1rem 1rem; background: var(--card); }
.verdict .word { font-size: clamp(1.5rem, 4.5vw, 2.3rem); font-weight: 750; line-height: 1.15; color: var(--tone);
  margin: 0 0 .3rem; }
.verdict p { margin: .2rem 0; }
.good { --tone: var(--good); } .bad { --tone: var(--bad); } .even { --tone: var(--even); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 13rem), 1fr)); gap: .7rem;
  margin: .8rem 0 0; padding: 0; }
.facts div { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
.facts dt { color: var(--muted); font-size: .875rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-weight: 700; font-variant-numeric: tabular-nums; }
.facts dd small { display: block; font-size: .875rem; font-weight: 400; color: var(--muted); }
ul.sentences { padding-left: 1.1rem; margin: .3rem 0; }
ul.sentences li { margin: .3rem 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; }
.scroll:focus-visible { outline: 2px solid var(--rule); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { font-weight: 600; color: var(--muted); vertical-align: bottom; }
td small { display: block; color: var(--muted); font-size: .8rem; line-height: 1.2; }
th[scope=row] { text-align: left; font-weight: 500; position: sticky; left: 0; background: var(--bg); z-index: 1; }
th[scope=row] svg { width: 1em; height: 1em; vertical-align: -.12em; margin-right: .35em; }
th[scope=row] .rank { display: inline-block; min-width: 1.6em; color: var(--muted); }
thead th:first-child { text-align: left; position: sticky; left: 0; background: var(--bg); z-index: 1; }
tr.learned > * { background: var(--wash); font-weight: 650; }
tr.learned td small { font-weight: 400; }
tr.cut > * { border-top: 2px solid var(--muted); }
.figures { display: grid; gap: 1.2rem 1.6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.figures.two { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 36rem; }
.two { max-width: 76rem; }
figure svg, .map svg { display: block; width: 100%; height: auto; }
.map { max-width: 44rem; overflow-x: auto; }
.map svg { min-width: 34rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: .2rem 0 0; padding: 0;
  font-size: .875rem; }
.legend li { display: flex; align-items: center; gap: .35rem; min-width: 0; overflow-wrap: anywhere; }
.legend svg { flex: none; width: 1.8rem; height: .9rem; }
code, .hash { font: .85rem/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font: .85rem/1.45 ui-monospace, monospace; margin: .5rem 0; }
dl.made { display: grid; grid-template-columns: minmax(0, 11rem) minmax(0, 1fr); gap: .15rem 1rem; margin: .5rem 0;
  font-size: .9rem; }
dl.made dt { color: var(--muted); } dl.made dd { margin: 0; overflow-wrap: anywhere; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg .tick, svg .axis, svg .note { fill: var(--muted); }
svg .strong { font-weight: 700; }
.grid { stroke: var(--grid); stroke-width: 1; fill: none; }
.leader { stroke: var(--muted); }
.rule-line { stroke: var(--ink); stroke-width: 1.2; fill: none; stroke-dasharray: 5 3; }
.front { stroke: var(--muted); stroke-width: 1.6; fill: none; stroke-dasharray: 2 3; }
.shade { fill: var(--ink); opacity: .06; }
.band { fill: var(--ink); opacity: .13; }
.whisker { stroke-width: 1.6; fill: none; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.others { stroke: var(--muted); stroke-width: 1; opacity: .45; fill: none; }
.edge { fill: none; stroke: var(--line); }
.hatched { fill: url(#hatch); }
.mark { stroke-width: 1.8; }
.mark.learned { fill: var(--learned); stroke: var(--learned); }
.mark.rule { fill: var(--rule); stroke: var(--rule); }
.mark.static { fill: var(--static); stroke: var(--static); }
.mark.oracle { fill: var(--oracle); stroke: var(--oracle); }
.mark.open { fill: var(--bg); }
.whisker.learned { stroke: var(--learned); } .whisker.rule { stroke: var(--rule); }
.whisker.static { stroke: var(--static); } .whisker.oracle { stroke: var(--oracle); }
@media (max-width: 30rem) { body { font-size: 15px; } dl.made { grid-template-columns: minmax(0, 1fr); }
  dl.made dd { margin-bottom: .4rem; } th[scope=row] { white-space: normal; min-width: 8.5rem; max-width: 9.5rem;
  overflow-wrap: anywhere; border-right: 1px solid var(--line); } }
@media print {
  :root { color-scheme: light; @LIGHT@ }
  @page { margin: 11mm; }
  html { font-size: 11.5px; } body { font-size: 9.2pt; } main { max-width: none; padding: 0; }
  h2 { margin: 1rem 0 .3rem; break-after: avoid; }
  .scroll { overflow: visible; border: 0; } table { font-size: 7.4pt; } th, td { padding: .1rem .25rem; }
  td small { font-size: 6.4pt; } th[scope=row], thead th:first-child { position: static; }
  th[scope=row] { white-space: normal; overflow-wrap: anywhere; min-width: 11.5rem; }
  thead th { white-space: normal; } .screen { display: none; }
  figure, .verdict, .facts, tr { break-inside: avoid; } h2 ~ .legend { break-after: avoid; }
  .map { max-width: 105mm; overflow: visible; } .map svg { min-width: 0; }
  .figures, .figures.two { grid-template-columns: 1fr 1fr; gap: .6rem 1rem; } .legend, figcaption { font-size: 7.5pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

STYLE = _RULES.replace("@LIGHT@", _LIGHT).replace("@DARK@", _DARK)
