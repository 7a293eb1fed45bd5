/* podrail's client: stands in the CNI directory under a plugin's name and lets the node daemon do the work.
 *
 * Sends its name, environment and stdin over a unix socket, with the sandbox as an open file, and copies the
 * reply. Without a daemon it answers by itself as docs/protocol.md says; that page describes the messages too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL 1
#define VERSIONS "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
#define NEWEST "1.1.0"
#define UNSTATED "0.1.0" /* what a configuration without cniVersion speaks */
#define RUN_DIR "/run/podrail"
#define STATE_DIR "/var/lib/cni/podrail"
#define STDIN_MAX (16 * 1024 * 1024 + 1) /* one byte more than allowed: the daemon refuses it with a reason */
#define REPLY_MAX (16 * 1024 * 1024)
#define ENVIRONMENT_MAX (1024 * 1024)
#define HEADER_MAX 4096
#define WAIT_MS 10000        /* for a daemon to answer; PODRAIL_WAIT replaces it, in seconds */
#define STATUS_WAIT_MS 2000  /* for one that took the connection: STATUS must be quick */
#define REPLY_WAIT_MS 300000 /* longer than any caller waits; the daemon limits a call itself */
#define TRY_AGAIN_LATER 11
#define NOT_AVAILABLE 50
#define INVALID_ENVIRONMENT 4
#define IO_FAILURE 5

enum outcome { ANSWERED, NO_DAEMON, LOST };

struct request { char magic[8]; uint32_t version, size, name, environment, input; int32_t sandbox; };
struct greeting { char magic[8]; uint32_t version, size; };
struct reply { uint32_t size, status, output, notes; };

extern char **environ;

/* The daemon takes a file for one of podrail's if it holds this. */
static const char mark[] = "podrail-client: this file is podrail's own executable";
static const char magic[8] = "PODRAIL";
/* In .bss: pages that are not used take no memory. */
static char input[STDIN_MAX], environment[ENVIRONMENT_MAX], answer[REPLY_MAX];
static size_t input_size, environment_size;
static struct reply reply;
static char *own_name;
static const char *command;
static char reason[200] = "";
static volatile sig_atomic_t stopped, connection = -1;

static const char *variable(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

static void because(const char *what, int number)
{
    snprintf(reason, sizeof reason, "%s%s%s", what, number ? ": " : "", number ? strerror(number) : "");
}

/* Half-closing tells the daemon to end the call, undo it and answer. */
static void on_signal(int number)
{
    stopped = number;
    if (connection >= 0)
        shutdown(connection, SHUT_WR);
}

/* Put /dev/null where 0, 1 or 2 is closed, lest the socket becomes stdout; tell whether stdout was open. */
static int open_standard_streams(void)
{
    int was_open = 1;
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0) {
            was_open &= fd != 1;
            if (open("/dev/null", O_RDWR) != fd)
                _exit(1);
        }
    return was_open;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t done = write(fd, data, size);
        if (done < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else if (done < 0 && errno != EINTR)
            return -1;
        if (done > 0)
            data += done, size -= done;
    }
    return 0;
}

/* Signals come while it waits and at no other moment, or one could come just before it waits for ever. */
static void read_input(const sigset_t *waiting)
{
    while (input_size < sizeof input) {
        int ready = ppoll(&(struct pollfd){.fd = 0, .events = POLLIN}, 1, NULL, waiting);
        if (stopped)
            return;
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t got = read(0, input + input_size, sizeof input - input_size);
        if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
            return; /* a stdin that cannot be read is an empty one */
        if (got > 0)
            input_size += got;
    }
}

static int collect_environment(void)
{
    environment_size = 0;
    for (char **entry = environ; *entry; entry++) {
        size_t size = strlen(*entry) + 1;
        if (size > sizeof environment - environment_size)
            return -1;
        memcpy(environment + environment_size, *entry, size);
        environment_size += size;
    }
    return 0;
}

/* Read or write all of `data` until the deadline; -1 with a reason if that fails. */
static int transfer(int fd, int events, void *data, size_t size, long long deadline)
{
    for (char *at = data; size;) {
        ssize_t done = events == POLLIN ? recv(fd, at, size, 0) : send(fd, at, size, MSG_NOSIGNAL);
        if (done > 0) {
            at += done, size -= done;
            continue;
        }
        if (done == 0)
            return because("it closed the connection", 0), -1;
        if (errno != EAGAIN && errno != EINTR)
            return because("the connection broke", errno), -1;
        long long left = deadline - now();
        if (left <= 0)
            return because("it did not answer in time", 0), -1;
        poll(&(struct pollfd){.fd = fd, .events = events}, 1, left);
    }
    return 0;
}

