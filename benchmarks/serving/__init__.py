"""How fast Greenroom serves, against other servers, in one interleaved run.

From the top: ``__main__`` runs the rounds, ``swap_bench`` the swaps; ``servers`` is the table of
servers; ``versions`` trains what they serve; ``processes``, ``load`` and ``answers`` start, load
and check one; ``wire``, ``statistics``, ``targets`` and ``report`` are pure.
"""
