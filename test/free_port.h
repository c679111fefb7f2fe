// free_port.h: a port of this machine for a test.
#pragma once
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cstdlib>

// A port that was free a moment ago.
inline int free_port() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at = {};
    at.sin_family = AF_INET, at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof at;
    if (bind(fd, (sockaddr*)&at, sizeof at) || getsockname(fd, (sockaddr*)&at, &length)) abort();
    close(fd);
    return ntohs(at.sin_port);
}
