"""The login page: plain HTML of our own, so that nothing of the dashboards loads before somebody is known."""

from __future__ import annotations

from html import escape

from dashboards.theme import ACCENT_DARK, ACCENT_LIGHT

_STYLE = f"""
:root{{color-scheme:light dark;--bg:#f3f7f6;--card:#fff;--ink:#16211f;--line:#cfd9d7;--accent:{ACCENT_LIGHT};
 --on:#fff;--err:#b3202c}}
@media(prefers-color-scheme:dark){{:root{{--bg:#0e1514;--card:#18211f;--ink:#e4ecea;--line:#33413e;--accent:{ACCENT_DARK};
 --on:#06211f;--err:#ff8a91}}}}
*{{box-sizing:border-box}}
body{{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--bg);color:var(--ink);
 font:16px/1.5 system-ui,"Source Sans 3","Segoe UI",sans-serif;padding:1rem}}
main{{width:100%;max-width:25rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;padding:2rem}}
.mark{{display:flex;align-items:center;gap:.7rem;margin-bottom:1.4rem}}
h1{{font-size:1.35rem;margin:0;line-height:1.2}} .sub{{font-size:.88rem;opacity:.75}}
label{{display:block;font-size:.88rem;font-weight:600;margin:1rem 0 .3rem}}
input{{width:100%;font:inherit;color:inherit;background:transparent;border:1px solid var(--line);border-radius:.5rem;
 padding:.6rem .7rem}} input:focus-visible,button:focus-visible{{outline:3px solid var(--accent);outline-offset:1px}}
button{{width:100%;margin-top:1.5rem;font:inherit;font-weight:650;color:var(--on);background:var(--accent);border:0;
 border-radius:.5rem;padding:.7rem;cursor:pointer}}
.say{{border-left:4px solid var(--err);color:var(--err);padding:.3rem .7rem;margin-bottom:.4rem;font-size:.92rem}}
"""

_LOGO = (
    '<svg width="40" height="40" viewBox="0 0 40 40" fill="none" aria-hidden="true">'
    '<rect x="1.5" y="8" width="32" height="24" rx="6" stroke="var(--accent)" stroke-width="3"/>'
    '<rect x="35" y="15" width="4" height="10" rx="2" fill="var(--accent)"/>'
    '<path d="M19 11 11 22h6l-2 8 9-12h-6z" fill="var(--accent)"/></svg>'
)

_WAKE = """
fetch('/session',{headers:{'accept':'application/json'}}).then(r=>{if(r.ok)location.replace('/')}).catch(()=>{});
"""


def login_html(message: str = "", name: str = "") -> str:
    """The page, with a message over the form when a login failed.

    The small script is for a visitor who followed a link from elsewhere: a SameSite=Strict cookie is not sent then,
    though the visitor is logged in.
    """
    say = f'<p class="say" role="alert">{escape(message)}</p>' if message else ""
    wake = "" if message else f"<script>{_WAKE}</script>"
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Flexergy: log in</title>
<style>{_STYLE}</style></head><body><main>
<div class="mark">{_LOGO}<div><h1>Flexergy</h1><div class="sub">Energy Storage Manager</div></div></div>{say}
<form method="post" action="/login" autocomplete="on">
<label for="name">User</label><input id="name" name="name" value="{escape(name, quote=True)}" required maxlength="100"
 autocomplete="username" autofocus autocapitalize="none" spellcheck="false">
<label for="password">Password</label><input id="password" name="password" type="password" required maxlength="1000"
 autocomplete="current-password">
<button type="submit">Log in</button></form></main>{wake}</body></html>"""


def problem_html(title: str, message: str) -> str:
    """A page for when the dashboards cannot be served now."""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>Flexergy</title><style>{_STYLE}</style></head>
<body><main><div class="mark">{_LOGO}<div><h1>{escape(title)}</h1></div></div><p>{escape(message)}</p></main>
</body></html>"""
