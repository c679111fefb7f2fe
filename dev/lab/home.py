"""home.py: the lab's folder, where everything the lab knows lies as text.

    lab/ledger.logfmt  cards/  tries/0003-BRANCH/                  kept in a git repository of its own, so that a
                                                                   hypothesis is committed before anything runs
    lab/trees/  lab/leases/  lab/data/                             not kept: builds, locks, texts that can be made again
    the private folder (0700, outside of every worktree)           the hold-out, the heads of the ledger, and what seeds are made of

$LAB_HOME, else lab/ beside the checkout's .git. The private folder is $LAB_PRIVATE when `lab init` runs, else one in
~/.local/share. Who runs as the same user can read it all the same. `lab init --runs-as USER`, as root, keeps them apart: the lab's folder and the private one are root's, and
what comes from a branch, its build, its runs and its evaluation, is run as USER. Scientists, who are USER or others, call the verbs by sudo."""
import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time

from record import LabError  # noqa: F401: what was wrong with what was given: one line, exit code 2

# what a person's settings or a repository's hooks would make git run, it does not run for the lab; a commit is what its hash says, and no replacement of it
QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null", "-c", "commit.gpgsign=false", "-c", "gc.auto=0", "-c", "safe.directory=*")


def git(folder, *arguments, check=True, stdin=None):
    """Output of a git command in a folder, without the last newline."""
    done = subprocess.run(["git", "-C", folder, *QUIET, *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, env=dict(os.environ, GIT_NO_REPLACE_OBJECTS="1"))
    if check and done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))] or (done.stderr.strip() or "failed").splitlines()[-1:]
        raise LabError("git %s: %s" % (" ".join(arguments)[:60], said[0]))
    return done.stdout.rstrip("\n")


def write_file(path, text):
    """A file is whole or not there: temporary name, contents, sync, rename."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    with os.fdopen(handle, "w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)


def read_json(path):
    try:
        with open(path) as f:
            return json.load(f)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as why:
        raise LabError("%s: cannot be read: %s" % (path, why))


def write_json(path, data):
    write_file(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path):
    """Alone among the processes of this machine, by flock: a killed one holds nothing."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def who():
    """The scientist: $LAB_WHO, else the user, also where sudo is between."""
    return os.environ.get("LAB_WHO") or os.environ.get("SUDO_USER") or getpass.getuser()


def environment():
    """For what is run: no branch's program is told where the lab keeps what."""
    return {key: value for key, value in os.environ.items() if not key.startswith("LAB_")}


