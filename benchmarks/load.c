/* load: keeps a number of SIP transactions outstanding over UDP, or starts so many a second; reports how they went.
 *
 * It owns connected UDP sockets (one, unless told otherwise) and a fixed table of slots; each slot belongs to one of
 * the sockets (or, with -x, takes one at random each time) and has one transaction at a time. The next one is started as soon as a final answer has come, or, with
 * a rate, when its time has come: every millisecond those that are due are sent. Requests look as SIPp writes them.
 * An answer counts when its top branch is the slot's present one and its status is final; 2xx is a success, any other
 * final status a failure. Datagrams go in and out in batches (recvmmsg, sendmmsg), so that the load takes little of
 * the cores it shares with the server.
 *
 * It does no INVITE: there is no ACK here. Output: one line of JSON on stdout. Exit status 0 when every transaction
 * succeeded, 1 when one failed, 2 for wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 64,
    REQUEST_SIZE = 1024,
    ANSWER_SIZE = 4096,
    LATENCY_LIMIT = 2000000, /* one histogram bucket a microsecond, up to two seconds; the last takes the rest */
    TICK_MS = 50,
    PACE_MS = 1,
    FIRST_RATE = 12800, /* a second: the first of each slot, so that very many do not overflow the server's socket */
    MAX_SOCKETS = 1024,
};

struct slot {
    uint64_t first_sent; /* microseconds; 0 when the slot is idle */
    uint64_t last_sent;
    uint32_t sequence;
    int socket;
    int length;
    int numbers[3]; /* where in `request` the eight hex digits of the sequence stand */
    char request[REQUEST_SIZE];
};

/* A socket, and what is to be sent on it with the next system call. */
struct link {
    int fd, queued;
    struct mmsghdr outgoing[BATCH];
    struct iovec iov[BATCH];
};

struct options {
    const char *method, *host, *user;
    int port, outstanding, sockets;
    double seconds, rate;
    uint64_t transactions, retransmit_us, give_up_us;
    int shuffle;
};

static struct slot *slots;
static struct link *links;
static struct options opt = {"OPTIONS", NULL, "sipp", 0, 64, 1, 0, 0, 0, 500000, 5000000, 0};
static uint32_t run_id;
static int poller;

/* The slots without a transaction, a ring: whichever has been so for longest goes first. */
static int *idle, idle_head, idle_length;

static uint64_t started, succeeded, failed, retransmitted, strays, busy, most_busy;
static uint64_t began_at, ended_at;
static int last_failure_status;
static uint32_t histogram[LATENCY_LIMIT + 1];

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- requests -------------------------------------------------------------------------------------------------- */

/* Writes the slot's request once; only the sequence number changes from one transaction to the next. */
static void prepare(int index, int port)
{
    static const char number[] = "########";
    struct slot *slot = &slots[index];
    const char *body = strcmp(opt.method, "MESSAGE") == 0 ? "hello" : "";
    int is_register = strcmp(opt.method, "REGISTER") == 0;
    char to[128];

    if (is_register)
        snprintf(to, sizeof to, "<sip:%s@%s:%d>", opt.user, opt.host, opt.port);
    else
        snprintf(to, sizeof to, "sut <sip:service@%s:%d>", opt.host, opt.port);
    slot->length = snprintf(
        slot->request, REQUEST_SIZE,
        "%s sip:%s%s:%d SIP/2.0\r\n"
        "Via: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bK-%08x-%06x-%s;rport\r\n"
        "From: sipp <sip:%s@127.0.0.1:%d>;tag=%06x%s\r\n"
        "To: %s\r\n"
        "Call-ID: %06x-%s-%08x@127.0.0.1\r\n"
        "CSeq: 1 %s\r\n"
        "Contact: <sip:%s@127.0.0.1:%d>\r\n"
        "Max-Forwards: 70\r\n"
        "Subject: Performance Test\r\n"
        "%s%s"
        "Content-Length: %zu\r\n\r\n%s",
        opt.method, is_register ? "" : "service@", opt.host, opt.port,
        port, run_id, index, number,
        opt.user, port, index, number,
        to, index, number, run_id,
        opt.method, opt.user, port,
        is_register ? "Expires: 3600\r\n" : "", *body ? "Content-Type: text/plain\r\n" : "",
        strlen(body), body);
    if (slot->length >= REQUEST_SIZE) {
        fprintf(stderr, "load: the request is too long\n");
        exit(2);
    }
    char *at = slot->request;
    for (int i = 0; i < 3; i++, at += 8) {
        at = strstr(at, number);
        slot->numbers[i] = (int)(at - slot->request);
    }
}

