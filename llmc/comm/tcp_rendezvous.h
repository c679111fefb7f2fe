// tcp_rendezvous.h: ranks find each other at a port of rank 0's machine. What they say, and why nobody else gets anything: tcp_messages.h.
#pragma once
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstring>
#include <utility>
#include "../io/files.h"
#include "tcp_server.h"

namespace tcp_rendezvous_detail {
// Connects to rank 0, again and again until it is there, proves itself, and waits for the answer.
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
            fail_if_stopping();
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
                die("--server %s: closes the connection without an answer: has rank 0 another secret (--secret-file, LLMC_SECRET), or is this another program's port?", where.c_str());
            if (seconds() >= deadline) die("--server %s: did not find rank 0 there %s: %s", where.c_str(), limit_text(options.timeout_s).c_str(), reason.c_str());
            backoff.wait(deadline);
        }
        return blob;
    }
};
}  // namespace tcp_rendezvous_detail

// --secret-file. A command line is seen by everyone on the machine, and options are written to logs: so they name the file alone.
inline std::string read_secret(const std::string& path) {
    struct stat s;
    if (stat(path.c_str(), &s)) die_with(EXIT_USAGE, "--secret-file: %s: %s", path.c_str(), strerror(errno));
    if (s.st_mode & (S_IRWXG | S_IRWXO)) die_with(EXIT_USAGE, "--secret-file: %s: others may read or write it; chmod 600", path.c_str());
    std::string secret = read_file(path);
    secret.resize(secret.find_last_not_of("\r\n") + 1);  // npos + 1 is 0
    if (secret.empty()) die_with(EXIT_USAGE, "--secret-file: %s is empty", path.c_str());
    return secret;
}

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
