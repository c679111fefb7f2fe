"""The counts of `make lab-whole`: a session whose try really helps is counted, so a false WIN would be; and made-up verdicts."""
import unittest

import whole_sessions


class WholeTest(unittest.TestCase):
    def test_what_wins_is_counted(self):
        found = whole_sessions.count(whole_sessions.session("honest", 1, "whole, test", steady=True))
        self.assertEqual((found["wins"], found["evidence"], found["missed"]), (1, 1, 1), found)

    def test_counts(self):
        row = lambda lo, hi: [{"axis": "seconds", "lo": 1, "hi": 2}, {"axis": "tokens", "lo": lo, "hi": hi, "sd": 0.1}]
        verdicts = [dict(word=word, rows=rows, evidence=e, needed=68.0, pairs=3, reasons=["x: y"]) for word, rows, e in
                    (("WIN", row(0.1, 0.2), 68.0), ("NULL", row(-0.1, 0.2), 0), ("LOSS", row(-0.2, -0.1), 0), ("NULL", row(None, None), 0), ("CONFOUNDED", [], 0), ("LOSS", row(0.1, 0.2), 70.0))]
        found = whole_sessions.count(verdicts)
        self.assertEqual((found["wins"], found["evidence"], found["missed"], found["pairs"], found["reasons"]), (1, 2, 3, 18, ["x: y"]))


if __name__ == "__main__":
    unittest.main()
