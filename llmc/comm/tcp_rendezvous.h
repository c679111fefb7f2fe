// tcp_rendezvous.h: rank 0 listens, the others connect, and both sides prove that they know the secret before anything is told.
//
//     rank r -> rank 0   hello      protocol, rank, world, hash of the run id, nonce, HMAC(secret, all of that)
//     rank 0 -> rank r   challenge  nonce, HMAC(secret, hello and nonce)
//     rank r -> rank 0   proof      HMAC(secret, hello and nonce, the other way)
//     rank 0 -> rank r   answer     once all ranks have come: the blob or an error, HMAC(secret, all of that)
//
// Who does not know the secret gets not a byte: the hello has its own HMAC. A hello that was recorded gets a challenge, and no further: each nonce
// is used once. What a client sends has a fixed size, so there is no length to lie about. Nothing is encrypted: who can read the network reads the
// blob. Strangers can hold neither rank 0 nor the ranks up: one poll loop serves all, each connection has its time, and the oldest stranger makes
// room for the next one.
#pragma once
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <set>
#include <utility>
#include "../base/sha256.h"
#include "launcher.h"
#include "rendezvous.h"

struct TcpOptions {
    std::string server = {};  // host[:port] of rank 0; empty: the launcher's MASTER_ADDR, or the loopback if all ranks are on this machine
    std::string secret = {};  // empty: LLMC_SECRET, else there is none
    std::string run_id = {};  // empty: run_id_of(place)
    double timeout_s = 300;   // batch systems start the ranks of a large run minutes apart
    double handshake_s = 10;  // that a connection has to say who it is
    double silent_s = 5;      // that a rank tries on where it gets no answer: the sign of another secret
};

// Not in the range of ports that Linux gives to outgoing connections (32768 to 60999), nor assigned by IANA, nor torchrun's 29500.
constexpr int RENDEZVOUS_PORT = 29514;

