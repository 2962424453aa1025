/* rpc_client: a bare JSON-RPC client over TCP netstrings, the least that the wire costs.
 *
 * One thread, one non-blocking socket, one epoll loop. A call is an entry of a table with its id; an answer is taken
 * apart at its top level, whatever the order of its members, and must have an id that is pending and the result that
 * is expected. Each answer is followed by the next call; all calls that answers of one read gave rise to leave in one
 * write. There are no deadlines, no further servers, no JSON values: what a library adds is what is compared.
 *
 *   rpc_client PORT OUTSTANDING WARM_UP SECONDS LATENCY_SECONDS
 *       prints {"calls":, "cpu":} of SECONDS and {"p50":, "p99":, "p99.9":} (seconds) of LATENCY_SECONDS behind them
 *   rpc_client PORT --in-flight N
 *       makes N calls at once and prints {"answered":, "bytes":, "seconds":, "cpu":}: memory of each while all were
 *       pending
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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

enum { INPUT_SIZE = 1 << 18, READ_SIZE = 1 << 16 };

struct call {
    uint64_t began_ns;
    int is_pending;
};

static const char *params = "{\"id\":1234,\"name\":\"Petros\"}";
static int sock, poller;
static char in[INPUT_SIZE];
static size_t in_length;
static char *out;
static size_t out_length, out_sent, out_size;
/* The table: a call with the id N is at N % slots; `slots` is the number outstanding. The service of the benchmark
 * answers in order, so the slot of the next call is that of the one that has just ended. */
static struct call *calls;
static long long slots, made, ended;
static uint64_t *times;
static size_t times_length, times_size;
static int is_timed;

static void fail(const char *what)
{
    fprintf(stderr, "rpc_client: %s\n", what);
    exit(2);
}

static void *grow(void *old, size_t size)
{
    void *new = realloc(old, size);
    if (!new)
        fail("out of memory");
    return new;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static long pss_kb(void)
{
    char line[256];
    long kb = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pss: %ld", &kb) == 1)
            break;
    if (file)
        fclose(file);
    return kb;
}

/* ---- out ------------------------------------------------------------------------------------------------------- */

static void make_call(void)
{
    char payload[256];
    long long id = ++made;
    struct call *call = &calls[id % slots];
    int length = snprintf(payload, sizeof payload, "{\"id\":%lld,\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"params\":%s}",
                          id, params);

    if (call->is_pending)
        fail("a call was made twice");
    call->is_pending = 1;
    call->began_ns = is_timed ? now_ns() : 0;
    if (out_length + sizeof payload + 16 > out_size) {
        out_size = (out_length + sizeof payload + 16) * 2;
        out = grow(out, out_size);
    }
    out_length += (size_t)sprintf(out + out_length, "%d:%s,", length, payload);
}

static void write_out(void)
{
    while (out_sent < out_length) {
        ssize_t n = send(sock, out + out_sent, out_length - out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0)
            fail("the service has gone");
        out_sent += (size_t)n;
    }
    struct epoll_event event = {.events = EPOLLIN | (out_sent < out_length ? EPOLLOUT : 0)};
    static uint32_t wanted = EPOLLIN;
    if (event.events != wanted) {
        wanted = event.events;
        epoll_ctl(poller, EPOLL_CTL_MOD, sock, &event);
    }
    if (out_sent == out_length) {
        out_sent = out_length = 0;
        if (out_size > 1 << 20) {
            free(out);
            out = NULL;
            out_size = 0;
        }
    }
}

/* ---- in -------------------------------------------------------------------------------------------------------- */

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    return p;
}

/* Where the value that begins at p ends; NULL when it does not. */
static const char *skip_value(const char *p, const char *end)
{
    int depth = 0;
    for (; p < end; p++) {
        if (*p == '"') {
            for (p++; p < end && *p != '"'; p++)
                if (*p == '\\')
                    p++;
            if (p >= end)
                return NULL;
            if (!depth)
                return p + 1;
        } else if (*p == '{' || *p == '[') {
            depth++;
        } else if (*p == '}' || *p == ']') {
            if (!depth--)
                return p;
            if (!depth)
                return p + 1;
        } else if (!depth && (*p == ',' || *p == ' ')) {
            return p;
        }
    }
    return NULL;
}

