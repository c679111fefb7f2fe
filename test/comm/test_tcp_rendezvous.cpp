// Ranks that find each other over TCP: on the loopback, among strangers, with mistakes, and with ranks that do not come.
#include "../../llmc/comm/tcp_rendezvous.h"
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include "../free_port.h"
#include "tcp_ranks.h"

namespace {
// A connection by hand. Tries until somebody listens.
struct Stranger {
    int fd = -1;
    explicit Stranger(int port) {
        sockaddr_in at = {};
        at.sin_family = AF_INET, at.sin_addr.s_addr = htonl(INADDR_LOOPBACK), at.sin_port = htons((uint16_t)port);
        for (int i = 0; i < 1000; i++) {
            fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (connect(fd, (sockaddr*)&at, sizeof at) == 0) return;
            close(fd), usleep(5000);
        }
        FAIL("nobody listens");
    }
    Stranger(Stranger&& o) noexcept : fd(std::exchange(o.fd, -1)) {}
    ~Stranger() { if (fd >= 0) close(fd); }
    void say(const std::string& text) const { EXPECT_EQ(send(fd, text.data(), text.size(), MSG_NOSIGNAL), (ssize_t)text.size()); }
    // What comes until it closes, or `bytes` of it.
    std::string hear(size_t bytes = 1 << 20) const {
        std::string all;
        for (char buffer[4096]; all.size() < bytes;) {
            pollfd ready = {fd, POLLIN, 0};
            if (poll(&ready, 1, 10000) != 1) return all + " and stays open";
            const ssize_t n = recv(fd, buffer, std::min(sizeof buffer, bytes - all.size()), 0);
            if (n <= 0) break;
            all.append(buffer, (size_t)n);
        }
        return all;
    }
};
std::string hello_of(int r, int world, const std::string& secret) { return tcp_rendezvous_detail::make_hello(place_of(r, world), "", secret); }
// A rank by hand that has proved itself, and waits for the others.
Stranger waiting_rank(const TcpOptions& o, int r, int world) {
    Stranger s(tcp_rendezvous_detail::parse_address(o.server).port);
    const std::string hello = hello_of(r, world, o.secret);
    s.say(hello);
    s.say(tcp_rendezvous_detail::mac_of(o.secret, "client", hello, s.hear(64).substr(0, 32)));
    return s;
}
}  // namespace

TEST(tcp_address) {
    using namespace tcp_rendezvous_detail;
    const auto is = [](const std::string& text) { const Address a = parse_address(text); return a.host + " " + std::to_string(a.port); };
    EXPECT_STR(is("node1"), "node1 29514");
    EXPECT_STR(is("node1:80"), "node1 80");
    EXPECT_STR(is("10.0.0.1:65535"), "10.0.0.1 65535");
    EXPECT_STR(is("::1"), "::1 29514");
    EXPECT_STR(is("[::1]"), "::1 29514");
    EXPECT_STR(is("[fe80::1%eth0]:7"), "fe80::1%eth0 7");
    EXPECT_STR(text_of(parse_address("[::1]:7")), "[::1]:7");
    for (const char* bad : {"host:", "host:0", "host:65536", "host:x", ":80", "[::1", "[::1]80", "[]:80", "host:-1", "host: 80"})
        EXPECT_DIES(format("--server: '%s' given, ", bad).c_str(), parse_address(bad));
    setenv("MASTER_ADDR", "10.0.0.9", 1);
    EXPECT_STR(text_of(address_of_server(place_of(0, 2), {})), "10.0.0.9:29514");
    unsetenv("MASTER_ADDR");
    EXPECT_STR(text_of(address_of_server(place_of(0, 2), {})), "127.0.0.1:29514");
    Place p = place_of(0, 4);
    p.local_world = 2;
    EXPECT_DIES("--server: missing", address_of_server(p, {}));
}

TEST(tcp_ranks_meet) {
    for (int world : {2, 5}) {
        const TcpOptions o = at_port(free_port());
        std::vector<RankProcess> ranks;
        for (int r = world - 1; r >= 0; r--) ranks.push_back(rank(r, world, o));  // rank 0 comes last
        for (RankProcess& p : ranks) expect_got(p);
    }
    EXPECT_STR(rendezvous_tcp({}, "alone", {.server = "nowhere"}), "alone");
}

