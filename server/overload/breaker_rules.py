"""When each breaker of a server opens and how it closes again: the rules in one place. The arithmetic: ``breaker``.

All open when half of at least 20 outcomes of the last 10 s, or the newest 20 in a row, were failures. They differ in what
is slow, and in how long they stay open at most, which bounds how long a dependency that is whole again goes unused.
"""

from __future__ import annotations

from server.overload.breaker import Rule

USER_STORE_RULE = Rule(longest_open_s=3.5)
"""The user store: errors, and replies later than ``Settings.store_timeout_ms`` (30 ms). No call waits longer than that, so
that a slower reply is of use to nobody; a quicker one is, to calls with time, so that no lower limit is set. How late a reply
is the store itself reports (``server.store.reply_monitor``), not ``slow_s``: callers with short deadlines have gone by then.
With its jitter and its probes the store is used again at most 5 s after it is whole: asking costs so little that it need not
be left alone for longer."""
INLINE_GENERATOR_RULE = Rule(slow_s=0.02, longest_open_s=28.0)
"""A generator on the event loop: errors, and 20 ms or more. All of them together take about 0.6 ms, and while one runs no
other request goes on: it takes from everybody what 30 should."""
THREADED_RULE = Rule(longest_open_s=28.0)
"""The model, and generators on the work pool: errors, and runs that were given up because they overran their share of the
budget, so that slow is what the calls themselves could not wait for. With its jitter and its probes it is back at most 35 s
after it is whole."""