static void write_hex(char *to, uint32_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 4)
        to[i] = "0123456789abcdef"[value & 15];
}

static int read_hex(const char *from, int digits, uint32_t *value)
{
    uint32_t v = 0;
    for (int i = 0; i < digits; i++) {
        char c = from[i];
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint32_t)(c - 'a' + 10);
        else
            return 0;
    }
    *value = v;
    return 1;
}

/* ---- sending --------------------------------------------------------------------------------------------------- */

static void flush(struct link *link)
{
    int done = 0;
    while (done < link->queued) {
        int n = sendmmsg(link->fd, link->outgoing + done, (unsigned)(link->queued - done), 0);
        if (n > 0)
            done += n;
        else if (errno == ECONNREFUSED || errno == EINTR)
            continue; /* the server is not up, or was not a moment ago: retransmission will tell */
        else if (errno == ENOBUFS || errno == EAGAIN)
            usleep(1000);
        else
            die("sendmmsg");
    }
    link->queued = 0;
}

static void flush_all(void)
{
    for (int i = 0; i < opt.sockets; i++)
        if (links[i].queued)
            flush(&links[i]);
}

static void send_slot(struct slot *slot)
{
    struct link *link = &links[slot->socket];
    if (link->queued == BATCH)
        flush(link);
    link->iov[link->queued].iov_base = slot->request;
    link->iov[link->queued].iov_len = (size_t)slot->length;
    link->queued++;
}

static void start_transaction(struct slot *slot, uint64_t now)
{
    slot->sequence++;
    for (int i = 0; i < 3; i++)
        write_hex(slot->request + slot->numbers[i], slot->sequence);
    if (opt.shuffle)
        slot->socket = rand() % opt.sockets; /* the Via has another port then, but "rport" brings the answer back */
    slot->first_sent = slot->last_sent = now;
    started++;
    if (++busy > most_busy)
        most_busy = busy;
    send_slot(slot);
}

/* ---- the run --------------------------------------------------------------------------------------------------- */

static int is_paced(void)
{
    return opt.rate > 0 || started < (uint64_t)opt.outstanding;
}

static int is_at_end(uint64_t now)
{
    if (opt.transactions && started >= opt.transactions)
        return 1;
    return opt.seconds > 0 && (double)(now - began_at) >= opt.seconds * 1e6;
}

static void start_due(uint64_t now)
{
    while (idle_length && !is_at_end(now)) {
        double rate = opt.rate > 0 ? opt.rate : FIRST_RATE;
        if (is_paced() && (double)started >= (double)(now - began_at) * rate / 1e6 + 1)
            return;
        int index = idle[idle_head];
        idle_head = (idle_head + 1) % opt.outstanding;
        idle_length--;
        start_transaction(&slots[index], now);
    }
}

static void be_idle(int index)
{
    idle[(idle_head + idle_length++) % opt.outstanding] = index;
}

static void end_transaction(struct slot *slot, uint64_t now)
{
    slot->first_sent = 0;
    busy--;
    ended_at = now;
    be_idle((int)(slot - slots));
}