TEST(tcp_other_addresses) {
    for (const char* host : {"[::1]", "localhost", "0.0.0.0"}) {
        if (host[0] == '[' && run_child([] { sockaddr_in6 at = {}; at.sin6_family = AF_INET6, at.sin6_addr = in6addr_loopback; _exit(bind(socket(AF_INET6, SOCK_STREAM, 0), (sockaddr*)&at, sizeof at)); }).code) continue;
        TcpOptions o = at_port(free_port());
        o.server = host + o.server.substr(o.server.find(':'));
        RankProcess zero = rank(0, 2, o), one = rank(1, 2, o);
        expect_got(zero), expect_got(one);
    }
}

// The largest there may be, with every byte in it, and the empty one; the secret by the environment.
TEST(tcp_blobs) {
    std::string large(RENDEZVOUS_BYTES, '\0');
    for (size_t i = 0; i < large.size(); i++) large[i] = (char)(i * 7 + i / 256);
    for (const std::string& blob : {large, std::string()}) {
        TcpOptions o = at_port(free_port(), "");
        const auto meet = [&](int r) {
            return [&blob, o, r] {
                setenv("LLMC_SECRET", "s", 1);
                const std::string got = rendezvous_tcp(place_of(r, 3), r ? "not mine" : blob, o);
                return std::string(got == blob ? BLOB : "something else");
            };
        };
        RankProcess zero(0, 3, meet(0)), one(1, 3, meet(1)), two(2, 3, meet(2));
        expect_got(zero), expect_got(one), expect_got(two);
    }
    EXPECT_DIES("a blob of 1048577 bytes", rendezvous_tcp(place_of(0, 2), large + "x", {}));
}

TEST(tcp_without_a_secret) {
    TcpOptions o = at_port(free_port(), "");
    RankProcess zero = rank(0, 2, o), one = rank(1, 2, o);
    expect_got(zero), expect_got(one);  // on the loopback no word of it
    o.server = "0.0.0.0:" + std::to_string(free_port());
    RankProcess open = rank(0, 2, o), other = rank(1, 2, o);
    EXPECT_EQ(open.code(), 0);
    EXPECT(has(open.said, "warning: --server " + o.server + ": without a secret (--secret-file, LLMC_SECRET) anyone who reaches port "));
    expect_got(other);
}

// A secret by a file: its owner's alone, without the end of its line.
TEST(tcp_secret_of_a_file) {
    const std::string path = "build/tmp/tcp_secret";
    const auto put = [&](const std::string& text, mode_t mode) { write_file_atomically(path, text), chmod(path.c_str(), mode); };
    put("open sesame\r\n", 0600);
    EXPECT_STR(read_secret(path), "open sesame");
    put("open sesame", 0400);
    EXPECT_STR(read_secret(path), "open sesame");
    for (const mode_t mode : {0640, 0604, 0620}) {
        put("open sesame", mode);
        EXPECT_DIES("--secret-file: build/tmp/tcp_secret: others may read or write it; chmod 600", read_secret(path));
    }
    put("\n", 0600);
    EXPECT_DIES("--secret-file: build/tmp/tcp_secret is empty", read_secret(path));
    EXPECT_DIES("--secret-file: build/tmp/no_secret: No such file or directory", read_secret("build/tmp/no_secret"));
    const std::string binary("\0\n\r\0\0", 5);  // of any bytes nothing but the end of a line is left out
    put(binary, 0600);
    EXPECT(read_secret(path) == binary);
}