static void take_answer(const char *p, const char *end)
{
    const char *result = NULL, *result_end = NULL;
    long long id = 0;

    p = skip_blanks(p, end);
    if (p >= end || *p != '{')
        fail("an answer is no object");
    for (p = skip_blanks(p + 1, end); p < end && *p == '"'; p = skip_blanks(p, end)) {
        const char *key = p + 1, *key_end = skip_value(p, end), *value, *value_end;
        if (!key_end)
            fail("an answer is no JSON");
        value = skip_blanks(key_end, end);
        if (value >= end || *value != ':')
            fail("an answer is no JSON");
        value = skip_blanks(value + 1, end);
        value_end = skip_value(value, end);
        if (!value_end)
            fail("an answer is no JSON");
        if (key_end - key == 3 && !memcmp(key, "id", 2))
            id = strtoll(value, NULL, 10);
        else if (key_end - key == 7 && !memcmp(key, "result", 6))
            result = value, result_end = value_end;
        p = skip_blanks(value_end, end);
        if (p < end && *p == ',')
            p++;
    }
    struct call *call = &calls[id % slots];
    if (id < 1 || id > made || !call->is_pending)
        fail("an answer to no call");
    if (!result || (size_t)(result_end - result) != strlen(params) || memcmp(result, params, strlen(params)))
        fail("another result than was expected");
    call->is_pending = 0;
    ended++;
    if (is_timed) {
        if (times_length == times_size) {
            times_size = times_size ? times_size * 2 : 1 << 16;
            times = grow(times, times_size * sizeof *times);
        }
        times[times_length++] = now_ns() - call->began_ns;
    }
}

/* Takes what has come; returns after one read. With `is_repeated`, each answer is followed by a call. */
static void turn(int is_repeated)
{
    struct epoll_event event;
    if (epoll_wait(poller, &event, 1, 10000) <= 0)
        fail("no answer within 10 s");
    if (event.events & EPOLLOUT)
        write_out();
    if (!(event.events & EPOLLIN))
        return;
    ssize_t n = recv(sock, in + in_length, sizeof in - in_length < READ_SIZE ? sizeof in - in_length : READ_SIZE, 0);
    if (n <= 0)
        fail("the service has gone");
    in_length += (size_t)n;
    const char *p = in, *end = in + in_length;
    while (p < end) {
        const char *digits = p;
        size_t size = 0;
        while (p < end && *p >= '0' && *p <= '9' && p - digits < 9)
            size = size * 10 + (size_t)(*p++ - '0');
        if (p == end) {
            p = digits;
            break;
        }
        if (*p != ':' || p == digits)
            fail("no netstring");
        if ((size_t)(end - p) < size + 2) {
            p = digits;
            break;
        }
        if (p[size + 1] != ',')
            fail("no netstring");
        take_answer(p + 1, p + 1 + size);
        p += size + 2;
        if (is_repeated)
            make_call();
    }
    in_length = (size_t)(end - p);
    memmove(in, p, in_length);
    write_out();
}

/* ---- the two runs ------------------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double part)
{
    size_t index = (size_t)((double)times_length * part);
    return times_length ? (double)times[index < times_length ? index : times_length - 1] / 1e9 : 0;
}

static void repeat(double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end)
        turn(1);
}

static void run_load(long long outstanding, double warm_up, double seconds, double latency_seconds)
{
    for (long long i = 0; i < outstanding; i++)
        make_call();
    write_out();
    repeat(warm_up);
    long long before = ended;
    double cpu = cpu_seconds();
    repeat(seconds);
    cpu = cpu_seconds() - cpu;
    before = ended - before;
    is_timed = 1;
    repeat(latency_seconds / 10); /* until those that were made before have ended */
    times_length = 0;
    repeat(latency_seconds);
    qsort(times, times_length, sizeof *times, compare);
    printf("{\"calls\":%lld,\"cpu\":%.6f,\"p50\":%.9f,\"p99\":%.9f,\"p99.9\":%.9f}\n", before, cpu, percentile(0.5),
           percentile(0.99), percentile(0.999));
}

static void run_in_flight(long long count)
{
    long before = pss_kb(), most;
    double cpu = cpu_seconds();
    uint64_t began = now_ns();
    for (long long i = 0; i < count; i++)
        make_call();
    write_out();
    while (!ended)
        turn(0);
    most = pss_kb();
    while (ended < count)
        turn(0);
    printf("{\"answered\":%lld,\"bytes\":%.1f,\"seconds\":%.3f,\"cpu\":%.3f}\n", ended,
           (double)(most - before) * 1024 / (double)count, (double)(now_ns() - began) / 1e9, cpu_seconds() - cpu);
}

int main(int argc, char **argv)
{
    int is_in_flight = argc == 4 && !strcmp(argv[2], "--in-flight");
    if (!is_in_flight && argc != 6)
        fail("usage: rpc_client PORT OUTSTANDING WARM_UP SECONDS LATENCY_SECONDS | rpc_client PORT --in-flight N");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sock = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(sock, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect");
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN};
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, sock, &event);
    slots = atoll(argv[is_in_flight ? 3 : 2]);
    if (slots < 1)
        fail("at least one call");
    calls = calloc((size_t)slots, sizeof *calls);
    if (!calls)
        fail("out of memory");
    if (is_in_flight)
        run_in_flight(slots);
    else
        run_load(slots, atof(argv[3]), atof(argv[4]), atof(argv[5]));
    return 0;
}