/* Read over what a newer daemon's header has more than we know. */
static int skip(int fd, uint32_t size, size_t known, long long deadline)
{
    char rest[HEADER_MAX];
    if (size < known || size - known > sizeof rest)
        return because("its answer is malformed", 0), -1;
    return transfer(fd, POLLIN, rest, size - known, deadline);
}

static struct request header(int32_t sandbox)
{
    struct request made = {.version = PROTOCOL, .size = sizeof made, .name = strlen(own_name),
                           .environment = environment_size, .input = input_size, .sandbox = sandbox};
    memcpy(made.magic, magic, sizeof magic);
    return made;
}

/* Send what the socket takes at once, the open sandbox with it; return how much that was. */
static ssize_t send_first(int fd, struct iovec *parts, size_t count, int sandbox)
{
    union { char bytes[CMSG_SPACE(sizeof sandbox)]; struct cmsghdr align; } control = {{0}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t sent;
    if (sandbox >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof sandbox);
        memcpy(CMSG_DATA(rights), &sandbox, sizeof sandbox);
    }
    while ((sent = sendmsg(fd, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    if (sent < 0) /* a new connection has room */
        because("the connection broke", errno);
    return sent;
}

/* One call over a connection. The daemon greets before it does anything: without that, nothing was done. */
static enum outcome exchange(int fd, int sandbox, int sandbox_error, long long deadline)
{
    struct greeting greeting;
    struct request made = header(sandbox >= 0 ? 1 : -sandbox_error);
    struct iovec parts[] = {{&made, sizeof made}, {own_name, strlen(own_name)},
                            {environment, environment_size}, {input, input_size}};
    ssize_t sent = send_first(fd, parts, 4, sandbox);
    if (sent < 0 || transfer(fd, POLLIN, &greeting, sizeof greeting, deadline))
        return NO_DAEMON;
    if (memcmp(greeting.magic, magic, sizeof magic))
        return because("who answers there is not podrail", 0), NO_DAEMON;
    deadline = now() + REPLY_WAIT_MS;
    if (skip(fd, greeting.size, sizeof greeting, deadline))
        return LOST;
    /* That something cannot be sent is no failure: a daemon that refuses answers without reading all. */
    for (size_t i = 0; i < 4; sent -= parts[i].iov_len, i++)
        if (sent < (ssize_t)parts[i].iov_len) {
            if (transfer(fd, POLLOUT, (char *)parts[i].iov_base + sent, parts[i].iov_len - sent, deadline))
                break;
            sent = parts[i].iov_len;
        }
    if (transfer(fd, POLLIN, &reply, sizeof reply, deadline) ||
        skip(fd, reply.size, sizeof reply, deadline))
        return LOST;
    if (reply.output > sizeof answer || reply.notes > sizeof answer - reply.output)
        return because("its answer is too long", 0), LOST;
    return transfer(fd, POLLIN, answer, reply.output + reply.notes, deadline) ? LOST : ANSWERED;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return errno = ENAMETOOLONG, -1;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address)) {
        int number = errno;
        close(fd);
        return errno = number, -1;
    }
    return fd;
}

static const char *socket_path(void)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/daemon.sock", variable("PODRAIL_RUN_DIR", RUN_DIR));
    return variable("PODRAIL_SOCKET", path);
}

