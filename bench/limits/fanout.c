/* Limit of F1 to F4: what fan-out could be at most on this machine. An epoll loop that answers the upgrade and then
 * sends every message to every client by one send(); no protocol beyond, no tenants, no ids.
 *
 * fanout PORT BYTES [REDIS_SOCKET]
 *   Messages have about so many bytes. What is sent is said on stdin: "rate N" messages a second (0: none), "flood" as
 *   many as are taken. With REDIS_SOCKET: sends what is published on the channel "bench", as it comes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CLIENTS 20000

static int clients[MAX_CLIENTS], client_count, epoll_fd;
static size_t padding;

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void die(const char *what) { perror(what); exit(1); }

/* A message that bears a number, in a frame; returns its length. */
static size_t framed(char *into, int64_t total) {
    char text[8192];
    int n = snprintf(text, sizeof text, "{\"pad\":\"%0*d\",\"total\":%lld}", (int)padding, 0, (long long)total);
    size_t head = n < 126 ? 2 : 4;
    into[0] = (char)0x81;
    if (n < 126) into[1] = n;
    else { into[1] = 126; into[2] = n >> 8; into[3] = n & 255; }
    memcpy(into + head, text, n);
    return head + n;
}

static void send_whole(int fd, const char *data, size_t length) {
    while (length) {
        ssize_t n = send(fd, data, length, MSG_NOSIGNAL);
        if (n > 0) { data += n; length -= n; continue; }
        if (n < 0 && errno == EAGAIN) { struct pollfd p = {fd, POLLOUT, 0}; poll(&p, 1, 1000); continue; }
        return;
    }
}

static void send_to_all(int64_t total) {
    char frame[8300];
    size_t length = framed(frame, total);
    for (int i = 0; i < client_count; i++) send_whole(clients[i], frame, length);
}

static void greet(int fd) {
    /* Of the key "dGhlIHNhbXBsZSBub25jZQ==", which the readers send (RFC 6455, 1.3). */
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n";
    char frame[8300];
    send_whole(fd, answer, sizeof answer - 1);
    send_whole(fd, frame, framed(frame, now_us()));
    clients[client_count++] = fd;
}

static int listening(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 2048)) die("listen");
    return fd;
}

static int subscribed(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    static const char command[] = "SUBSCRIBE bench\r\n";
    if (connect(fd, (struct sockaddr *)&at, sizeof at)) die("redis");
    if (send(fd, command, sizeof command - 1, 0) < 0) die("redis");
    return fd;
}

/* What was published: a number, the last bulk string of each push that came. */
static void relay(int fd) {
    static char buffer[65536];
    static size_t filled;
    ssize_t n = recv(fd, buffer + filled, sizeof buffer - 1 - filled, 0);
    if (n <= 0) die("redis");
    filled += n;
    buffer[filled] = 0;
    char *at = buffer, *found;
    while ((found = strstr(at, "message\r\n$5\r\nbench\r\n$"))) {
        char *number = strstr(found + 21, "\r\n");
        if (!number || !strstr(number + 2, "\r\n")) break;
        send_to_all(strtoll(number + 2, &at, 10));
    }
    memmove(buffer, at, filled -= at - buffer);
}

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "usage: fanout PORT BYTES [REDIS_SOCKET]\n"); return 2; }
    padding = atoi(argv[2]) > 50 ? atoi(argv[2]) - 50 : 1;
    struct rlimit limit = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = listening(atoi(argv[1])), redis = argc > 3 ? subscribed(argv[3]) : -1;
    struct epoll_event events[256], event = {.events = EPOLLIN};
    epoll_fd = epoll_create1(0);
    int sources[] = {0, listener, redis};
    for (int i = 0; i < 3; i++) {
        event.data.fd = sources[i];
        if (sources[i] >= 0) epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sources[i], &event);
    }
    int64_t pause = 0, due = 0; /* pause -1: flood */
    char line[256];
    for (;;) {
        int wait = pause < 0 ? 0 : pause ? (int)((due - now_us()) / 1000) : -1;
        int n = epoll_wait(epoll_fd, events, 256, wait < 0 && pause ? 0 : wait);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == 0) {
                ssize_t got = read(0, line, sizeof line - 1);
                if (got <= 0) return 0;
                line[got] = 0;
                int rate = 0;
                if (!strncmp(line, "flood", 5)) pause = -1;
                else if (sscanf(line, "rate %d", &rate) == 1) pause = rate ? 1000000 / rate : 0;
                due = now_us();
            } else if (fd == listener) {
                int one = 1, made = accept(listener, NULL, NULL);
                if (made < 0) continue;
                setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                fcntl(made, F_SETFL, O_NONBLOCK);
                event.data.fd = made;
                epoll_ctl(epoll_fd, EPOLL_CTL_ADD, made, &event);
            } else if (fd == redis) relay(fd);
            else {
                char request[4096];
                ssize_t got = recv(fd, request, sizeof request, 0);
                if (got == 0 || (got < 0 && errno != EAGAIN)) {
                    for (int k = 0; k < client_count; k++)
                        if (clients[k] == fd) clients[k] = clients[--client_count];
                    close(fd);
                } else if (got > 4 && !memcmp(request, "GET ", 4) && client_count < MAX_CLIENTS) greet(fd);
            }
        }
        if (pause < 0 && client_count) send_to_all(now_us());
        else if (pause > 0 && now_us() >= due) { send_to_all(now_us()); due += pause; }
    }
}
