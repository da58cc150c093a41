/*
 * Knows what a power loss would leave of DuckDB's files. Loaded into a server by LD_PRELOAD.
 *
 * A process that is killed loses nothing that it wrote: the system still has it. A machine without power keeps only
 * what was synced. So beside each file this notes what that is:
 *
 *   desk.duckdb.wal.synced    inode and length of the log at its last sync
 *   desk.duckdb.synced        the file's content at its last sync
 *   desk.duckdb.wal.unlinked  the log that was removed last: its removal may not have reached the disk
 *
 * POWER_LOSS_SWALLOW=log (or file): a sync of it says that it was done and does nothing.
 * desk.duckdb.wal.failing: as long as there is a file of that name, a sync of the log fails, as on a disk with a defect.
 * POWER_LOSS_AT=N: the process is killed before the N-th sync or removal seen here; N.5: after it.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONGEST 4096

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int calls;

static void fail(const char *what) {
    perror(what);
    abort();
}

static int ends(const char *path, const char *end) {
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

static void beside(char *name, const char *path, const char *suffix) {
    if (snprintf(name, LONGEST, "%s%s", path, suffix) >= LONGEST) fail("a path is too long");
}

static void perhaps_die(double now) {
    const char *at = getenv("POWER_LOSS_AT");
    if (at && atof(at) == now) kill(getpid(), SIGKILL);
}

static int swallowed(const char *what) {
    const char *given = getenv("POWER_LOSS_SWALLOW");
    return given && strcmp(given, what) == 0;
}

static void note_length(const char *path, const struct stat *known) {
    char name[LONGEST], line[64];
    beside(name, path, ".synced");
    int file = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int length = snprintf(line, sizeof line, "%20lu %20lu\n", (unsigned long)known->st_ino, (unsigned long)known->st_size);
    if (file < 0 || pwrite(file, line, length, 0) != length) fail(name);
    close(file);
}

/* The open file is read through its own descriptor: closing a second one would drop DuckDB's lock on it. */
static void copy_content(int from, const char *name) {
    static char buffer[1 << 20];
    int to = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (to < 0) fail(name);
    off_t at = 0;
    ssize_t count;
    while ((count = pread(from, buffer, sizeof buffer, at)) > 0) {
        if (pwrite(to, buffer, count, at) != count) fail(name);
        at += count;
    }
    if (count < 0) fail("the file can't be read");
    close(to);
}

static int sync_log(int fd, const char *path, int (*real)(int)) {
    struct stat before;
    char failing[LONGEST];
    if (swallowed("log")) return 0;
    beside(failing, path, ".failing");
    if (access(failing, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    /* What is written while the sync runs may or may not be part of it. */
    if (fstat(fd, &before)) fail(path);
    int result = real(fd);
    if (result == 0) note_length(path, &before);
    return result;
}

static int sync_file(int fd, const char *path, int (*real)(int)) {
    char syncing[LONGEST], synced[LONGEST];
    if (swallowed("file")) return 0;
    beside(syncing, path, ".syncing");
    beside(synced, path, ".synced");
    copy_content(fd, syncing);
    int result = real(fd);
    if (result == 0 && rename(syncing, synced)) fail(synced);
    return result;
}

static int synced(int fd, const char *name) {
    char link[64], path[LONGEST];
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    int is_log = ends(path, ".duckdb.wal");
    if (!is_log && !ends(path, ".duckdb")) return real(fd);
    pthread_mutex_lock(&one_at_a_time);
    int number = ++calls;
    perhaps_die(number);
    int result = is_log ? sync_log(fd, path, real) : sync_file(fd, path, real);
    perhaps_die(number + 0.5);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

int fdatasync(int fd) {
    return synced(fd, "fdatasync");
}

int fsync(int fd) {
    return synced(fd, "fsync");
}

static int removed(const char *path, const char *name) {
    int (*real)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, name);
    if (!ends(path, ".duckdb.wal")) return real(path);
    char kept[LONGEST];
    pthread_mutex_lock(&one_at_a_time);
    int number = ++calls;
    perhaps_die(number);
    beside(kept, path, ".unlinked");
    real(kept);
    if (link(path, kept)) fail(kept);
    int result = real(path);
    perhaps_die(number + 0.5);
    pthread_mutex_unlock(&one_at_a_time);
    return result;
}

int unlink(const char *path) {
    return removed(path, "unlink");
}

int remove(const char *path) {
    return removed(path, "remove");
}
