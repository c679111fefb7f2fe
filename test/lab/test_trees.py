"""Trees: one a commit, built once, whoever asks; what a branch changes, and whether two branches try the same."""
import os
import subprocess
import sys
import tempfile
import shutil
import unittest

from bench import LAB, git

import home as homes  # noqa: E402: bench has set the path
import trees

BUILD = "sleep 0.2; echo built >> ../../builds.txt; mkdir -p build; cp train_gpt2.cu train_gpt2; touch build/evaluate; grep -q BROKEN train_gpt2.cu && { echo 'x.h:1: error: broken'; exit 1; } || true"
BUILD_ONE = "import sys; sys.path.insert(0, %r); import home, trees; h = home.find(sys.argv[1]); print(trees.build(h, trees.commit_of(h, sys.argv[2])))" % LAB


class TreesTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.checkout = os.path.join(self.folder, "checkout")
        os.makedirs(os.path.join(self.checkout, "llmc"))
        self.write("train_gpt2.cu", "int main() {}\n")
        self.write("llmc/a.h", "int a = 1;  // one\n")
        git(self.checkout, "init", "-q", "-b", "main")
        self.base = self.commit()
        self.home = homes.init(os.path.join(self.folder, "lab"), self.checkout, os.path.join(self.folder, "private"))
        os.environ["LAB_BUILD"] = BUILD
        self.addCleanup(os.environ.pop, "LAB_BUILD")

    def write(self, name, text):
        with open(os.path.join(self.checkout, name), "w") as f:
            f.write(text)

    def commit(self):
        git(self.checkout, "add", "-A")
        git(self.checkout, "commit", "-q", "-m", "x")
        return git(self.checkout, "rev-parse", "HEAD")

    def builds(self):
        with open(os.path.join(self.home.root, "builds.txt")) as f:
            return len(f.readlines())

    def test_built_once_by_many_at_once(self):
        children = [subprocess.Popen([sys.executable, "-c", BUILD_ONE, self.home.root, "main"], stdout=subprocess.PIPE, universal_newlines=True) for _ in range(3)]
        places = {child.communicate()[0] for child in children}
        self.assertEqual([child.returncode for child in children], [0] * 3)
        self.assertEqual((len(places), self.builds()), (1, 1))

    def test_another_commit_is_another_tree(self):
        one = trees.build(self.home, self.base)
        self.write("train_gpt2.cu", "int main() { return 1; }\n")
        two = trees.build(self.home, self.commit())
        with open(os.path.join(one, "train_gpt2")) as a, open(os.path.join(two, "train_gpt2")) as b:
            self.assertEqual((a.read(), b.read()), ("int main() {}\n", "int main() { return 1; }\n"))

    def test_what_is_not_committed_is_not_built(self):
        self.write("train_gpt2.cu", "changed\n")
        with open(os.path.join(trees.build(self.home, trees.commit_of(self.home, "main")), "train_gpt2")) as f:
            self.assertEqual(f.read(), "int main() {}\n")

    def test_a_build_that_fails_is_one_line_and_is_built_again(self):
        self.write("train_gpt2.cu", "BROKEN\n")
        broken = self.commit()
        for _ in range(2):
            with self.assertRaisesRegex(homes.LabError, "does not build: x.h:1: error: broken"):
                trees.build(self.home, broken)
        self.assertEqual(self.builds(), 2)

    def test_the_private_folder_is_in_no_tree(self):
        tree = trees.build(self.home, self.base)
        self.assertFalse(homes.is_inside(self.home.private, self.checkout) or homes.is_inside(self.home.private, self.home.root) or homes.is_inside(self.home.private, tree))
        for path, _, files in os.walk(tree):
            for name in files:
                with open(os.path.join(path, name), errors="replace") as f:
                    self.assertNotIn(self.home.private, f.read())

    def test_lines_and_ideas(self):
        self.write("llmc/a.h", "int a = 2;  // two\nint b;\nint c;\n")
        os.mkdir(os.path.join(self.checkout, "test"))
        self.write("test/t.cpp", "x\n" * 50)
        first = self.commit()
        self.assertEqual(trees.lines_added(self.home, self.base, first), 2)
        self.assertEqual(trees.files_changed(self.home, self.base, first), ["llmc/a.h", "test/t.cpp"])
        self.write("llmc/a.h", "int a = 2;   // another word\n\nint b;\n// a comment\nint  c;\n")
        second = self.commit()
        self.assertEqual(trees.idea_of(self.home, self.base, first), trees.idea_of(self.home, self.base, second))
        self.write("llmc/a.h", "int a = 3;\nint b;\nint c;\n")
        self.assertNotEqual(trees.idea_of(self.home, self.base, first), trees.idea_of(self.home, self.base, self.commit()))

    def test_no_such_branch(self):
        with self.assertRaisesRegex(homes.LabError, "nosuch"):
            trees.commit_of(self.home, "nosuch")


if __name__ == "__main__":
    unittest.main()