def user(name):
    """[user, group] as numbers of a name or a number."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        ids = [entry.pw_uid, entry.pw_gid]
    except KeyError:
        if not name.isdigit():
            raise LabError("--runs-as: there is no user %s" % name)
        ids = [int(name), int(name)]
    if os.geteuid() or not ids[0]:
        raise LabError("--runs-as %s: %s" % (name, "must not be root" if not ids[0] else "only root can run what a branch holds as another user: sudo lab init"))
    return ids


class Home:
    """Paths of a lab, and its repository. runs_as: [user, group] of what comes from a branch; None: of whoever calls."""
    def __init__(self, root, checkout, private, runs_as=None):
        self.root, self.checkout, self.private, self.runs_as = root, checkout, private, runs_as
        self.ledger = os.path.join(root, "ledger.logfmt")
        self.cards, self.tries, self.trees, self.leases, self.data = (os.path.join(root, name) for name in ("cards", "tries", "trees", "leases", "data"))
        self.heads = os.path.join(private, "heads")

    def drop(self):
        """In a child, before exec."""
        if self.runs_as:
            os.setgroups([])
            os.setgid(self.runs_as[1])
            os.setuid(self.runs_as[0])

    @contextlib.contextmanager
    def lent(self, path):
        """A folder that what comes from a branch may write in, for as long as it runs; afterwards it is the lab's again, with all that it left."""
        if not self.runs_as:
            yield
            return
        own(path, *self.runs_as)
        try:
            yield
        finally:
            own(path, os.geteuid(), os.getegid())

    def seed(self, number, pair):
        """Of a pair of runs of a try. Nobody knows it before the try is registered: on known seeds a lucky change could be looked for in private."""
        path = os.path.join(self.private, "secret")
        with locked(os.path.join(self.leases, "secret")):
            if not os.path.exists(path):
                write_file(path, os.urandom(16).hex() + "\n")
                os.chmod(path, 0o600)
        with open(path) as f:
            digest = hashlib.sha256(("%s %d %d" % (f.read().strip(), number, pair)).encode()).digest()
        return int.from_bytes(digest[:4], "big") % (2 ** 31 - 1) + 1

    def commit(self, message, patience=10.0):
        """Everything that is kept, as one commit of the lab's own repository; its hash. What the lab itself writes is whole whenever it is read; texts of an org may be
        edited meanwhile: those that git cannot read just now come with a later commit."""
        own = [name for name in (".gitignore", "settings.json", "ledger.logfmt", "cards", "tries", "scales") if os.path.exists(os.path.join(self.root, name))]
        with locked(os.path.join(self.root, ".commit.lock")):
            with locked(os.path.join(self.root, ".ledger.lock")):  # while git reads the ledger nobody writes it
                self.patient(patience, "add", "-A", "--", *own)
            self.add_texts()
            # of the index alone: `git commit` would look at the files again
            parent = git(self.root, "rev-parse", "--verify", "-q", "HEAD", check=False)
            commit = git(self.root, "-c", "user.name=" + who(), "-c", "user.email=lab@localhost", "commit-tree", git(self.root, "write-tree"), *(["-p", parent] if parent else []), "-m", message)
            git(self.root, "update-ref", "-m", "lab", "HEAD", commit)
            return commit

    def add_texts(self):
        """In an index of its own that takes the other's place afterwards: git maps files into memory, dies of one that is cut meanwhile, and would leave its lock."""
        index = os.path.join(self.root, ".git", "index")
        texts = index + ".texts"
        for path in (texts, texts + ".lock"):
            if os.path.exists(path):
                os.remove(path)
        shutil.copyfile(index, texts)
        done = subprocess.run(["git", "-C", self.root, *QUIET, "add", "-A", "--ignore-errors", "--", "."], env=dict(os.environ, GIT_INDEX_FILE=texts), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode >= 0:   # 0, or some could not be read
            os.rename(texts, index)

    def patient(self, seconds, *arguments):
        """A git command, again where another one holds the index: a person's, as `git status`."""
        until = time.monotonic() + seconds
        while True:
            try:
                return git(self.root, *arguments)
            except LabError as why:
                if "index.lock" not in str(why) or time.monotonic() > until:
                    raise
            time.sleep(0.05)


def own(path, uid, gid):
    for folder_, folders, files in os.walk(path):
        for name in (folder_, *(os.path.join(folder_, f) for f in folders + files)):
            os.chown(name, uid, gid, follow_symlinks=False)


def checkout_here():
    """The checkout that the working directory belongs to; of a worktree, the one that it was made from."""
    common = git(os.getcwd(), "rev-parse", "--path-format=absolute", "--git-common-dir", check=False)
    if not common:
        raise LabError("%s: no git repository: run lab in a checkout of the trainer, or set LAB_HOME" % os.getcwd())
    return os.path.dirname(common)


def folder():
    return os.path.abspath(os.environ.get("LAB_HOME") or os.path.join(checkout_here(), "lab"))


def init(root=None, checkout=None, private=None, runs_as=None):
    """Makes the lab's folder; one that is there stays as it is."""
    root = os.path.abspath(root or folder())
    settings = os.path.join(root, "settings.json")
    if not os.path.exists(settings):
        checkout = os.path.abspath(checkout or checkout_here())
        name = os.path.basename(checkout) + "-" + hashlib.sha256(root.encode()).hexdigest()[:8]
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        private = os.path.abspath(private or os.environ.get("LAB_PRIVATE") or os.path.join(data, "lab", name))
        if is_inside(private, checkout) or is_inside(private, root):
            raise LabError("--private: %s lies inside of a worktree, must lie outside" % private)
        ids = user(runs_as) if runs_as else None
        os.makedirs(private, mode=0o700, exist_ok=True)
        os.chmod(private, 0o700)
        os.makedirs(root, exist_ok=True)
        git(root, "init", "-q", ".")
        write_file(os.path.join(root, ".gitignore"), "/trees/\n/leases/\n/data/\n/tries/*/*/out/\n*.tmp\n.*\n!.gitignore\n")
        write_json(settings, {"checkout": checkout, "private": private, "runs_as": ids})
        Home(root, checkout, private).commit("lab: a new ledger")
    return find(root)


def find(root=None):
    """The lab that is there."""
    root = os.path.abspath(root or folder())
    settings = read_json(os.path.join(root, "settings.json"))
    if settings is None:
        raise LabError("%s: no lab is there: lab init makes one" % root)
    ids = settings.get("runs_as")
    if ids and os.geteuid() and os.access(root, os.W_OK):
        raise LabError("%s: made for runs as user %d by root; it is not root's" % (root, ids[0]))
    return Home(root, settings["checkout"], settings["private"], ids)


def is_inside(path, folder_):
    path, folder_ = os.path.realpath(path), os.path.realpath(folder_)
    return os.path.commonpath([path, folder_]) == folder_