namespace tcp_rendezvous_detail {
using namespace rendezvous_detail;

constexpr char PROTOCOL[] = "llmcrdv1";  // a name of 7 characters and the version
constexpr size_t NONCE = 32, MAC = 32, HELLO = 8 + 4 + 4 + 32 + NONCE + MAC, CHALLENGE = NONCE + MAC, ANSWER_HEAD = 1 + 4;
constexpr size_t STRANGERS = 64;  // connections beside those of the ranks: as many as a port scan opens, and few enough for any limit on files
enum Status : char { BLOB = 0, FAILED = EXIT_FAILED, MISTAKE = EXIT_USAGE, ANOTHER_RUN = 3 };  // two of them are what a rank that is told so exits with

inline std::string u32(size_t x) {
    std::string bytes;
    for (int i = 0; i < 4; i++) bytes += (char)(x >> 8 * i);
    return bytes;
}
inline size_t read_u32(const std::string& bytes, size_t at) {
    size_t x = 0;
    for (size_t i = 0; i < 4; i++) x |= (size_t)(unsigned char)bytes[at + i] << 8 * i;
    return x;
}
inline std::string make_hello(const Place& p, const std::string& run_id, const std::string& secret) {
    const std::string says = PROTOCOL + u32((size_t)p.rank) + u32((size_t)p.world) + sha256(run_id) + random_bytes(NONCE);
    return says + hmac_sha256(secret, "hello" + says);
}
// Of each kind of message its own, so that none can be sent back as another.
inline std::string mac_of(const std::string& secret, const char* kind, const std::string& hello, const std::string& nonce, const std::string& body = "") {
    return hmac_sha256(secret, kind + hello + nonce + body);
}

// ---- addresses -----------------------------------------------------------------------------------------------------

struct Address { std::string host; int port = RENDEZVOUS_PORT; };
inline std::string text_of(const Address& a) { return format(a.host.find(':') == a.host.npos ? "%s:%d" : "[%s]:%d", a.host.c_str(), a.port); }

// host, host:port, [IPv6]:port, or an IPv6 address alone
inline Address parse_address(const std::string& text) {
    const auto bad = [&](const char* why) { die_with(EXIT_USAGE, "--server: '%s' given, %s; host, host:port or [IPv6 address]:port", text.c_str(), why); };
    Address a;
    std::string port;
    const size_t colon = text.rfind(':'), bracket = text.rfind(']');
    if (text.starts_with('[')) {
        if (bracket == text.npos) bad("has no ]");
        a.host = text.substr(1, bracket - 1);
        if (bracket + 1 < text.size() && text[bracket + 1] != ':') bad("goes on after ]");
        port = bracket + 1 < text.size() ? text.substr(bracket + 2) : std::to_string(a.port);
    } else if (colon == text.npos || text.find(':') != colon) {
        a.host = text, port = std::to_string(a.port);
    } else {
        a.host = text.substr(0, colon), port = text.substr(colon + 1);
    }
    long number = 0;
    if (a.host.empty()) bad("names no host");
    if (!launcher_detail::parse_count(port.c_str(), 1, number) || number > 65535) bad("the port must be a whole number from 1 to 65535");
    a.port = (int)number;
    return a;
}
inline Address address_of_server(const Place& p, const TcpOptions& o) {
    std::string text = o.server.empty() ? server_of_launcher() : o.server;
    if (text.empty() && p.local_world == p.world) text = "127.0.0.1";
    if (text.empty()) die_with(EXIT_USAGE, "--server: missing, must be the host[:port] where rank 0 listens");
    return parse_address(text);
}
inline std::string text_of(const sockaddr_storage& address, socklen_t length) {
    char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "0";
    getnameinfo((const sockaddr*)&address, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    return text_of({strncmp(host, "::ffff:", 7) ? host : host + 7, atoi(port)});
}
inline std::string without_port(const std::string& address) { return address.substr(0, address.rfind(':')); }

// ---- rank 0 --------------------------------------------------------------------------------------------------------

enum Stage { SAYS_HELLO, SAYS_PROOF, WAITS, TOLD };
struct Peer {
    int fd;
    std::string address;
    double born;
    Stage stage = SAYS_HELLO;
    std::string in = {}, out = {}, hello = {}, nonce = {};
    int rank = -1;
    bool gone = false;
};

class Server {
    const Place place;
    const TcpOptions options;
    const Address at;
    const std::string run_id, secret, blob;
    const double deadline;
    std::vector<int> listeners;
    std::vector<Peer> peers;
    std::set<std::string> warned;
    bool loopback = true;

    // The same once, and 20 in all: a stranger shall not fill the disk with our log.
    [[gnu::format(printf, 2, 3)]] void warn(const char* pattern, ...) {
        char text[1024];
        va_list args;
        va_start(args, pattern);
        vsnprintf(text, sizeof text, pattern, args);
        va_end(args);
        if (warned.size() > 20 || !warned.insert(text).second) return;
        fprintf(stderr, "warning: %s%s\n", text, warned.size() > 20 ? "; no more is said of strangers" : "");
    }

    void listen_at(const sockaddr* address, socklen_t length, bool optional) {
        const int one = 1, zero = 0;
        const int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);  // connections of an earlier run may linger; one that listens does not share
        if (fd >= 0 && address->sa_family == AF_INET6) {
            const bool any = IN6_IS_ADDR_UNSPECIFIED(&((const sockaddr_in6*)address)->sin6_addr);
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &zero : &one, sizeof one);
        }
        if (fd >= 0 && bind(fd, address, length) == 0 && listen(fd, SOMAXCONN) == 0) {
            listeners.push_back(fd);
            const uint32_t v4 = address->sa_family == AF_INET ? ntohl(((const sockaddr_in*)address)->sin_addr.s_addr) : 0;
            loopback = loopback && (address->sa_family == AF_INET ? v4 >> 24 == 127 : IN6_IS_ADDR_LOOPBACK(&((const sockaddr_in6*)address)->sin6_addr));
            return;
        }
        const int error = errno;
        if (fd >= 0) close(fd);
        const std::string where = text_of(at);
        if (error == EADDRINUSE) die("--server %s: port %d is taken by another program, or by rank 0 of another run; give another one", where.c_str(), at.port);
        if (optional) return;
        if (error == EADDRNOTAVAIL) die_with(EXIT_USAGE, "--server %s: is no address of this machine, where rank 0 has to listen; 0.0.0.0 here stands for all of them", where.c_str());
        die("--server %s: cannot listen there: %s", where.c_str(), strerror(error));
    }
    // At the address itself if it is one. A name may be another for this machine than for the others (Debian's /etc/hosts makes a machine's own
    // name 127.0.1.1), so for a name it is all addresses; but for localhost.
    void open_listeners() {
        addrinfo hints = {}, *found = nullptr;
        hints.ai_socktype = SOCK_STREAM, hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
        const auto listen_at_text = [&](const char* host, bool optional) {
            if (getaddrinfo(host, std::to_string(at.port).c_str(), &hints, &found)) return false;
            listen_at(found->ai_addr, found->ai_addrlen, optional);
            freeaddrinfo(found);
            return true;
        };
        if (listen_at_text(at.host.c_str(), false)) return;
        if (at.host == "localhost") listen_at_text("::1", true), listen_at_text("127.0.0.1", false);
        else if (listen_at_text("::", true), listeners.empty()) listen_at_text("0.0.0.0", false);
    }
    // A descriptor for each rank; the usual limit is 1024.
    void raise_file_limit() const {
        rlimit files;
        const rlim_t need = (rlim_t)place.world + 2 * STRANGERS + 256;
        if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur >= need) return;
        files.rlim_cur = std::min(need, files.rlim_max);
        setrlimit(RLIMIT_NOFILE, &files);
    }

    Peer* waiting(int rank) {
        for (Peer& p : peers) if (!p.gone && p.stage >= WAITS && p.rank == rank) return &p;
        return nullptr;
    }
    std::vector<int> missing() {
        std::vector<int> ranks;
        for (int rank = 1; rank < place.world; rank++) if (!waiting(rank)) ranks.push_back(rank);
        return ranks;
    }
    // Closed without a word.
    void drop(Peer& p) {
        close(p.fd);
        p.gone = true;
    }
    void drop_oldest_stranger() {
        Peer* oldest = nullptr;
        for (Peer& p : peers)  // in the order in which they came; who has said a true hello goes last
            if (!p.gone && p.stage < WAITS && (!oldest || p.stage < oldest->stage)) oldest = &p;
        if (oldest) drop(*oldest);
    }
    void accept_all(int listener) {
        for (;;) {
            sockaddr_storage from = {};
            socklen_t length = sizeof from;
            const int fd = accept4(listener, (sockaddr*)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) {
                if (errno == EMFILE || errno == ENFILE) drop_oldest_stranger(), poll(nullptr, 0, 10);
                if (errno != ECONNABORTED && errno != EINTR) return;
                continue;
            }
            size_t strangers = 0;
            for (const Peer& p : peers) strangers += !p.gone && p.stage < WAITS;
            if (strangers >= STRANGERS + (size_t)place.world) drop_oldest_stranger();
            peers.push_back({.fd = fd, .address = text_of(from, length), .born = seconds()});
        }
    }

    void answer(Peer& p, Status status, const std::string& body) {
        const std::string says = (char)status + u32(body.size()) + body;
        p.out += says + mac_of(secret, "answer", p.hello, p.nonce, says);
        p.stage = TOLD;
        flush(p);
    }
    void flush(Peer& p) {
        while (!p.out.empty() && !p.gone) {
            const ssize_t n = send(p.fd, p.out.data(), p.out.size(), MSG_NOSIGNAL);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && errno == EAGAIN) return;
            if (n < 0) return drop(p);
            p.out.erase(0, (size_t)n);
        }
    }
    // Tells all who have proved themselves, and ends.
    [[noreturn]] void refuse_all(int code, const std::string& why) {
        for (Peer& p : peers) if (!p.gone && p.stage == WAITS) answer(p, (Status)code, why);
        for (const double until = seconds() + 1; seconds() < until; poll(nullptr, 0, 5)) {
            bool left = false;
            for (Peer& p : peers) if (!p.gone) flush(p), left = left || (!p.gone && !p.out.empty());
            if (!left) break;
        }
        die_with(code, "%s", why.c_str());
    }

    void take_hello(Peer& p) {
        const std::string says = p.in.substr(0, HELLO - MAC);
        if (says.compare(0, 8, PROTOCOL) != 0) {
            if (says.starts_with("llmcrdv")) warn("%s: speaks version %c of the protocol, here %c: another build", without_port(p.address).c_str(), says[7] > ' ' && says[7] < 127 ? says[7] : '?', PROTOCOL[7]);
            else                             warn("%s: a stranger on the port of --server, ignored", without_port(p.address).c_str());
            return drop(p);
        }
        if (!equal_in_constant_time(p.in.substr(HELLO - MAC), hmac_sha256(secret, "hello" + says))) {
            warn("%s: says that it is rank %u, but does not know the secret (LLMC_SECRET, --secret): ignored", without_port(p.address).c_str(), (unsigned)read_u32(says, 8));
            return drop(p);
        }
        p.hello = p.in, p.nonce = random_bytes(NONCE), p.in.clear(), p.stage = SAYS_PROOF;
        p.out = p.nonce + mac_of(secret, "server", p.hello, p.nonce);
        flush(p);
    }
    // It knows the secret, now: what it says of itself is true, and what is wrong with it is a mistake of the run.
    void take_proof(Peer& p) {
        if (!equal_in_constant_time(p.in, mac_of(secret, "client", p.hello, p.nonce))) {
            warn("%s: a wrong proof, ignored", without_port(p.address).c_str());
            return drop(p);
        }
        p.in.clear(), p.stage = WAITS;
        const unsigned rank = (unsigned)read_u32(p.hello, 8), world = (unsigned)read_u32(p.hello, 12);
        if (p.hello.substr(16, 32) != sha256(run_id)) {
            warn("%s: rank %u of another run, sent away", without_port(p.address).c_str(), rank);
            return answer(p, ANOTHER_RUN, "");
        }
        if (world != (unsigned)place.world) refuse_all(EXIT_USAGE, format("rank %u at %s says that there are %u ranks, rank 0 says %d", rank, p.address.c_str(), world, place.world));
        if (rank == 0 || rank >= world) refuse_all(EXIT_USAGE, format("%s says that it is rank %u of %u%s", p.address.c_str(), rank, world, rank ? "" : ": there are two of rank 0"));
        if (Peer* other = waiting((int)rank); other && is_there(*other))
            refuse_all(EXIT_USAGE, format("rank %u came twice, from %s and from %s", rank, other->address.c_str(), p.address.c_str()));
        p.rank = (int)rank;
    }
    // Whether it still holds its end; if not it is dropped. A rank that was started again may come before its first end is noticed.
    bool is_there(Peer& p) {
        char byte;
        const ssize_t n = recv(p.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
        drop(p);
        return false;
    }
    void read_from(Peer& p) {
        const size_t want = p.stage == SAYS_HELLO ? HELLO : p.stage == SAYS_PROOF ? MAC : 0;
        char bytes[HELLO + 1];
        const ssize_t n = recv(p.fd, bytes, want - p.in.size() + 1, 0);  // one more than there may be
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n > 0) p.in.append(bytes, (size_t)n);
        const bool not_ours = p.stage == SAYS_HELLO && p.in.compare(0, 7, PROTOCOL, std::min<size_t>(7, p.in.size())) != 0;
        if (n <= 0 || p.in.size() > want || not_ours) {
            if (p.stage == SAYS_HELLO && !p.in.empty()) warn("%s: a stranger on the port of --server, ignored", without_port(p.address).c_str());
            if (p.stage == WAITS) warn("rank %d at %s went away before all ranks had come", p.rank, p.address.c_str());
            return drop(p);
        }
        if (p.in.size() < want) return;
        if (p.stage == SAYS_HELLO) take_hello(p);
        else                       take_proof(p);
    }
    void serve(double until) {
        std::vector<pollfd> ready;
        for (int fd : listeners) ready.push_back({fd, POLLIN, 0});
        for (const Peer& p : peers) ready.push_back({p.fd, (short)(POLLIN | (p.out.empty() ? 0 : POLLOUT)), 0});
        const size_t known = peers.size();
        exit_if_stopping("while the ranks were finding each other");
        if (poll(ready.data(), ready.size(), (int)(std::clamp(until - seconds(), 0.0, 0.1) * 1000) + 1) < 0 && errno != EINTR) die("poll: %s", strerror(errno));
        for (size_t i = 0; i < known; i++) {
            const short events = ready[listeners.size() + i].revents;
            if (events & POLLOUT) flush(peers[i]);
            if (!peers[i].gone && (events & (POLLIN | POLLHUP | POLLERR))) read_from(peers[i]);
            if (!peers[i].gone && peers[i].stage < WAITS && seconds() - peers[i].born > options.handshake_s) drop(peers[i]);
        }
        for (size_t i = 0; i < listeners.size(); i++) if (ready[i].revents) accept_all(listeners[i]);
        std::erase_if(peers, [](const Peer& p) { return p.gone; });
    }

  public:
    Server(const Place& p, const std::string& blob_, const TcpOptions& o, const std::string& run_id_, const std::string& secret_)
        : place(p), options(o), at(address_of_server(p, o)), run_id(run_id_), secret(secret_), blob(blob_), deadline(seconds() + o.timeout_s) {}

    void run() {
        raise_file_limit();
        open_listeners();
        if (secret.empty() && !loopback) warn("--server %s: without a secret (LLMC_SECRET) anyone who reaches port %d can join this run", text_of(at).c_str(), at.port);
        for (std::vector<int> absent = missing(); !absent.empty(); absent = missing()) {
            if (seconds() > deadline) refuse_all(EXIT_FAILED, format("--server %s: %s of %d did not come %s", text_of(at).c_str(), ranks_text(absent).c_str(), place.world, limit_text(options.timeout_s).c_str()));
            serve(deadline);
        }
        for (int fd : listeners) close(fd);
        listeners.clear();
        for (Peer& p : peers) {
            if (p.stage == WAITS) answer(p, BLOB, blob);
            else                  drop(p);
        }
        // each closes when it has all: closed by us now, the last bytes of a slow one could be lost
        for (std::erase_if(peers, [](const Peer& p) { return p.gone; }); !peers.empty();) {
            std::vector<int> left;
            for (const Peer& p : peers) left.push_back(p.rank);
            std::sort(left.begin(), left.end());
            if (seconds() > deadline + options.handshake_s) die("--server %s: %s did not take what rank 0 sent", text_of(at).c_str(), ranks_text(left).c_str());
            serve(deadline + options.handshake_s);
        }
    }
};