static void receive(char *data, int length, uint64_t now)
{
    uint32_t run, index, sequence;
    struct slot *slot;

    data[length] = 0;
    if (length < 16 || memcmp(data, "SIP/2.0 ", 8) != 0)
        return;
    int status = atoi(data + 8);
    char *branch = strstr(data, "branch=z9hG4bK-");
    if (status < 200)
        return;
    if (!branch || !read_hex(branch + 15, 8, &run) || !read_hex(branch + 24, 6, &index)
        || !read_hex(branch + 31, 8, &sequence) || run != run_id || index >= (uint32_t)opt.outstanding) {
        strays++;
        return;
    }
    slot = &slots[index];
    if (!slot->first_sent || slot->sequence != sequence) {
        strays++; /* a second answer: the retransmission of a request that had been answered */
        return;
    }
    if (status < 300) {
        uint64_t took = now - slot->first_sent;
        histogram[took < LATENCY_LIMIT ? took : LATENCY_LIMIT]++;
        succeeded++;
    } else {
        last_failure_status = status;
        failed++;
    }
    end_transaction(slot, now);
}

static void tick(uint64_t now)
{
    for (int i = 0; i < opt.outstanding; i++) {
        struct slot *slot = &slots[i];
        if (!slot->first_sent)
            continue;
        if (now - slot->first_sent >= opt.give_up_us) {
            failed++;
            end_transaction(slot, now);
        } else if (opt.retransmit_us && now - slot->last_sent >= opt.retransmit_us) {
            slot->last_sent = now;
            retransmitted++;
            send_slot(slot);
        }
    }
}

static void run(void)
{
    static char buffers[BATCH][ANSWER_SIZE + 1];
    struct epoll_event ready[MAX_SOCKETS];
    struct mmsghdr incoming[BATCH];
    struct iovec iov[BATCH];
    uint64_t now = now_us(), next_tick = now + TICK_MS * 1000;

    memset(incoming, 0, sizeof incoming);
    for (int i = 0; i < BATCH; i++) {
        iov[i].iov_base = buffers[i];
        iov[i].iov_len = ANSWER_SIZE;
        incoming[i].msg_hdr.msg_iov = &iov[i];
        incoming[i].msg_hdr.msg_iovlen = 1;
    }
    began_at = ended_at = now;
    start_due(now);
    flush_all();
    while (busy || !is_at_end(now)) {
        int events = epoll_wait(poller, ready, opt.sockets, is_paced() ? PACE_MS : TICK_MS);
        now = now_us();
        if (events < 0 && errno != EINTR)
            die("epoll_wait");
        for (int e = 0; e < events; e++) {
            int n = recvmmsg((int)ready[e].data.fd, incoming, BATCH, MSG_DONTWAIT, NULL);
            if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
                die("recvmmsg");
            for (int i = 0; i < n; i++)
                receive(buffers[i], (int)incoming[i].msg_len, now);
        }
        if (now >= next_tick) {
            tick(now);
            next_tick = now + TICK_MS * 1000;
        }
        start_due(now);
        flush_all();
    }
}

/* ---- the report ------------------------------------------------------------------------------------------------ */

static uint32_t percentile(double share)
{
    uint64_t wanted = (uint64_t)((double)succeeded * share), seen = 0;
    for (uint32_t us = 0; us <= LATENCY_LIMIT; us++) {
        seen += histogram[us];
        if (seen > wanted)
            return us;
    }
    return 0;
}

static void report(void)
{
    struct rusage usage;
    double seconds = (double)(ended_at - began_at) / 1e6, cpu;
    uint64_t all = succeeded + failed;

    getrusage(RUSAGE_SELF, &usage);
    cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6
          + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    printf("{\"method\": \"%s\", \"outstanding\": %d, \"seconds\": %.3f, \"transactions\": %llu, "
           "\"per_second\": %.0f, \"most_at_once\": %llu, \"failures\": %llu, \"last_failure_status\": %d, \"retransmissions\": %llu, "
           "\"strays\": %llu, \"p50_us\": %u, \"p99_us\": %u, \"own_cpu_us\": %.2f}\n",
           opt.method, opt.outstanding, seconds, (unsigned long long)all,
           seconds > 0 ? (double)succeeded / seconds : 0.0, (unsigned long long)most_busy, (unsigned long long)failed,
           last_failure_status,
           (unsigned long long)retransmitted, (unsigned long long)strays, percentile(0.5), percentile(0.99),
           all ? cpu / (double)all : 0.0);
}

