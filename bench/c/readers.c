/* Readers of live frames, for the benchmarks: graphql-transport-ws clients in one epoll loop, cheap enough that what
 * they share a core with does not wait for them.
 *
 * readers PORT CLIENTS KEYS SUBSCRIBE STALLED BLOCK
 *   KEYS       file of lines, one a tenant; client i says the key of line i mod lines. Empty lines: speaks no GraphQL.
 *   SUBSCRIBE  file with the payload of the subscribe message; client i has the id "sub-%06d".
 *   STALLED    so many further clients subscribe and then read nothing.
 *   BLOCK      each ninety clients come from an address of their own, 127.0.BLOCK.x.
 * Says "ready" when all have had a first frame.
 * Then for every line on stdin:
 *   measure MS   "{messages, bytes, seconds, p50_us, p99_us, worst_us}" of the frames of so long; a frame's age counts
 *                from the last number after "total":, in microseconds of CLOCK_MONOTONIC.
 *   record MS P  the same, and each frame's (total, nanoseconds) as pairs of int64 in the file P.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER 65536
#define AT_ONCE 50
#define MAX_AGES (1 << 24)

enum { UPGRADING, INITIALISING, SUBSCRIBED, STREAMING };
struct client { int fd, state, number; size_t filled, skip; char *buffer; };

static struct client *clients;
static int block, count, stalled, streaming, opened, pending, epoll_fd, port, key_count;
static char *keys[4096], *subscribe_payload;
static int64_t messages, bytes, age_count, *ages, *records, record_count;
static int is_recording;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) { fprintf(stderr, "readers: %s: %s\n", what, strerror(errno)); exit(1); }

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, file);
    while (n && text[n - 1] == '\n') text[--n] = 0;
    fclose(file);
    return text;
}

static void say(struct client *c, const char *text) {
    unsigned char frame[BUFFER];
    size_t n = strlen(text), at = 2;
    frame[0] = 0x81;
    if (n < 126) frame[1] = 0x80 | n;
    else { frame[1] = 0x80 | 126; frame[2] = n >> 8; frame[3] = n & 255; at = 4; }
    memset(frame + at, 0, 4); /* a mask of zeros leaves the text as it is */
    memcpy(frame + at + 4, text, n);
    if (send(c->fd, frame, at + 4 + n, 0) != (ssize_t)(at + 4 + n)) die("send");
}

static void open_client(int number) {
    struct client *c = &clients[number];
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1;
    c->number = number;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    from.sin_addr.s_addr = htonl((127 << 24) | (block << 8) | (1 + number / 90));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->buffer = malloc(BUFFER);
    char text[512];
    int n = snprintf(text, sizeof text,
        "GET /graphql HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n", port);
    if (send(c->fd, text, n, 0) != n) die("send");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    opened++;
    pending++;
}

static void is_streaming(struct client *c) {
    c->state = STREAMING;
    streaming++;
    pending--;
    if (c->number >= count) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    if (streaming == count + stalled) { printf("ready\n"); fflush(stdout); }
}

static void subscribe(struct client *c) {
    static char text[BUFFER];
    snprintf(text, sizeof text, "{\"id\":\"sub-%06d\",\"type\":\"subscribe\",\"payload\":%s}", c->number, subscribe_payload);
    say(c, text);
    c->state = SUBSCRIBED;
}

static const char *last_total(const char *text, size_t length) {
    for (const char *at = text + length - 8; at >= text; at--)
        if (*at == '"' && !memcmp(at, "\"total\":", 8)) return at + 8;
    return NULL;
}

static void take_message(struct client *c, char *text, size_t length) {
    if (c->state == INITIALISING) {
        subscribe(c);
        return;
    }
    const char *total = last_total(text, length);
    if (!total) {
        if (memmem(text, length, "\"type\":\"error\"", 14) || memmem(text, length, "\"errors\"", 8)) {
            fprintf(stderr, "readers: %.*s\n", (int)(length < 400 ? length : 400), text);
            exit(1);
        }
        return;
    }
    if (c->state == SUBSCRIBED) { is_streaming(c); return; }
    int64_t value = strtoll(total, NULL, 10), now = now_ns();
    messages++;
    bytes += length;
    if (age_count < MAX_AGES) ages[age_count++] = now / 1000 - value;
    if (is_recording && record_count < MAX_AGES) { records[2 * record_count] = value; records[2 * record_count++ + 1] = now; }
}