// ---- the others ----------------------------------------------------------------------------------------------------

class Client {
    const Place place;
    const TcpOptions options;
    const Address at;
    const std::string run_id, secret;
    const double deadline;
    int fd = -1;
    std::string address, reason;          // where we connect to, and why that came to nothing
    bool closed = false, silent = false;  // by the other side; before it said a byte

    bool failed(const std::string& why) {
        if (seconds() < deadline || reason.empty()) reason = why;  // not that the last attempt was cut short
        return false;
    }
    bool wait_for(short events, double until) {
        for (;;) {
            exit_if_stopping("while the ranks were finding each other");
            const double left = until - seconds();
            if (left <= 0) return failed("no answer");
            pollfd ready = {fd, events, 0};
            if (poll(&ready, 1, (int)(std::min(left, 1.0) * 1000) + 1) > 0) return true;
        }
    }
    bool connect_to(const addrinfo& to) {
        sockaddr_storage here = {}, there = {};
        socklen_t here_length = sizeof here, there_length = sizeof there, size = sizeof(int);
        int error = 0;
        fd = socket(to.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) return failed(strerror(errno));
        if (connect(fd, to.ai_addr, to.ai_addrlen) != 0) {
            if (errno != EINPROGRESS) return failed(strerror(errno));
            if (!wait_for(POLLOUT, std::min(deadline, seconds() + options.handshake_s))) return false;
            if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) return failed(strerror(error ? error : errno));
        }
        // Where nobody listens at a port of the range for outgoing connections, the kernel may choose that very port for our end: we meet ourselves.
        getsockname(fd, (sockaddr*)&here, &here_length), getpeername(fd, (sockaddr*)&there, &there_length);
        address = text_of(there, there_length);
        return text_of(here, here_length) != address || failed("connection refused");
    }
    bool say(const std::string& bytes) {  // some hundred bytes: they fit a new connection's buffer
        return send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == (ssize_t)bytes.size() || failed(strerror(errno));
    }
    bool hear(std::string& bytes, size_t n, double until) {
        bytes.clear();
        while (bytes.size() < n) {
            char buffer[4096];
            if (!wait_for(POLLIN, until)) return false;
            const ssize_t got = recv(fd, buffer, std::min(n - bytes.size(), sizeof buffer), 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            closed = got <= 0;
            if (closed) return failed(got ? strerror(errno) : "it closed the connection");
            bytes.append(buffer, (size_t)got);
        }
        return true;
    }
    // true: `blob` is what rank 0 has.
    bool ask(std::string& blob) {
        const double soon = std::min(deadline, seconds() + options.handshake_s);
        const std::string hello = make_hello(place, run_id, secret);
        std::string challenge, head, body;
        closed = false;
        if (!say(hello)) return false;
        if (!hear(challenge, CHALLENGE, soon)) return silent = challenge.empty() && closed, false;
        const std::string nonce = challenge.substr(0, NONCE);
        if (!equal_in_constant_time(challenge.substr(NONCE), mac_of(secret, "server", hello, nonce))) return failed("who answers there does not know the secret");
        // rank 0 waits for all, until its own deadline, and then says who is missing
        const double end = deadline + options.handshake_s;
        if (!say(mac_of(secret, "client", hello, nonce)) || !hear(head, ANSWER_HEAD, end)) return false;
        const size_t bytes = read_u32(head, 1);
        if (bytes > RENDEZVOUS_BYTES) return failed(format("it announced %zu bytes", bytes));
        if (!hear(body, bytes + MAC, end)) return false;
        const std::string mac = body.substr(bytes);
        body.resize(bytes);
        if (!equal_in_constant_time(mac, mac_of(secret, "answer", hello, nonce, head + body))) return failed("its answer was changed on the way");
        if (head[0] == FAILED || head[0] == MISTAKE) die_with(head[0], "rank 0 at %s: %s", address.c_str(), body.c_str());
        if (head[0] == ANOTHER_RUN) return failed("rank 0 of another run listens there");
        blob = body;
        return true;
    }
    bool try_all_addresses(std::string& blob) {
        addrinfo hints = {}, *found = nullptr;
        hints.ai_socktype = SOCK_STREAM, hints.ai_flags = AI_NUMERICSERV;
        const int error = getaddrinfo(at.host.c_str(), std::to_string(at.port).c_str(), &hints, &found);
        if (error) return failed(gai_strerror(error));  // a name may become known later, as in a cluster that just starts
        bool done = false, any_silent = false;
        std::string best;  // the reason of an address where somebody listens, else of the first
        for (const addrinfo* to = found; to && !done; to = to->ai_next) {
            silent = false;
            const bool connected = connect_to(*to);
            done = connected && ask(blob);
            if (fd >= 0) close(std::exchange(fd, -1));
            any_silent = any_silent || silent;
            if (connected || best.empty()) best = reason;
        }
        freeaddrinfo(found);
        reason = best, silent = any_silent;
        return done;
    }

  public:
    Client(const Place& p, const TcpOptions& o, const std::string& run_id_, const std::string& secret_)
        : place(p), options(o), at(address_of_server(p, o)), run_id(run_id_), secret(secret_), deadline(seconds() + o.timeout_s) {}

    std::string run() {
        std::string blob;
        Backoff backoff(0.02, 1);  // 20 ms: a rank that starts with rank 0 is there before it listens
        double silent_since = 0;
        while (!try_all_addresses(blob)) {
            if (!silent) silent_since = 0;
            else if (silent_since == 0) silent_since = seconds();
            const std::string where = text_of(at);
            if (silent_since > 0 && seconds() - silent_since >= options.silent_s)
                die("--server %s: closes the connection without an answer: has rank 0 another secret (LLMC_SECRET, --secret), or is this another program's port?", where.c_str());
            if (seconds() >= deadline) die("--server %s: did not find rank 0 there %s: %s", where.c_str(), limit_text(options.timeout_s).c_str(), reason.c_str());
            backoff.wait(deadline);
        }
        return blob;
    }
};
}  // namespace tcp_rendezvous_detail

// Returns rank 0's blob on every rank, once all have come.
inline std::string rendezvous_tcp(const Place& place, const std::string& blob, const TcpOptions& options) {
    using namespace tcp_rendezvous_detail;
    CHECK(blob.size() <= RENDEZVOUS_BYTES, "a blob of %zu bytes, must be at most %zu", blob.size(), RENDEZVOUS_BYTES);
    if (place.world == 1) return blob;
    const char* secret = launcher_detail::variable("LLMC_SECRET");
    const std::string shared = options.secret.empty() && secret ? secret : options.secret;
    const std::string run_id = options.run_id.empty() ? run_id_of(place) : options.run_id;
    if (place.rank > 0) return Client(place, options, run_id, shared).run();
    Server(place, blob, options, run_id, shared).run();
    return blob;
}