static void usage(void)
{
    fprintf(stderr, "usage: load [-m OPTIONS|MESSAGE|REGISTER] [-c OUTSTANDING] [-d SECONDS] [-n TRANSACTIONS]\n"
                    "            [-u FROM_USER] [-r RETRANSMIT_MS] [-g GIVE_UP_MS] [-s SOCKETS] [-x] [-R RATE] HOST PORT\n"
                    "-r 0: never retransmit. At least one of -d and -n.\n"
                    "-R: so many a second are started, at most OUTSTANDING at once; without it always as many.\n"
                    "-x: each transaction takes one of the sockets at random, and not that of the one before it.\n");
    exit(2);
}

static void open_link(struct link *link, const struct sockaddr_in *remote)
{
    struct epoll_event event = {.events = EPOLLIN};
    int buffer = 8 << 20;

    link->fd = event.data.fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (setsockopt(link->fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer))
        setsockopt(link->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (connect(link->fd, (const struct sockaddr *)remote, sizeof *remote))
        die("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, link->fd, &event))
        die("epoll_ctl");
    for (int i = 0; i < BATCH; i++) {
        link->outgoing[i].msg_hdr.msg_iov = &link->iov[i];
        link->outgoing[i].msg_hdr.msg_iovlen = 1;
    }
}

static int local_port(const struct link *link)
{
    struct sockaddr_in local;
    socklen_t size = sizeof local;
    if (getsockname(link->fd, (struct sockaddr *)&local, &size))
        die("getsockname");
    return ntohs(local.sin_port);
}

int main(int argc, char **argv)
{
    struct sockaddr_in remote = {.sin_family = AF_INET};
    int choice;

    while ((choice = getopt(argc, argv, "m:c:d:n:u:r:g:s:R:x")) != -1)
        switch (choice) {
        case 'm': opt.method = optarg; break;
        case 'c': opt.outstanding = atoi(optarg); break;
        case 'd': opt.seconds = atof(optarg); break;
        case 'n': opt.transactions = strtoull(optarg, NULL, 10); break;
        case 'u': opt.user = optarg; break;
        case 'r': opt.retransmit_us = strtoull(optarg, NULL, 10) * 1000; break;
        case 'g': opt.give_up_us = strtoull(optarg, NULL, 10) * 1000; break;
        case 's': opt.sockets = atoi(optarg); break;
        case 'R': opt.rate = atof(optarg); break;
        case 'x': opt.shuffle = 1; break;
        default: usage();
        }
    if (argc - optind != 2 || opt.outstanding < 1 || opt.outstanding > 0xffffff || opt.sockets < 1
        || opt.sockets > MAX_SOCKETS || opt.rate < 0 || (opt.seconds <= 0 && !opt.transactions))
        usage();
    opt.host = argv[optind];
    opt.port = atoi(argv[optind + 1]);
    remote.sin_port = htons((uint16_t)opt.port);
    if (inet_pton(AF_INET, opt.host, &remote.sin_addr) != 1)
        usage();

    poller = epoll_create1(0);
    run_id = (uint32_t)now_us() ^ (uint32_t)getpid() << 20;
    links = calloc((size_t)opt.sockets, sizeof *links);
    slots = calloc((size_t)opt.outstanding, sizeof *slots);
    idle = calloc((size_t)opt.outstanding, sizeof *idle);
    if (!links || !slots || !idle)
        die("calloc");
    for (int i = 0; i < opt.sockets; i++)
        open_link(&links[i], &remote);
    for (int i = 0; i < opt.outstanding; i++) {
        slots[i].socket = i % opt.sockets;
        prepare(i, local_port(&links[slots[i].socket]));
        be_idle(i);
    }
    run();
    report();
    return failed != 0;
}