// Not a byte for those, and no delay for the ranks.
TEST(tcp_strangers) {
    const int port = free_port();
    TcpOptions o = at_port(port);
    o.handshake_s = 60;  // nobody's time runs out
    RankProcess zero = rank(0, 3, o);
    std::vector<Stranger> silent, talking;
    for (int i = 0; i < 100; i++) silent.emplace_back(port);  // more than the limit: the first ones have to go
    for (int i = 0; i < 30; i++) EXPECT_STR(silent[(size_t)i].hear(), "");
    std::string huge = hello_of(1, 3, "open sesame");
    huge.append(100000, 'x');
    std::string old = hello_of(1, 3, "open sesame");
    old[7] = '0';
    const std::vector<std::string> says = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", std::string(1000, '\xff'), "SSH-2.0-x\r\n", std::string("\x16\x03\x01\x02\x00\x01\xff\xff\xff\xff", 10),
                                           std::string(112, '\0'), huge, old, hello_of(1, 3, "open sesam"), hello_of(2, 3, "")};
    for (const std::string& text : says) {
        talking.emplace_back(port);
        talking.back().say(text);
        EXPECT_STR(talking.back().hear(), "");
    }
    std::vector<Stranger> slow;
    for (int i = 0; i < 3; i++) slow.emplace_back(port), slow.back().say(hello_of(1, 3, "open sesame").substr(0, 50));
    const double start = rendezvous_detail::seconds();
    RankProcess one = rank(1, 3, at_port(port)), two = rank(2, 3, at_port(port));
    expect_got(one), expect_got(two);
    EXPECT_EQ(zero.code(), 0);
    EXPECT(rendezvous_detail::seconds() - start < 2);  // well below what a slow connection has
    for (const Stranger& s : slow) EXPECT_STR(s.hear(), "");
    for (const Stranger& s : silent) EXPECT_STR(s.hear(), "");
    EXPECT(has(zero.said, "warning: 127.0.0.1: a stranger on the port of --server, ignored\n"));
    EXPECT(has(zero.said, "warning: 127.0.0.1: speaks version 0 of the protocol, here 1: another build\n"));
    EXPECT(has(zero.said, "warning: 127.0.0.1: says that it is rank 1, but does not know the secret"));
    EXPECT(has(zero.said, "warning: 127.0.0.1: says that it is rank 2, but does not know the secret"));
    EXPECT(has(zero.said, "got " + BLOB + "\n"));
    EXPECT_EQ(std::count(zero.said.begin(), zero.said.end(), '\n'), 5);  // each once
}

// A hello that was recorded proves nothing, nor does an echo of what the server proved itself with.
TEST(tcp_replay) {
    const int port = free_port();
    RankProcess zero = rank(0, 2, at_port(port));
    Stranger first(port), again(port), echo(port);
    const std::string hello = hello_of(1, 2, "open sesame");
    first.say(hello), again.say(hello), echo.say(hello);
    const std::string a = first.hear(64), b = again.hear(64), c = echo.hear(64);
    EXPECT(a.size() == 64 && b.size() == 64 && a.substr(0, 32) != b.substr(0, 32));
    const std::string proof = tcp_rendezvous_detail::mac_of("open sesame", "client", hello, a.substr(0, 32));
    again.say(proof), echo.say(c.substr(32));
    EXPECT_STR(again.hear(), "");
    EXPECT_STR(echo.hear(), "");
    first.say(proof);  // whose it is
    EXPECT(has(first.hear(tcp_rendezvous_detail::ANSWER_HEAD + BLOB.size() + 32), BLOB));
    close(std::exchange(first.fd, -1));
    EXPECT_EQ(zero.code(), 0);
    EXPECT(has(zero.said, "warning: 127.0.0.1: a wrong proof, ignored\n"));
}

TEST(tcp_slow_strangers_have_their_time) {
    TcpOptions o = at_port(free_port());
    o.handshake_s = 0.5;
    RankProcess zero = rank(0, 2, o);
    const int port = tcp_rendezvous_detail::parse_address(o.server).port;
    Stranger mute(port), slow(port);
    slow.say("llmc");
    Stranger no_proof(port);  // says all at once: its time has begun
    no_proof.say(hello_of(1, 2, "open sesame"));
    EXPECT_STR(mute.hear(), "");
    EXPECT_STR(slow.hear(), "");
    EXPECT_EQ(no_proof.hear().size(), (size_t)64);  // a challenge, and then the end
    EXPECT(zero.runs());
    RankProcess one = rank(1, 2, o);
    expect_got(one);
    EXPECT_EQ(zero.code(), 0);
}

