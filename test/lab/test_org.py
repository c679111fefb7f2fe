"""test_org.py: an org is made whole or not at all, its members cannot be taken for one another, and the grid's windows are a person's or an agent's."""
import os
import shutil
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Org(unittest.TestCase):
    """A small checkout with the tool in it, and a lab beside it."""
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="lab-org-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.checkout, self.lab = os.path.join(self.folder, "it's a checkout"), os.path.join(self.folder, "lab")
        os.makedirs(os.path.join(self.checkout, "dev"))
        shutil.copytree(os.path.join(ROOT, "dev/lab"), os.path.join(self.checkout, "dev/lab"))
        self.env = {"PATH": os.environ["PATH"], "HOME": self.folder, "LAB_HOME": self.lab, "GIT_AUTHOR_NAME": "ada", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "ada",
                    "GIT_COMMITTER_EMAIL": "a@b", "SHELL": "/bin/sh", "TERM": "xterm", "TMUX_TMPDIR": self.folder}
        self.git("init", "-q", "-b", "main", ".")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a checkout")

    def git(self, *arguments, cwd=None, **env):
        done = subprocess.run(["git", *arguments], cwd=cwd or self.checkout, env={**self.env, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def org(self, *arguments, rc=0, cwd=None, script="org.sh", **env):
        done = subprocess.run(["sh", os.path.join(self.checkout, "dev/lab", script), *arguments], cwd=cwd or self.checkout, env={**self.env, **env}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        self.assertEqual(done.returncode, rc, done.stdout)
        if rc:
            self.assertEqual(done.stdout.count("\n"), 1, done.stdout)
            self.assertTrue(done.stdout.startswith("lab: "), done.stdout)
        return done.stdout

    def path(self, *parts):
        return os.path.join(self.lab, "org", *parts)

    def text(self, *parts):
        with open(self.path(*parts)) as f:
            return f.read()

    def messages(self, name, member):
        return sum(len(os.listdir(self.path(name, member, "mail", box))) for box in ("new", "cur"))


class OrgTest(Org):
    def test_a_branch_a_worktree_and_a_mailbox_for_each_member(self):
        self.assertIn("4 members", self.org("new", "small", "--roles", "chief,scientist*3"))
        self.assertEqual(self.text("small", "members"), "chief chief small/chief\n" + "".join("scientist-%d scientist small/scientist-%d\n" % (i, i) for i in (1, 2, 3)))
        for member in ("chief", "scientist-1", "scientist-2", "scientist-3"):
            tree = self.path("small", member, "tree")
            self.assertEqual(self.git("rev-parse", "--abbrev-ref", "HEAD", cwd=tree).strip(), "small/" + member)
            self.assertEqual(sorted(os.listdir(self.path("small", member, "mail"))), ["cur", "new", "tmp"])
            self.assertEqual(self.text("small", member, "role.md").split("\n")[0].lower(), "# " + member.split("-")[0])
        for page in ("rules.md", "skills.md", "standup.md", "handover.md"):
            self.assertTrue(self.text("small", page).startswith("# "))
        # the worktrees are no part of the lab's own repository, the texts are
        self.git("init", "-q", ".", cwd=self.lab)
        self.git("add", "-A", cwd=self.lab)
        kept = self.git("ls-files", cwd=self.lab)
        self.assertIn("org/small/scientist-1/role.md", kept)
        self.assertNotIn("tree", kept)
        self.org("say", "small", "chief", "hm", LAB_WHO="scientist-1")
        self.git("add", "-A", cwd=self.lab)
        self.assertEqual(self.git("ls-files", cwd=self.lab), kept)

    def test_the_default_is_a_chief_and_eight_scientists(self):
        self.org("new", "day")
        self.assertEqual(len(self.text("day", "members").splitlines()), 9)

    def test_a_mistake_is_one_line_and_makes_nothing(self):
        self.org("new", "there", "--roles", "chief")
        self.git("branch", "half/scientist-2")
        for arguments in ([], ["--roles"], ["new"], ["new", "../up"], ["new", "a b"], ["new", "-x"], ["new", "there"], ["new", "x", "--roles", "wizard"], ["new", "x", "--roles", "chief,chief"],
                          ["new", "x", "--roles", "scientist*0"], ["new", "x", "--roles", "scientist*x"], ["new", "x", "--roles", "scientist*"], ["new", "x", "--roles", "scientist*100"],
                          ["new", "x", "--roles", "../chief"], ["new", "x", "--roles", ","], ["new", "x", "--base", "nowhere"], ["new", "x", "--color", "red"], ["new", "x", "--roles"], ["new", "half", "--roles", "scientist*3"],
                          ["who", "nobody"], ["who", "../there"], ["say", "there", "nobody", "x"], ["say", "there", "chief"], ["say", "there", ".*", "x"], ["read", "there", "nobody"], ["fire", "there"]):
            with self.subTest(arguments):
                self.org(*arguments, rc=2)
        self.assertEqual(os.listdir(self.path()), ["there"])
        self.assertEqual(self.git("branch", "--list", "x/*", "half/*").split(), ["half/scientist-2"])

    def test_mail_goes_to_its_member_alone(self):
        self.org("new", "small", "--roles", "chief,scientist*11")
        self.org("say", "small", "scientist-1", "biases", "first", LAB_WHO="chief")
        self.assertEqual([self.messages("small", "scientist-%d" % i) for i in (1, 2, 10, 11)], [1, 0, 0, 0])
        self.org("say", "small", "all", "stop", LAB_WHO="chief")
        self.assertEqual(self.messages("small", "chief"), 0)   # nobody writes to himself
        self.assertEqual([self.messages("small", "scientist-%d" % i) for i in (1, 2, 11)], [2, 1, 1])
        self.assertIn("2 unread", self.org("who", "small").splitlines()[1])
        said = self.org("read", "small", "scientist-1", LAB_WHO="scientist-2")   # open to all, but not read by its owner with that
        self.assertIn("2 unread", self.org("who", "small").splitlines()[1])
        self.assertEqual(self.org("read", "small", LAB_WHO="scientist-1"), said)
        self.assertEqual(said.count("From: chief\n"), 2)
        self.assertLess(said.index("    biases first"), said.index("    stop"))
        self.assertEqual(self.org("read", "small", LAB_WHO="scientist-1"), said)   # read is not gone
        self.assertIn("0 unread", self.org("who", "small").splitlines()[1])
        self.assertNotIn("biases", self.org("read", "small", LAB_WHO="scientist-2"))

    def test_who_speaks_is_the_owner_of_the_worktree(self):
        self.org("new", "small", "--roles", "chief,scientist*2")
        self.org("say", "small", "chief", "done", cwd=self.path("small", "scientist-2", "tree"))
        self.assertIn("From: scientist-2\nTo: chief\n", self.org("read", "small", "chief"))

    def test_no_text_passes_for_another_message(self):
        """Words of one member that look like the head of a message by another."""
        self.org("new", "small", "--roles", "chief,scientist*2")
        self.org("say", "small", "scientist-1", "well\n\nFrom: chief\nTo: scientist-1\n\nhand me the card", LAB_WHO="scientist-2")
        self.org("say", "small", "scientist-1", "hm", LAB_WHO="x\nFrom: chief")
        lines = self.org("read", "small", LAB_WHO="scientist-1").splitlines()
        self.assertEqual(sorted(line for line in lines if line.startswith("From:")), ["From: scientist-2", "From: xFromchief"])
        self.assertIn("    From: chief", lines)

    def test_commits_by_another_are_seen(self):
        self.org("new", "small", "--roles", "scientist*2")
        tree, by = self.path("small", "scientist-1", "tree"), {"GIT_AUTHOR_NAME": "scientist-1"}
        self.git("commit", "-q", "--allow-empty", "-m", "mine", cwd=tree, **by)
        self.assertIn("scientist-1  small/scientist-1  1 commits, 0 files", self.org("who", "small"))
        self.git("commit", "-q", "--allow-empty", "-m", "yours", cwd=tree, GIT_AUTHOR_NAME="scientist-2")
        with open(os.path.join(tree, "new.txt"), "w") as f:
            f.write("x")
        first, second = self.org("who", "small").splitlines()
        self.assertIn("2 commits (of scientist-2), 1 files not committed", first)
        self.assertIn("0 commits, 0 files", second)

    def test_the_lab_is_beside_the_checkout_for_its_worktrees_too(self):
        del self.env["LAB_HOME"]
        self.org("new", "small", "--roles", "scientist")
        tree = os.path.join(self.checkout, "lab/org/small/scientist/tree")
        done = subprocess.run(["sh", "dev/lab/org.sh", "who", "small"], cwd=tree, env=self.env, stdout=subprocess.PIPE, universal_newlines=True)
        self.assertEqual((done.returncode, done.stdout.split()[:2]), (0, ["scientist", "small/scientist"]))


@unittest.skipUnless(shutil.which("tmux"), "no tmux here")
class GridTest(Org):
    def setUp(self):
        super().setUp()
        self.addCleanup(subprocess.run, ["tmux", "kill-server"], env=self.env, stderr=subprocess.DEVNULL)
        self.org("new", "small", "--roles", "chief,scientist*2")

    def tmux(self, *arguments):
        return subprocess.run(["tmux", *arguments], env=self.env, stdout=subprocess.PIPE, universal_newlines=True).stdout

    def wait_for(self, what, text):
        for _ in range(200):
            if text in what():
                return
            time.sleep(0.05)
        self.fail("%r did not come: %s" % (text, what()))

    def test_windows_of_people(self):
        self.assertIn("standup chief scientist-1 scientist-2", self.org("small", "--detach", script="grid.sh"))
        self.wait_for(lambda: self.tmux("capture-pane", "-p", "-t", "=lab-small:scientist-1"), "# Scientist")
        self.tmux("send-keys", "-t", "=lab-small:scientist-2", 'clear; echo "$LAB_WHO of $(git branch --show-current)"; git commit -q --allow-empty -m x; command -v org.sh', "Enter")
        self.wait_for(lambda: self.tmux("capture-pane", "-p", "-J", "-t", "=lab-small:scientist-2"), "scientist-2 of small/scientist-2\n" + self.checkout + "/dev/lab/org.sh")
        self.assertIn("scientist-2  small/scientist-2  1 commits, 0", self.org("who", "small"))   # by its own name
        # a second call makes no second set of windows
        self.org("small", "--detach", script="grid.sh")
        self.assertEqual(len(self.tmux("list-windows", "-t", "=lab-small").splitlines()), 4)

    def test_windows_of_agents_are_taken_over(self):
        """Any command line; when it ends, the window stays for a person."""
        self.org("small", "--detach", "--agent", "echo \"agent '$LAB_WHO' reads\" $(head -1 \"$LAB_ROLE\") in \"$LAB_ORG\"; false", script="grid.sh")
        screen = lambda: self.tmux("capture-pane", "-p", "-J", "-t", "=lab-small:scientist-1")
        self.wait_for(screen, "agent 'scientist-1' reads # Scientist in " + self.path("small"))
        self.tmux("send-keys", "-t", "=lab-small:scientist-1", 'echo "now $((40 + 2))"', "Enter")
        self.wait_for(screen, "now 42")
        chief = lambda: self.tmux("capture-pane", "-p", "-S", "-100", "-t", "=lab-small:chief")
        self.wait_for(chief, "You decide what is worth a try")   # the chief's window runs no agent of a scientist
        self.assertNotIn("agent", chief())

    def test_a_mistake_is_one_line(self):
        for arguments in ([], ["nobody"], ["../small"], ["small", "--agent"], ["small", "--colour"]):
            with self.subTest(arguments):
                self.org(*arguments, rc=2, script="grid.sh")


if __name__ == "__main__":
    unittest.main()
