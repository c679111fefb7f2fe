// Ranks on several hosts find each other over TCP: network namespaces with cables between them, where they are permitted.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include "tcp_ranks.h"

namespace {
// Network namespaces as hosts: host 0 is linked to each other one by a cable (veth) of its own, 10.77.N.1 to 10.77.N.2, and forwards nothing.
class Hosts {
    std::vector<pid_t> keepers;  // a process in each namespace, by which it lives

    static bool write_to(const char* path, const std::string& text) {
        const int fd = open(path, O_WRONLY | O_CLOEXEC);
        const bool written = fd >= 0 && write(fd, text.data(), text.size()) == (ssize_t)text.size();
        if (fd >= 0) close(fd);
        return written;
    }
    // A process that moves with prepare(), tells that it has, and stays.
    pid_t keep(const std::function<bool()>& prepare) {
        int fd[2];
        if (pipe2(fd, O_CLOEXEC)) abort();
        fflush(nullptr);
        const pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            const char there = prepare();
            if (write(fd[1], &there, 1) != 1) _exit(1);
            for (;;) pause();
        }
        char there = 0;
        close(fd[1]);
        if (read(fd[0], &there, 1) != 1) there = 0;
        close(fd[0]);
        keepers.push_back(pid);
        return there ? pid : -1;
    }

public:
    std::string missing;  // why there are none

    explicit Hosts(int n) {
        const uid_t user = getuid();
        const gid_t group = getgid();
        const bool first = keep([&] {
            if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) return false;
            (void)write_to("/proc/self/setgroups", "deny");
            return write_to("/proc/self/uid_map", format("0 %d 1", (int)user)) && write_to("/proc/self/gid_map", format("0 %d 1", (int)group));
        }) > 0;
        if (!first) { missing = std::string("unshare of the network is not permitted"); return; }
        if (!run(0, "ip link set lo up")) { missing = "no ip command that works in a namespace"; return; }
        for (int i = 1; i < n; i++) {
            const bool there = keep([&] { return enter(0) && unshare(CLONE_NEWNET) == 0; }) > 0;
            if (!there || !run(0, format("ip link add cable%d type veth peer name eth0 netns %d && ip addr add 10.77.%d.1/24 dev cable%d && ip link set cable%d up", i, (int)keepers[(size_t)i], i, i, i)) ||
                !run(i, format("ip addr add 10.77.%d.2/24 dev eth0 && ip link set eth0 up && ip link set lo up && ip route add default via 10.77.%d.1", i, i))) {
                missing = "no veth devices";
                return;
            }
        }
    }
    ~Hosts() { for (pid_t pid : keepers) kill(pid, SIGKILL), waitpid(pid, nullptr, 0); }
    Hosts(const Hosts&) = delete;

    // Moves this process, which has one thread, to a host.
    bool enter(int host) const {
        bool all = true;
        for (const char* kind : {"user", "net"}) {
            const int fd = open(format("/proc/%d/ns/%s", (int)keepers[(size_t)host], kind).c_str(), O_RDONLY | O_CLOEXEC);
            struct stat mine, theirs;
            const bool is_there = !stat(format("/proc/self/ns/%s", kind).c_str(), &mine) && !fstat(fd, &theirs) && mine.st_ino == theirs.st_ino;
            all &= fd >= 0 && (is_there || setns(fd, 0) == 0);  // into one's own user namespace there is no way
            close(fd);
        }
        return all;
    }
    bool run(int host, const std::string& command) const {
        return run_child([&] { if (!enter(host)) _exit(1); execl("/bin/sh", "sh", "-c", command.c_str(), (char*)nullptr); }).code == 0;
    }
    RankProcess rank(int host, int r, int world, const TcpOptions& o) const {
        return RankProcess(r, world, [=, this] {
            if (!enter(host)) die("host %d cannot be entered", host);
            Place p = place_of(r, world);
            p.local_rank = 0, p.local_world = 1;
            return rendezvous_tcp(p, r ? "" : BLOB, o);
        });
    }
};
}  // namespace

TEST(tcp_hosts) {
    const Hosts hosts(3);
    if (!hosts.missing.empty()) SKIP("no hosts: %s; ranks met on the loopback alone", hosts.missing.c_str());
    TcpOptions o = at_port(29514);
    // rank 0's address by one of its cables; the port is free on every new host, whoever has it here
    o.server = "10.77.1.1";
    {
        RankProcess zero = hosts.rank(0, 0, 3, o), one = hosts.rank(1, 1, 3, o), two = hosts.rank(2, 2, 3, o);
        for (RankProcess* p : {&zero, &one, &two}) expect_got(*p);
    }
    {  // a rank on another host that does not know the secret gets nothing, and disturbs nobody
        TcpOptions stranger = o;
        stranger.secret = "guessed", stranger.timeout_s = 0.5;
        RankProcess zero = hosts.rank(0, 0, 2, o), strange = hosts.rank(2, 1, 2, stranger);
        EXPECT_EQ(strange.code(), 1);
        EXPECT(!has(strange.said, BLOB));
        RankProcess one = hosts.rank(1, 1, 2, o);
        expect_got(one);
        EXPECT(zero.code() == 0 && has(zero.said, "warning: 10.77.2.2: says that it is rank 1, but does not know the secret"));
    }
    const auto expect_soon = [&](RankProcess& p, int code, const std::string& says, double seconds, const char* why) {
        const auto began = std::chrono::steady_clock::now();
        expect_died(p, code, says);
        const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
        if (took > seconds || !has(p.said, why) || std::count(p.said.begin(), p.said.end(), '\n') != 1) FAIL("%.1f s, said \"%s\", expected \"%s\"", took, p.said.c_str(), why);
    };
    // an address that no host has, one without a way to it, another host's where nobody listens, and rank 0 on a host that has not the address
    o.timeout_s = 1;
    const struct { const char *server, *why; bool cut; } wrong[] = {{"10.77.1.77", "", false}, {"10.77.1.1", "Network is unreachable", true}, {"10.77.1.2", "Connection refused", false}};
    for (auto& w : wrong) {
        TcpOptions there = o;
        there.server = w.server;
        if (w.cut) EXPECT(hosts.run(1, "ip addr flush dev eth0"));
        RankProcess one = hosts.rank(1, 1, 2, there);
        expect_soon(one, 1, std::string("error: rank 1: --server ") + w.server + ":29514: did not find rank 0 there within 1 s: ", 3, w.why);
        if (w.cut) EXPECT(hosts.run(1, "ip addr add 10.77.1.2/24 dev eth0 && ip route add default via 10.77.1.1"));
    }
    {
        RankProcess zero = hosts.rank(2, 0, 2, o);
        expect_soon(zero, 2, "error: rank 0: --server 10.77.1.1:29514: is no address of this machine", 3, "");
    }
    // a cable is pulled while the ranks wait for the last one: it cannot come, and the one that is cut off ends too
    RankProcess zero = hosts.rank(0, 0, 3, o), one = hosts.rank(1, 1, 3, o);
    EXPECT(hosts.run(2, "ip link set eth0 down"));
    RankProcess two = hosts.rank(2, 2, 3, o);
    expect_soon(zero, 1, "error: rank 0: --server 10.77.1.1:29514: rank 2 of 3 did not come within 1 s", 4, "");
    expect_soon(one, 1, "error: rank 1: rank 0 at 10.77.1.1:29514: --server 10.77.1.1:29514: rank 2 of 3 did not come within 1 s", 4, "");
    expect_soon(two, 1, "error: rank 2: --server 10.77.1.1:29514: did not find rank 0 there within 1 s: ", 4, "unreachable");
}
