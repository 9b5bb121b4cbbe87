"""The look of a report: its style sheet, for screens of any width, light or dark, and paper."""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

_LIGHT: Final = """
--page: #ffffff; --box: #f5f7f9; --line: #dfe4e8; --ink: #22303c; --soft: #55606b;
--grid: #e8ebee; --edge: #c5cbd1; --reference: #8a9199; --current: #2a6f97; --moved: #c8640f;
--found: #a8480a; --found-box: #fdf1e6; --nothing: #23703f; --nothing-box: #eaf5ee;
--unsaid: #55606b; --unsaid-box: #eef1f4;
"""

_DARK: Final = """
--page: #14191e; --box: #1c232a; --line: #323c45; --ink: #e6ebef; --soft: #a3aeb8;
--grid: #2a333b; --edge: #46525c; --reference: #7d8791; --current: #5aa9d6; --moved: #f0954a;
--found: #f5a767; --found-box: #33241a; --nothing: #7fcf9b; --nothing-box: #18291f;
--unsaid: #a3aeb8; --unsaid-box: #232b33;
"""

STYLE: Final = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }}
main {{ max-width: 70rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 3rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .5rem; }}
h3 {{ font-size: 1rem; margin: 1.5rem 0 .5rem; }}
p {{ margin: .4rem 0; max-width: 48rem; }}
code {{ font: .92em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }}
article + article {{ border-top: 2px solid var(--line); margin-top: 3rem; padding-top: 2rem; }}
.facts {{ display: flex; flex-wrap: wrap; gap: .15rem 1.5rem; margin: .5rem 0 1rem; padding: 0;
  color: var(--soft); font-size: .92rem; }}
.facts div {{ display: flex; gap: .4rem; }}
.facts dd {{ margin: 0; color: var(--ink); overflow-wrap: anywhere; }}
.summary {{ border-left: .3rem solid var(--unsaid); background: var(--box); border-radius: .25rem;
  padding: 1rem 1.25rem; }}
.summary.found {{ border-color: var(--moved); }}
.summary.nothing {{ border-color: var(--nothing); }}
.summary h2 {{ margin-top: 0; font-size: 1.3rem; }}
.summary h3 {{ margin-bottom: .25rem; }}
.topics {{ list-style: none; margin: .5rem 0; padding: 0; }}
.topics li {{ display: grid; grid-template-columns: 12.5rem 1fr; gap: .1rem 1rem; padding: .45rem 0;
  border-top: 1px solid var(--line); }}
.topics li:first-child {{ border-top: 0; }}
.topics p {{ margin: 0; overflow-wrap: anywhere; }}
.topics .name {{ font-weight: 600; }}
.tag {{ display: inline-block; border-radius: .8rem; padding: 0 .6rem; font-size: .82rem;
  font-weight: 600; white-space: nowrap; color: var(--unsaid); background: var(--unsaid-box); }}
.tag.found {{ color: var(--found); background: var(--found-box); }}
.tag.nothing {{ color: var(--nothing); background: var(--nothing-box); }}
ol, ul.plain {{ padding-left: 1.3rem; margin: .3rem 0; max-width: 48rem; }}
.scroll {{ overflow-x: auto; border: 1px solid var(--line); border-radius: .25rem; }}
.scroll:focus-visible {{ outline: 2px solid var(--current); }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }}
th, td {{ padding: .4rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }}
tbody tr:last-child > * {{ border-bottom: 0; }}
thead th {{ color: var(--soft); font-weight: 600; background: var(--box); white-space: nowrap; }}
tbody th {{ font-weight: 600; overflow-wrap: break-word; min-width: 8.5rem; max-width: 16rem; }}
td.number, th.number {{ text-align: right; white-space: nowrap; }}
td.why {{ min-width: 14rem; max-width: 26rem; overflow-wrap: anywhere; }}
td.others {{ min-width: 13rem; color: var(--soft); }}
td.others span {{ display: inline-block; white-space: nowrap; margin-right: .7rem; }}
.soft {{ color: var(--soft); font-size: .9rem; }}
.figures {{ display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); }}
.figures.wide {{ grid-template-columns: 1fr; }}
figure {{ margin: 0; border: 1px solid var(--line); border-radius: .25rem; padding: .7rem .8rem;
  min-width: 0; break-inside: avoid; }}
figure.wide {{ overflow-x: auto; }}
figure.wide svg {{ min-width: 36rem; }}
figcaption {{ display: flex; justify-content: space-between; gap: .6rem; font-weight: 600;
  margin-bottom: .3rem; overflow-wrap: anywhere; }}
figure svg {{ display: block; width: 100%; height: auto; stroke-linejoin: round;
  font-family: inherit; }}
details {{ margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }}
summary {{ cursor: pointer; font-weight: 600; }}
dl.words dt {{ font-weight: 600; margin-top: .6rem; }}
dl.words dd {{ margin: 0; max-width: 48rem; }}
footer {{ margin-top: 2.5rem; color: var(--soft); font-size: .85rem; }}
@media (max-width: 40rem) {{
  .topics li {{ grid-template-columns: 1fr; }}
  .summary {{ padding: .8rem 1rem; }}
  td.why {{ min-width: 11rem; }}
}}
@media print {{
  :root {{ color-scheme: light; {_LIGHT} }}
  body {{ font-size: 10pt; }}
  main {{ max-width: none; padding: 0; }}
  .scroll {{ overflow: visible; }}
  figure.wide svg {{ min-width: 0; }}
  .figures {{ grid-template-columns: 1fr 1fr; }}
  .figures.wide {{ grid-template-columns: 1fr; }}
  h2, h3 {{ break-after: avoid; }}
  tr, .summary {{ break-inside: avoid; }}
}}
"""
