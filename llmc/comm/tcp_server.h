// tcp_server.h: rank 0 of tcp_rendezvous.h: listens, lets the ranks in and nobody else, and tells all of them once they have come.
#pragma once
#include <sys/resource.h>
#include <unistd.h>
#include <cstdarg>
#include <set>
#include "tcp_messages.h"

namespace tcp_rendezvous_detail {
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
            warn("%s: says that it is rank %u, but does not know the secret (--secret-file, LLMC_SECRET): ignored", without_port(p.address).c_str(), (unsigned)read_u32(says, 8));
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
        fail_if_stopping();
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
        if (secret.empty() && !loopback) warn("--server %s: without a secret (--secret-file, LLMC_SECRET) anyone who reaches port %d can join this run", text_of(at).c_str(), at.port);
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
}  // namespace tcp_rendezvous_detail
