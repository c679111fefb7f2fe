"""The ledger: written, read back, changed in each way, cut short, written by many at once, computed anew."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "dev", "lab"))
import home as homes  # noqa: E402
import ledger  # noqa: E402


class LedgerTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        checkout = os.path.join(self.folder, "checkout")
        os.mkdir(checkout)
        self.home = homes.init(os.path.join(self.folder, "lab"), checkout, os.path.join(self.folder, "private"))

    def fill(self, n=5):
        for i in range(n):
            ledger.append(self.home, "note", text="event %d" % i)

    def rewrite(self, change):
        with open(self.home.ledger) as f:
            lines = f.read().splitlines()
        with open(self.home.ledger, "w") as f:
            f.write("".join(line + "\n" for line in change(lines)))

    def test_seeds_are_a_labs_own(self):
        """Who knows a try's number does not know its seeds: another lab has others, this one the same again."""
        seeds = [self.home.seed(number, pair) for number in (1, 2) for pair in range(1, 17)]
        self.assertEqual(len(set(seeds)), 32)
        self.assertTrue(all(0 < seed < 2 ** 31 for seed in seeds))
        self.assertEqual(homes.find(self.home.root).seed(1, 1), seeds[0])
        other = homes.init(self.folder + "/other", self.home.checkout, self.folder + "/other-private")
        self.assertNotIn(other.seed(1, 1), seeds)
        self.assertEqual(os.stat(self.home.private + "/secret").st_mode & 0o777, 0o600)

    def test_any_text_comes_back(self):
        texts = ["", "a b", 'say "no"', "x=1", "back\\slash", "two\nlines\r\t", "Grüße 語", "\x01\x1b[0m", 'end\\', "hash=0", "a\\nb"]
        for text in texts:
            ledger.append(self.home, "note", text=text)
        self.assertEqual([e["text"] for e in ledger.entries(self.home)], texts)
        self.assertEqual(ledger.check(self.home), [])
        with open(self.home.ledger) as f:
            self.assertEqual(len(f.read().splitlines()), len(texts))

    def test_numbers_have_nine_digits(self):
        self.assertEqual(ledger.append(self.home, "note", x=0.123456789123, y=3)["x"], "0.123456789")

    def test_every_changed_byte_is_seen(self):
        self.fill()
        with open(self.home.ledger, "rb") as f:
            good = f.read()
        for at in range(len(good)):
            with open(self.home.ledger, "wb") as f:
                f.write(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
            self.assertTrue(ledger.check(self.home), at)

    def test_lines_taken_out_moved_or_doubled_are_seen(self):
        changes = [lambda l: l[:1] + l[2:], lambda l: l[:-1], lambda l: l[1:], lambda l: [l[1], l[0]] + l[2:], lambda l: l[:2] + l[1:], lambda l: []]
        for number, change in enumerate(changes):
            with self.subTest(number):
                self.setUp()
                self.fill()
                self.rewrite(change)
                self.assertTrue(ledger.check(self.home))

    def rechained(self, lines):
        previous, out = "0" * 64, []
        for n, line in enumerate(lines, 1):
            fields = ledger.parse(line)
            del fields["hash"]
            fields["n"] = n
            text = ledger.line_of(fields)
            previous = ledger.chained(previous, text)
            out.append(text + " hash=" + previous)
        return out

    def test_a_chain_computed_anew_does_not_have_the_heads(self):
        self.fill()
        self.rewrite(lambda lines: self.rechained(lines[:2] + lines[3:]))
        self.assertIn("private folder", " ".join(ledger.check(self.home)))
        os.remove(self.home.heads)
        self.assertEqual(ledger.check(self.home), [], "nothing else was to be wrong")

    def test_nor_has_it_that_of_a_verdict(self):
        self.fill()
        homes.write_json(os.path.join(self.home.tries, "0001-x", "verdict.json"), {"head_n": 3, "head": ledger.entries(self.home)[2]["hash"]})
        self.assertEqual(ledger.check(self.home), [])
        os.remove(self.home.heads)
        self.rewrite(lambda lines: self.rechained([lines[0].replace("event 0", "event 9")] + lines[1:]))
        self.assertIn("verdict of try 0001-x", " ".join(ledger.check(self.home)))

    def test_a_torn_last_line_is_said_and_lost_in_view(self):
        for cut in (1, 70, 100):
            self.setUp()
            self.fill(3)
            os.truncate(self.home.ledger, os.path.getsize(self.home.ledger) - cut)
            self.assertIn("cut short", " ".join(ledger.check(self.home)))
            os.remove(self.home.heads)  # a kill of the machine: the head had not been written
            ledger.append(self.home, "note", text="after")
            kinds = [e["kind"] for e in ledger.entries(self.home)]
            self.assertEqual(kinds, ["note", "note", "lost", "note"])
            self.assertIn("event 2", ledger.entries(self.home)[2]["rest"] + "event 2" * (cut == 100))
            self.assertEqual(ledger.check(self.home), [])

    def test_many_at_once_lose_nothing(self):
        code = "import sys; sys.path.insert(0, %r); import home, ledger\nh = home.find(%r)\nfor i in range(25): ledger.append(h, 'note', text='%%s %%d' %% (sys.argv[1], i))"
        code %= (os.path.dirname(ledger.__file__), self.home.root)
        writers = [subprocess.Popen([sys.executable, "-c", code, str(w)]) for w in range(4)]
        self.assertEqual([w.wait() for w in writers], [0] * 4)
        self.assertEqual(ledger.check(self.home), [])
        self.assertEqual(len({e["text"] for e in ledger.entries(self.home)}), 100)

    def test_no_damage_is_seen_while_others_write(self):
        """An event is in the heads a moment after it is in the ledger: between the two nobody may look."""
        self.fill(3)
        script = "import sys; sys.path.insert(0, %r); import home, ledger\nfor i in range(60): ledger.append(home.find(%r), 'note', text='x')" % (os.path.dirname(ledger.__file__), self.home.root)
        writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
        looks = 0
        while any(w.poll() is None for w in writers):
            self.assertEqual(ledger.check(self.home), [])
            looks += 1
        self.assertEqual([w.returncode for w in writers], [0, 0])
        self.assertGreater(looks, 5)

    def test_kinds_and_keys_are_known(self):
        for kind, fields in (("nonsense", {}), ("note", {"Text": 1}), ("note", {"hash": 1}), ("note", {"a b": 1})):
            with self.assertRaises(ValueError):
                ledger.append(self.home, kind, **fields)

    def test_who_is_said(self):
        os.environ["LAB_WHO"] = "ada lovelace"
        self.addCleanup(os.environ.pop, "LAB_WHO")
        self.assertEqual(ledger.append(self.home, "note")["who"], "ada lovelace")


class HomeTest(unittest.TestCase):
    def test_the_private_folder_is_outside_and_closed(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        for inside in ("checkout/private", "checkout", "lab/x"):
            with self.assertRaises(homes.LabError):
                homes.init(folder + "/lab", folder + "/checkout", folder + "/" + inside)
        os.mkdir(folder + "/checkout")
        home = homes.init(folder + "/lab", folder + "/checkout", folder + "/private")
        self.assertEqual(os.stat(home.private).st_mode & 0o777, 0o700)
        self.assertEqual(homes.init(folder + "/lab").private, home.private)

    def test_no_lab_is_one_line(self):
        with self.assertRaisesRegex(homes.LabError, "lab init"):
            homes.find("/nonexistent/lab")


if __name__ == "__main__":
    unittest.main()
