"""Evaluations and limits in, verdict out: pure functions, so that saved records judged again give the same verdict to the last bit.

A gate asks whether a difference is certainly on the right side of its limit (`checks.py`): non-inferiority by confidence interval
(Piaggio et al., CONSORT extension, JAMA 308, 2012, pages 2594-2604). Three things keep the promised error rates when more is asked than
one question once. A pass needs every gate, so many gates never raise the rate of false passes. Gates on items that are looked at several
times ask for intervals that are that much wider (`metrics/looks.py`). Tripwires on many tasks and slices share one error rate
(`tripwires.py`), and what they leave open never blocks. Then people (`overrides.py`) and the declared objective (`winner.py`) have their
say. What the judge knows of a metric is what its table entry says.
"""

from quant_action.judge.checks import gate_outcome, undecided
from quant_action.judge.decision import judge
from quant_action.judge.winner import Choose

__all__ = ["Choose", "gate_outcome", "judge", "undecided"]
