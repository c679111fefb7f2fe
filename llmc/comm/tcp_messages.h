// tcp_messages.h: how ranks find each other over TCP: rank 0 listens, the others connect, and both sides prove that they know the secret before
// anything is told. Here are the messages and the addresses.
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
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
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

// Not in the range of ports that Linux gives to outgoing connections (32768 to 60999), where any program may sit by chance, nor torchrun's 29500.
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
}  // namespace tcp_rendezvous_detail
