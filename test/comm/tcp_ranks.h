// tcp_ranks.h: ranks that meet by TCP, for tests.
#pragma once
#include "../../llmc/comm/tcp_rendezvous.h"
#include "rank_processes.h"

inline RankProcess rank(int r, int world, const TcpOptions& o) {
    return RankProcess(r, world, [=] { return rendezvous_tcp(place_of(r, world), r ? "" : BLOB, o); });
}
inline TcpOptions at_port(int port, const std::string& secret = "open sesame") {
    return {.server = "127.0.0.1:" + std::to_string(port), .secret = secret, .timeout_s = 10, .handshake_s = 5, .silent_s = 0.3};
}