TEST(tcp_wrong_secret) {
    const int port = free_port();
    RankProcess zero = rank(0, 3, at_port(port)), one = rank(1, 3, at_port(port)), two = rank(2, 3, at_port(port, "open sesame!"));
    expect_died(two, 1, "error: rank 2: --server 127.0.0.1:" + std::to_string(port) + ": closes the connection without an answer: has rank 0 another secret");
    EXPECT(zero.says("warning: 127.0.0.1: says that it is rank 2, but does not know the secret"));
    EXPECT(zero.runs() && one.runs());  // it was a stranger
    RankProcess right = rank(2, 3, at_port(port));
    expect_got(one), expect_got(right);
    EXPECT_EQ(zero.code(), 0);
}

// Who answers at rank 0's address without the secret: neither its blob nor its error is taken.
TEST(tcp_false_server) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at = {};
    at.sin_family = AF_INET, at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    EXPECT(bind(listener, (sockaddr*)&at, sizeof at) == 0 && listen(listener, 8) == 0 && getsockname(listener, (sockaddr*)&at, &length) == 0);
    TcpOptions o = at_port(ntohs(at.sin_port));
    o.timeout_s = 0.5;
    RankProcess one = rank(1, 2, o);
    pollfd ready = {listener, POLLIN, 0};
    for (int i = 0; i < 2 && poll(&ready, 1, 10000) == 1; i++) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        char hello[112];
        EXPECT_EQ(recv(fd, hello, sizeof hello, MSG_WAITALL), (ssize_t)sizeof hello);
        const std::string nonce(32, 'n'), challenge = nonce + tcp_rendezvous_detail::mac_of("guess", "server", {hello, sizeof hello}, nonce);
        const std::string says = challenge + '\0' + tcp_rendezvous_detail::u32(3) + "evi" + std::string(32, 'm');
        const size_t bytes = i ? says.size() : challenge.size();  // without an answer first: no proof comes either
        EXPECT_EQ(send(fd, says.data(), bytes, MSG_NOSIGNAL), (ssize_t)bytes);
        EXPECT(recv(fd, hello, sizeof hello, 0) <= 0);
        close(fd);
    }
    close(listener);
    EXPECT_EQ(one.code(), 1);
    EXPECT(has(one.said, "error: rank 1: --server 127.0.0.1:") && !has(one.said, "evi"));
}

TEST(tcp_mistakes) {
    TcpOptions o = at_port(free_port());
    {
        RankProcess zero = rank(0, 3, o);
        const Stranger good = waiting_rank(o, 1, 3);
        RankProcess other = rank(2, 4, o);
        const std::string says = " says that there are 4 ranks, rank 0 says 3";
        expect_died(zero, 2, "error: rank 0: rank 2 at 127.0.0.1:"), expect_died(other, 2, "error: rank 2: rank 0 at " + o.server + ": rank 2 at 127.0.0.1:");
        EXPECT(has(zero.said, says) && has(other.said, says) && has(good.hear(), says));  // all are told
    }
    o = at_port(free_port());
    {
        RankProcess zero = rank(0, 3, o);
        const Stranger two_zeros = waiting_rank(o, 0, 3);
        expect_died(zero, 2, " says that it is rank 0 of 3: there are two of rank 0");
    }
    o = at_port(free_port());
    RankProcess zero = rank(0, 3, o), first = rank(2, 3, o), second = rank(2, 3, o);
    expect_died(zero, 2, "error: rank 0: rank 2 came twice, from 127.0.0.1:");
    expect_died(first, 2, "rank 2 came twice"), expect_died(second, 2, "rank 2 came twice");
}

TEST(tcp_another_run) {
    TcpOptions o = at_port(free_port()), other = o;
    o.run_id = "1", other.run_id = "2", other.timeout_s = 1;
    RankProcess zero = rank(0, 2, o);
    Stranger until_it_listens(tcp_rendezvous_detail::parse_address(o.server).port);
    RankProcess stray = rank(1, 2, other);
    expect_died(stray, 1, "rank 0 of another run listens there");
    EXPECT(zero.says("warning: 127.0.0.1: rank 1 of another run, sent away\n"));
    RankProcess one = rank(1, 2, o);
    expect_got(one);
    EXPECT_EQ(zero.code(), 0);
}

