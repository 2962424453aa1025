/* service: answers every JSON-RPC request over TCP netstrings with one fixed result, at once or after a delay.
 *
 * One thread, one epoll loop, many connections. A request is a netstring whose object has an integer "id" among its
 * own members (at any place, with any white space); one without is a notification and gets no answer. All that came
 * in one read is answered in one write. Prints "listening PORT" when it is ready; ends when stdin is closed, and then
 * prints "held N": how many delayed answers waited at once, at most.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_SIZE = 1 << 18, MAX_EVENTS = 64 };

struct connection {
    int fd, holes; /* `holes` counts delayed answers that still point here */
    char *out;
    size_t out_length, out_size;
    size_t in_length;
    char in[INPUT_SIZE];
};

/* Delayed answers wait in a ring: the delay is the same for all, so they fall due in the order they came. */
struct delayed {
    uint64_t due_us;
    struct connection *connection;
    long long id;
};

static const char *result = "{\"name\":\"Petros\",\"contact\":\"sip:petros@127.0.0.1:5099\",\"allowed\":true}";
static uint64_t delay_us;
static int poller;
static struct delayed *ring;
static size_t ring_size, ring_head, ring_length, most_held;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void *grow(void *old, size_t size)
{
    void *new = realloc(old, size);
    if (!new) {
        fprintf(stderr, "service: out of memory\n");
        exit(2);
    }
    return new;
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

static void write_out(struct connection *c)
{
    size_t done = 0;
    while (c->fd >= 0 && done < c->out_length) {
        ssize_t n = send(c->fd, c->out + done, c->out_length - done, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    memmove(c->out, c->out + done, c->out_length - done);
    c->out_length -= done;
    if (c->fd >= 0 && c->out_length) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    }
}

static void answer(struct connection *c, long long id)
{
    char head[64];
    size_t result_length = strlen(result);
    int head_length = snprintf(head, sizeof head, "{\"jsonrpc\":\"2.0\",\"id\":%lld,\"result\":", id);
    size_t room = c->out_length + result_length + 128;

    if (c->fd < 0)
        return;
    if (room > c->out_size) {
        c->out_size = room * 2;
        c->out = grow(c->out, c->out_size);
    }
    c->out_length += (size_t)sprintf(c->out + c->out_length, "%zu:%s%s},", (size_t)head_length + result_length + 1,
                                     head, result);
}

static void delay(struct connection *c, long long id)
{
    if (ring_length == ring_size) {
        size_t size = ring_size ? ring_size * 2 : 1024;
        struct delayed *bigger = grow(NULL, size * sizeof *bigger);
        for (size_t i = 0; i < ring_length; i++)
            bigger[i] = ring[(ring_head + i) % ring_size];
        free(ring);
        ring = bigger;
        ring_size = size;
        ring_head = 0;
    }
    ring[(ring_head + ring_length++) % ring_size] = (struct delayed){now_us() + delay_us, c, id};
    c->holes++;
    if (ring_length > most_held)
        most_held = ring_length;
}

static void release(struct connection *c)
{
    if (c->fd < 0 && c->holes == 0) {
        free(c->out);
        free(c);
    }
}

static void answer_due(void)
{
    uint64_t now = now_us();
    while (ring_length && ring[ring_head].due_us <= now) {
        struct connection *c = ring[ring_head].connection;
        answer(c, ring[ring_head].id);
        ring_head = (ring_head + 1) % ring_size;
        ring_length--;
        c->holes--;
        if (!ring_length || ring[ring_head].connection != c || ring[ring_head].due_us > now)
            write_out(c);
        release(c);
    }
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

/* Finds the integer "id" among the members of the outermost object; returns 0 when there is none. */
static int find_id(const char *p, const char *end, long long *id)
{
    int depth = 0;
    while (p < end) {
        char c = *p;
        if (c == '"') {
            const char *start = ++p;
            while (p < end && *p != '"')
                p += *p == '\\' ? 2 : 1;
            if (p >= end)
                return 0;
            if (depth == 1 && p - start == 2 && start[0] == 'i' && start[1] == 'd') {
                for (p++; p < end && *p == ' '; p++)
                    ;
                if (p < end && *p == ':') {
                    *id = strtoll(p + 1, NULL, 10); /* the netstring's comma stops it at the latest */
                    return 1;
                }
                continue;
            }
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
        }
        p++;
    }
    return 0;
}

static void close_connection(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    release(c);
}

/* Takes every whole netstring from the connection's input; returns 0 when the stream cannot be followed. */
static int take_frames(struct connection *c)
{
    size_t at = 0;
    while (at < c->in_length) {
        char *colon = memchr(c->in + at, ':', c->in_length - at);
        if (!colon)
            break;
        size_t length = strtoul(c->in + at, NULL, 10), start = (size_t)(colon - c->in) + 1;
        long long id;
        if (length > INPUT_SIZE - 16)
            return 0;
        if (start + length >= c->in_length)
            break;
        if (c->in[start + length] != ',')
            return 0;
        if (find_id(c->in + start, c->in + start + length, &id)) {
            if (delay_us)
                delay(c, id);
            else
                answer(c, id);
        }
        at = start + length + 1;
    }
    memmove(c->in, c->in + at, c->in_length - at);
    c->in_length -= at;
    return 1;
}

static void readable(struct connection *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_length, INPUT_SIZE - c->in_length, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0) {
        c->in_length += (size_t)n;
        if (take_frames(c)) {
            if (c->out_length)
                write_out(c);
            return;
        }
    }
    close_connection(c);
}

static void accept_connection(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
    struct epoll_event event = {.events = EPOLLIN};
    struct connection *c;

    if (fd < 0)
        return;
    c = grow(NULL, sizeof *c);
    *c = (struct connection){.fd = fd};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    event.data.ptr = c;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

/* ---- main ------------------------------------------------------------------------------------------------------ */

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 128)
        || getsockname(fd, (struct sockaddr *)&address, &size)) {
        perror("service: listen");
        exit(2);
    }
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[MAX_EVENTS], event = {.events = EPOLLIN};
    static char listener_mark, stdin_mark;
    int port = 0, listener;

    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--delay") && i + 1 < argc)
            delay_us = strtoull(argv[++i], NULL, 10) * 1000;
        else if (!strcmp(argv[i], "--result") && i + 1 < argc)
            result = argv[++i];
        else if (argv[i][0] >= '0' && argv[i][0] <= '9')
            port = atoi(argv[i]);
        else {
            fprintf(stderr, "usage: service [PORT] [--delay MS] [--result JSON]\n");
            return 2;
        }
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(0);
    listener = listen_on(port);
    event.data.ptr = &listener_mark;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = &stdin_mark;
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);

    for (;;) {
        int timeout = -1;
        if (ring_length) {
            uint64_t now = now_us(), due = ring[ring_head].due_us;
            timeout = due > now ? (int)((due - now + 999) / 1000) : 0;
        }
        int n = epoll_wait(poller, events, MAX_EVENTS, timeout);
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            char byte;
            if (who == &listener_mark)
                accept_connection(listener);
            else if (who == &stdin_mark) {
                if (read(0, &byte, 1) <= 0) {
                    printf("held %zu\n", most_held);
                    return 0;
                }
            } else {
                struct connection *c = who;
                if (events[i].events & EPOLLOUT) {
                    struct epoll_event plain = {.events = EPOLLIN, .data.ptr = c};
                    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &plain);
                    write_out(c);
                }
                if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                    readable(c);
            }
        }
        answer_due();
    }
}