/* Whole frames of the buffer; returns how many bytes of it they are. */
static size_t take_frames(struct client *c) {
    size_t at = 0;
    while (c->filled - at >= 2) {
        unsigned char *p = (unsigned char *)c->buffer + at;
        size_t head = 2, length = p[1] & 127;
        if (length == 126) { if (c->filled - at < 4) break; head = 4; length = p[2] << 8 | p[3]; }
        else if (length == 127) {
            if (c->filled - at < 10) break;
            head = 10; length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | p[i];
        }
        if (c->filled - at < head + length) {
            if (head + length > BUFFER) { fprintf(stderr, "readers: a frame of %zu bytes\n", length); exit(1); }
            break;
        }
        if ((p[0] & 15) == 1) take_message(c, (char *)p + head, length);
        else if ((p[0] & 15) == 9) { /* ping: pong with its payload, masked by zeros */
            unsigned char pong[140] = {0x8a, 0x80 | length};
            memcpy(pong + 6, p + head, length);
            if (send(c->fd, pong, 6 + length, 0) < 0) die("send");
        } else if ((p[0] & 15) == 8) {
            fprintf(stderr, "readers: closed %d %.*s\n", p[head] << 8 | p[head + 1], (int)length - 2, p + head + 2);
            exit(1);
        }
        at += head + length;
    }
    return at;
}

static void take(struct client *c) {
    ssize_t n = recv(c->fd, c->buffer + c->filled, BUFFER - c->filled, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { fprintf(stderr, "readers: client %d was cut off\n", c->number); exit(1); }
    c->filled += n;
    size_t at = 0;
    if (c->state == UPGRADING) {
        char *end = memmem(c->buffer, c->filled, "\r\n\r\n", 4);
        if (!end) return;
        if (memcmp(c->buffer, "HTTP/1.1 101", 12)) { fprintf(stderr, "readers: %.*s\n", 300, c->buffer); exit(1); }
        at = end + 4 - c->buffer;
        if (key_count && keys[c->number % key_count][0]) {
            char text[512];
            snprintf(text, sizeof text, "{\"type\":\"connection_init\",\"payload\":{\"authorization\":\"Bearer %s\"}}",
                     keys[c->number % key_count]);
            say(c, text);
            c->state = INITIALISING;
        } else c->state = SUBSCRIBED;
        memmove(c->buffer, c->buffer + at, c->filled -= at);
    }
    at = take_frames(c);
    memmove(c->buffer, c->buffer + at, c->filled -= at);
}

static int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(double seconds, const char *path) {
    qsort(ages, age_count, sizeof *ages, by_value);
    int64_t n = age_count;
    if (path) {
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(records, 16, record_count, file) != (size_t)record_count) die(path);
        fclose(file);
    }
    printf("{\"messages\":%lld,\"bytes\":%lld,\"seconds\":%.6f,\"p50_us\":%lld,\"p99_us\":%lld,\"worst_us\":%lld}\n",
           (long long)messages, (long long)bytes, seconds, n ? (long long)ages[n / 2] : 0LL,
           n ? (long long)ages[n * 99 / 100] : 0LL, n ? (long long)ages[n - 1] : 0LL);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc != 7) { fprintf(stderr, "usage: readers PORT CLIENTS KEYS SUBSCRIBE STALLED BLOCK\n"); return 2; }
    port = atoi(argv[1]), count = atoi(argv[2]), stalled = atoi(argv[5]), block = atoi(argv[6]);
    for (char *line = strtok(read_file(argv[3]), "\n"); line && key_count < 4096; line = strtok(NULL, "\n")) keys[key_count++] = line;
    subscribe_payload = read_file(argv[4]);
    clients = calloc(count + stalled, sizeof *clients);
    ages = malloc(sizeof *ages * MAX_AGES), records = malloc(2 * sizeof *records * MAX_AGES);
    struct rlimit limit = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &limit);
    epoll_fd = epoll_create1(0);
    struct epoll_event events[512], event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event);
    int64_t until = 0, started = 0;
    char line[512], path[400];
    for (;;) {
        while (opened < count + stalled && pending < AT_ONCE) open_client(opened);
        int wait = until ? (int)((until - now_ns()) / 1000000) : 1000;
        int n = epoll_wait(epoll_fd, events, 512, wait < 0 ? 0 : wait);
        if (until && now_ns() >= until) {
            report((now_ns() - started) / 1e9, is_recording ? path : NULL);
            until = is_recording = 0;
        }
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) { take(events[i].data.ptr); continue; }
            ssize_t got = read(0, line, sizeof line - 1);
            if (got <= 0) return 0;
            line[got] = 0;
            int ms = 0;
            is_recording = sscanf(line, "record %d %399s", &ms, path) == 2;
            if (!is_recording) sscanf(line, "measure %d", &ms);
            messages = bytes = age_count = record_count = 0;
            started = now_ns(), until = started + ms * 1000000LL;
        }
    }
}