TEST(tcp_taken_port) {
    const int port = free_port();
    RankProcess first = rank(0, 2, at_port(port));
    Stranger until_it_listens(port);
    RankProcess second = rank(0, 2, at_port(port));
    expect_died(second, 1, format("error: rank 0: --server 127.0.0.1:%d: port %d is taken by another program", port, port));
    EXPECT(first.runs());
    TcpOptions elsewhere = at_port(port);
    elsewhere.server = "192.0.2.1";  // for documentation (RFC 5737): nobody's
    RankProcess third = rank(0, 2, elsewhere);
    expect_died(third, 2, "error: rank 0: --server 192.0.2.1:29514: is no address of this machine");
}

TEST(tcp_who_does_not_come) {
    TcpOptions o = at_port(free_port());
    TcpOptions patient = o;
    o.timeout_s = 0.8;
    RankProcess three = rank(3, 6, patient), zero = rank(0, 6, o);  // rank 0's time begins with it
    const std::string says = "--server " + o.server + ": ranks 1, 2, 4, 5 of 6 did not come within 0.8 s\n";
    expect_died(zero, 1, "error: rank 0: " + says);
    expect_died(three, 1, "error: rank 3: rank 0 at " + o.server + ": " + says);
    o.timeout_s = 0.4;
    RankProcess lonely = rank(1, 2, o);
    expect_died(lonely, 1, "error: rank 1: --server " + o.server + ": did not find rank 0 there within 0.4 s: ");
    o.server = "name.invalid:1";  // RFC 6761: does not exist
    RankProcess nameless = rank(1, 2, o);
    expect_died(nameless, 1, "did not find rank 0 there within 0.4 s: ");
    using rendezvous_detail::ranks_text;
    EXPECT_STR(ranks_text({3}) + "; " + ranks_text({1, 2, 4, 5, 6, 9}), "rank 3; ranks 1, 2, 4 to 6, 9");
}

// Ranks that die: one may come again; without rank 0 the others end at their deadline, and one that takes rank 0's place is taken.
TEST(tcp_ranks_that_die) {
    TcpOptions o = at_port(free_port());
    {
        RankProcess zero = rank(0, 4, o), one = rank(1, 4, o);
        const Stranger two = waiting_rank(o, 2, 4);  // until it dies
        kill(one.pid, SIGKILL), shutdown(two.fd, SHUT_RDWR);
        EXPECT_EQ(one.code(), 128 + SIGKILL);  // it is gone, and its connection with it: on a busy machine a process outlives its signal
        EXPECT(zero.says("warning: rank 2 at 127.0.0.1:") && zero.says(" went away before all ranks had come\n"));
        RankProcess again = rank(1, 4, o), too = rank(2, 4, o), three = rank(3, 4, o);
        expect_got(again), expect_got(too), expect_got(three);
        EXPECT_EQ(zero.code(), 0);
    }
    o = at_port(free_port());
    o.timeout_s = 2;  // for two that come and one that goes
    {
        RankProcess zero = rank(0, 3, o);
        const Stranger two = waiting_rank(o, 2, 3);
        shutdown(two.fd, SHUT_RDWR);
        EXPECT(zero.says(" went away before all ranks had come\n"));
        const Stranger one = waiting_rank(o, 1, 3);
        expect_died(zero, 1, ": rank 2 of 3 did not come within 2 s\n");
    }
    o = at_port(free_port());
    o.timeout_s = 10;
    RankProcess zero = rank(0, 3, o), one = rank(1, 3, o);
    EXPECT(!Stranger(tcp_rendezvous_detail::parse_address(o.server).port).hear(0).size());
    kill(zero.pid, SIGKILL);
    EXPECT_EQ(zero.code(), 128 + SIGKILL);
    RankProcess next = rank(0, 3, o), two = rank(2, 3, o);
    expect_got(one), expect_got(two);
    EXPECT_EQ(next.code(), 0);
}

TEST(tcp_asked_to_stop) {
    const TcpOptions o = at_port(free_port());
    for (int r : {0, 1}) {
        RankProcess waits(r, 2, [=] {
            catch_signals();
            printf("ready\n"), fflush(stdout);
            return rendezvous_tcp(place_of(r, 2), "", o);
        });
        EXPECT(waits.says("ready"));
        kill(waits.pid, SIGTERM);
        if (r == 0) expect_died(waits, EXIT_FAILED, "error: rank 0: interrupted while the ranks were finding each other\n");
        else EXPECT(waits.code() == EXIT_FAILED && !has(waits.said, "error"));  // rank 0 has said it
    }
}