/* Call the daemon; ADD and CHECK wait for one to come, any verb waits for one that is busy. */
static enum outcome call(void)
{
    const char *netns = variable("CNI_NETNS", "");
    int sandbox = *netns ? open(netns, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    int sandbox_error = *netns && sandbox < 0 ? errno : 0;
    int waits = !strcmp(command, "ADD") || !strcmp(command, "CHECK");
    long seconds = strtol(variable("PODRAIL_WAIT", "-1"), NULL, 10);
    long long wait = !strcmp(command, "STATUS") ? STATUS_WAIT_MS : WAIT_MS;
    long long deadline = now() + (seconds >= 0 && seconds < 1000000 ? seconds * 1000LL : wait);
    enum outcome outcome = NO_DAEMON;
    for (;;) {
        int fd = connect_to(socket_path()), number = errno;
        if (fd >= 0) {
            connection = fd;
            if (stopped) /* before it could be told */
                shutdown(fd, SHUT_WR);
            outcome = exchange(fd, sandbox, sandbox_error, deadline);
            connection = -1;
            close(fd);
        } else
            because("connect", number);
        if (outcome != NO_DAEMON || stopped || now() >= deadline || !(waits || (fd < 0 && number == EAGAIN)))
            break;
        poll(NULL, 0, 20);
    }
    if (sandbox >= 0)
        close(sandbox);
    return outcome;
}

static const char *known_version(const char *text, size_t size)
{
    static const char *const versions[] = {VERSIONS};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
        if (strlen(versions[i]) == size && !memcmp(versions[i], text, size))
            return versions[i];
    return NEWEST;
}

/* Return the end of the JSON string that begins at `at`: the place of its closing quote. */
static size_t end_of_string(size_t at)
{
    for (at++; at < input_size && input[at] != '"'; at++)
        at += input[at] == '\\';
    return at;
}

/* Find the configuration's own cniVersion, which is not that of a prevResult: errors repeat it. */
static const char *version_of_input(void)
{
    const char *found = NEWEST;
    for (size_t at = 0, depth = 0, is_key = 0; at < input_size; at++) {
        char c = input[at];
        if (c == '{' && depth == 0)
            found = UNSTATED;
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && depth)
            depth--;
        else if (c == '"') {
            size_t begin = at + 1;
            at = end_of_string(at);
            if (depth == 1 && is_key == 2 && at < input_size)
                found = known_version(input + begin, at - begin);
            is_key = depth == 1 && at - begin == 10 && !strncasecmp(input + begin, "cniVersion", 10);
        } else if (c == ':' && is_key)
            is_key = 2;
        else if (c == ',')
            is_key = 0;
    }
    return found;
}

/* JSON's escapes, by leaving out what would need one; paths and names that people use have none. */
static const char *plain(const char *text)
{
    static char copies[4][300];
    static int turn;
    char *copy = copies[turn++ % 4];
    size_t i = 0;
    for (; text[i] && i < sizeof *copies - 1; i++)
        copy[i] = text[i] < ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\' ? '?' : text[i];
    copy[i] = 0;
    return copy;
}

static int fail(int code, const char *what, const char *why, const char *fix)
{
    int size = snprintf(answer, sizeof answer,
                        "{\n    \"cniVersion\": \"%s\",\n    \"code\": %d,\n    \"msg\": \"%s\",\n"
                        "    \"details\": \"%s. %s (%s of container %s %s.)\"\n}",
                        version_of_input(), code, what, plain(why), fix, plain(command),
                        plain(variable("CNI_CONTAINERID", "")), plain(variable("CNI_IFNAME", "")));
    write_all(1, answer, size);
    return 1;
}

static int make_directories(char *path)
{
    for (char *at = path + 1; (at = strchr(at, '/')); *at++ = '/') {
        *at = 0;
        if (mkdir(path, 0700) && errno != EEXIST)
            return -1;
    }
    return mkdir(path, 0700) && errno != EEXIST ? -1 : 0;
}

/* Make sure, durably, that what is in `fd` is there under `name`, or not at all. */
static int keep(int fd, int folder, const char *draft, const char *name)
{
    struct request made = header(0);
    if (write_all(fd, (char *)&made, sizeof made) || write_all(fd, own_name, strlen(own_name)) ||
        write_all(fd, environment, environment_size) || write_all(fd, input, input_size) || fsync(fd) ||
        renameat(folder, draft, folder, name))
        return -1;
    if (fsync(folder)) {
        int number = errno;
        unlinkat(folder, name, 0);
        return errno = number, -1;
    }
    return 0;
}

