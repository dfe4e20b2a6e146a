"""What the gate itself says, without Streamlit: locked, signed out, and the page with the two buttons."""

import html

STYLE = """
  :root { color-scheme: light dark; }
  body { font: 16px/1.6 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem; }
  code { font-size: .9em; padding: .1em .35em; border-radius: .3em; background: rgb(128 128 128 / .18); }
  h1 { font-size: 1.4rem; } .reason { font-weight: 600; }
  button { font: inherit; padding: .4em 1em; border-radius: .5em; border: 1px solid rgb(128 128 128 / .6);
           background: none; color: inherit; cursor: pointer; }
"""


def locked(reason: str) -> bytes:
    """Nobody is let in here; what to do."""
    return _page(
        "This dashboard is locked",
        f'<p class="reason">{html.escape(reason)}</p>',
        "<p>Open it with the whole address that was printed where it was started, the one that ends in "
        "<code>?token=…</code>. If that line is gone, stop the dashboard and start it again with "
        "<code>make run</code>: it prints a new one.</p>",
    )


def access(lasts: str) -> bytes:
    """Sign out, or draw a new token. `lasts` says how long the new one holds."""
    return _page(
        "Access to this dashboard",
        "<p>Signing out ends this browser's login, in all its tabs.</p>",
        '<form method="post" action="_access/sign-out"><button>Sign out</button></form>',
        "<p>A new token makes the old one worthless and signs everyone else out. The new address is printed where "
        f"the dashboard was started, and nowhere else. {html.escape(lasts)}</p>",
        '<form method="post" action="_access/new-token"><button>Draw a new token</button></form>',
    )


def signed_out() -> bytes:
    return _page(
        "Signed out",
        "<p>To come back, open the address that was printed where the dashboard was started.</p>",
    )


def token_drawn(home: str) -> bytes:
    return _page(
        "A new token was drawn",
        "<p>Its address is printed where the dashboard was started. Everyone else is signed out; this browser is "
        f'not.</p><p><a href="{html.escape(home)}">Back to the dashboard</a></p>',
    )


def _page(title: str, *parts: str) -> bytes:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>ShifaMind diagnostics: {title.lower()}</title><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    ).encode()