/* Write this call to the queue that the daemon replays; -1 with errno if that fails. */
static int queue_call(char *directory, size_t size)
{
    char name[80], draft[81];
    struct timespec time;
    if (snprintf(directory, size, "%s/queue", variable("PODRAIL_STATE_DIR", STATE_DIR)) >= (int)size)
        return errno = ENAMETOOLONG, -1;
    clock_gettime(CLOCK_REALTIME, &time);
    snprintf(name, sizeof name, "%012lld.%09ld-%d", (long long)time.tv_sec, time.tv_nsec, (int)getpid());
    snprintf(draft, sizeof draft, ".%s", name);
    if (make_directories(directory))
        return -1;
    int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -1;
    int fd = openat(folder, draft, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int result = fd < 0 ? -1 : keep(fd, folder, draft, name), number = errno;
    if (fd >= 0) {
        close(fd);
        if (result)
            unlinkat(folder, draft, 0);
    }
    close(folder);
    return errno = number, result;
}

static int queue_delete(void)
{
    static const char *const needed[] = {"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"};
    char directory[4096];
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!*variable(needed[i], ""))
            return fail(INVALID_ENVIRONMENT, "required env variables missing", needed[i],
                        "DEL needs it; set it as the CNI spec's section 2 says.");
    if (queue_call(directory, sizeof directory)) {
        because(directory, errno);
        return fail(IO_FAILURE, "no podrail daemon answers, and this DEL cannot be kept for it", reason,
                    "Make room or correct the permissions there, or start the daemon; then call again.");
    }
    fprintf(stderr, "podrail: no daemon answers at %s (%s); DEL of %s %s is kept in %s for it\n", socket_path(),
            reason, variable("CNI_CONTAINERID", ""), variable("CNI_IFNAME", ""), directory);
    return 0;
}

static int unreachable(void)
{
    return !strcmp(command, "STATUS") ? NOT_AVAILABLE : TRY_AGAIN_LATER;
}

static int answer_alone(enum outcome outcome)
{
    char what[600], why[600];
    if (!strcmp(command, "DEL"))
        return queue_delete();
    snprintf(what, sizeof what, "%s %s", outcome == LOST ? "the connection was lost to the podrail daemon at"
             : "no podrail daemon answers at", plain(socket_path()));
    snprintf(why, sizeof why, "%s%s", reason, stopped ? "; the call was stopped by a signal" : "");
    return fail(unreachable(), what, why, "Look at the node daemon (podrail daemon), then call again.");
}

/* Copy the reply; an ADD whose result cannot be told is taken back, or nobody would call DEL for it. */
static int deliver(void)
{
    write_all(2, answer + reply.output, reply.notes);
    if (write_all(1, answer, reply.output) == 0)
        return reply.status;
    fprintf(stderr, "podrail: the answer could not be given: %s\n", strerror(errno));
    if (!strcmp(command, "ADD") && reply.status == 0) {
        command = "DEL";
        stopped = 0; /* nothing is to stop this one */
        if (setenv("CNI_COMMAND", command, 1) || collect_environment() || call() != ANSWERED)
            queue_delete();
    }
    return 1;
}

int main(int argc, char **argv)
{
    static const char versions[] = "{\"cniVersion\":\"" NEWEST "\",\"supportedVersions\":[";
    static const char *const supported[] = {VERSIONS};
    own_name = argc > 0 ? argv[0] : "";
    const char *slash = strrchr(own_name, '/'), *type = slash ? slash + 1 : own_name;
    int stdout_is_open = open_standard_streams();
    signal(SIGPIPE, SIG_IGN);
    command = variable("CNI_COMMAND", "");
    if (!*command)
        return fprintf(stderr, "CNI %s plugin of podrail\nCNI protocol versions supported: up to " NEWEST
                       "\n%s; the node daemon does the work\n", type, mark), 0;
    if (!strcmp(command, "VERSION")) {
        size_t size = snprintf(answer, sizeof answer, "%s", versions);
        for (size_t i = 0; i < sizeof supported / sizeof *supported; i++)
            size += snprintf(answer + size, sizeof answer - size, "%s\"%s\"", i ? "," : "", supported[i]);
        size += snprintf(answer + size, sizeof answer - size, "]}\n");
        return write_all(1, answer, size) ? 1 : 0;
    }
    if (!stdout_is_open && !strcmp(command, "ADD"))
        return fprintf(stderr, "podrail: stdout is closed, so nothing was done\n"), 1;
    const int stopping[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t all, unblocked; /* what a caller blocks is inherited */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &unblocked);
    for (int i = 0; i < 3; i++) {
        sigaction(stopping[i], &(struct sigaction){.sa_handler = on_signal}, NULL);
        sigdelset(&unblocked, stopping[i]);
    }
    read_input(&unblocked);
    sigprocmask(SIG_SETMASK, &unblocked, NULL);
    if (stopped) /* perhaps not all was read: a DEL is not to be kept so */
        return fail(unreachable(), "the call was stopped by a signal", "It had not begun", "Call again.");
    if (collect_environment())
        return fail(INVALID_ENVIRONMENT, "the environment is too large", "More than 1 MiB is not passed on",
                    "Call with a smaller environment.");
    enum outcome outcome = call();
    return outcome == ANSWERED ? deliver() : answer_alone(outcome);
}
