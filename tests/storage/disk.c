/* A disk that can lose its cache: preloaded into a process, it keeps for everything below SHIM_ROOT what a power cut
 * would leave, and breaks on command. For each file the kept content is that of its last fsync or fdatasync
 * (sync_file_range keeps nothing); names are kept by an fsync of their folder. The tests build the image from SHIM_KEEP.
 *
 *   SHIM_CUT=n          the power goes at the n-th write or sync: the process ends at once
 *   SHIM_TORN=percent   of the 4 KiB blocks written since the last sync that reach the disk all the same (default 0)
 *   SHIM_SEED=n         chooses them
 *   SHIM_DEAF=1         fdatasync does nothing, as if nobody had called it
 *   SHIM_FAIL_SYNC=n    the n-th fsync or fdatasync fails with EIO; what it should have kept is gone
 *   SHIM_FAIL_WRITE=n   the n-th write fails with EIO
 *   SHIM_SPACE=bytes    writes fail with ENOSPC when this much has been written
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES 4096
#define BLOCK 4096

struct change { struct change *next; int id; int truncate; off_t at; size_t len; char data[]; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[4096], keep[4096];
static ino_t inode_of[FILES]; /* the file's id is its place; an inode used again gets a new id */
static int files;
static struct change *pending, **pending_end = &pending;
static long events, syncs, writes, written;
static long cut, torn, deaf, fail_sync, fail_write, space;
static uint64_t seed;

static long number(const char *name) { const char *v = getenv(name); return v ? atol(v) : 0; }

static uint64_t draw(void) {
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void die(const char *why) { dprintf(2, "shim: %s: %s\n", why, strerror(errno)); _exit(99); }

static int below_root(const char *path) {
    size_t n = strlen(root);
    return n && !strncmp(path, root, n) && (path[n] == '/' || !path[n]);
}

static int id_of(ino_t inode) {
    for (int id = files - 1; id >= 0; id--) if (inode_of[id] == inode) return id;
    return -1;
}

static int id_of_fd(int fd) {
    struct stat st;
    if (!*root || syscall(SYS_fstat, fd, &st) || !S_ISREG(st.st_mode)) return -1;
    return id_of(st.st_ino);
}

static int kept(int id) {
    char path[5000];
    snprintf(path, sizeof path, "%s/content.%d", keep, id);
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
    if (fd < 0) die(path);
    return fd;
}

static void add_file(ino_t inode) {
    if (files == FILES) die("too many files");
    inode_of[files] = inode;
    close(kept(files++));
}

/* Writes down the names in a folder: what an fsync of it keeps. `list` is "listing" (kept) or "now" (at the cut). */
static void keep_names(const char *list, const char *folder) {
    char path[5000], name[9000];
    struct stat st;
    if (stat(folder, &st)) die(folder);
    snprintf(path, sizeof path, "%s/%s.%lu", keep, list, st.st_ino);
    FILE *out = fopen(path, "we");
    DIR *dir = opendir(folder);
    if (!out || !dir) die(folder);
    for (struct dirent *e; (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
        if (stat(name, &st)) continue;
        if (S_ISDIR(st.st_mode)) fprintf(out, "folder %lu %s\n", st.st_ino, e->d_name);
        else fprintf(out, "file %d %s\n", id_of(st.st_ino), e->d_name);
    }
    closedir(dir);
    fclose(out);
}

/* Visits the folders below root: adds the files that are there (first = 1), or writes down the names as they are now. */
static void walk(const char *folder, int first) {
    char name[9000];
    DIR *dir = opendir(folder);
    if (!dir) return;
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
        if (stat(name, &st)) continue;
        if (S_ISDIR(st.st_mode)) { walk(name, first); continue; }
        if (!first) continue;
        add_file(st.st_ino);
        int from = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY, 0), to = kept(files - 1);
        static char buf[1 << 16];
        for (ssize_t n; (n = read(from, buf, sizeof buf)) > 0;) if (syscall(SYS_write, to, buf, n) != n) die("copy");
        close(from);
        close(to);
    }
    closedir(dir);
    keep_names(first ? "listing" : "now", folder);
}

static void change(int id, int truncate, const void *data, size_t len, off_t at) {
    struct change *c = malloc(sizeof *c + len);
    if (!c) die("memory");
    *c = (struct change){ NULL, id, truncate, at, len };
    if (len) memcpy(c->data, data, len);
    *pending_end = c;
    pending_end = &c->next;
}

static void keep_range(int fd, const struct change *c, size_t from, size_t to) {
    if (syscall(SYS_pwrite64, fd, c->data + from, to - from, c->at + from) != (ssize_t)(to - from)) die("keep");
}

/* Moves the changes of a file to what is kept (percent = 100), or drops them (0), or lets chance decide per block. */
static void settle(int id, long percent) {
    int fd = -1, of = -1;
    for (struct change **p = &pending; *p;) {
        struct change *c = *p;
        if (id >= 0 && c->id != id) { p = &c->next; continue; }
        if (of != c->id) { if (fd >= 0) close(fd); fd = kept(of = c->id); }
        if (c->truncate) {
            if ((long)(draw() % 100) < percent && syscall(SYS_ftruncate, fd, c->at)) die("truncate");
        } else {
            for (size_t from = 0, to; from < c->len; from = to) {
                to = percent >= 100 ? c->len : from + BLOCK - (c->at + from) % BLOCK;
                if (to > c->len) to = c->len;
                if ((long)(draw() % 100) < percent) keep_range(fd, c, from, to);
            }
        }
        *p = c->next;
        free(c);
    }
    for (pending_end = &pending; *pending_end;) pending_end = &(*pending_end)->next;
    if (fd >= 0) close(fd);
}

static void event(void) {
    if (!cut || ++events < cut) return;
    settle(-1, torn);
    walk(root, 0);
    _exit(137);
}

__attribute__((constructor)) static void start(void) {
    const char *r = getenv("SHIM_ROOT"), *k = getenv("SHIM_KEEP");
    if (!r || !k) return;
    snprintf(keep, sizeof keep, "%s", k);
    if (!realpath(r, root)) die(r);
    cut = number("SHIM_CUT"), torn = number("SHIM_TORN"), seed = number("SHIM_SEED"), deaf = number("SHIM_DEAF");
    fail_sync = number("SHIM_FAIL_SYNC"), fail_write = number("SHIM_FAIL_WRITE"), space = number("SHIM_SPACE");
    walk(root, 1);
    alarm(120); /* a process that hangs on a broken disk must not hang the tests */
}

/* A new folder has no names, even if it has the inode of an old one. */
int mkdir(const char *path, mode_t mode) {
    struct stat st;
    char listing[5000];
    int r = syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (*root && !r && !stat(path, &st)) {
        snprintf(listing, sizeof listing, "%s/listing.%lu", keep, st.st_ino);
        unlink(listing);
    }
    return r;
}

static int open_it(int at, const char *path, int flags, mode_t mode) {
    if (!*root || !(flags & O_CREAT)) return syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat st;
    int there = !fstatat(at, path, &st, 0), fd = syscall(SYS_openat, at, path, flags, mode), error = errno;
    char link[64], real[4096];
    if (fd >= 0 && !there && !syscall(SYS_fstat, fd, &st) && S_ISREG(st.st_mode)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, real, sizeof real - 1);
        if (n > 0 && (real[n] = 0, below_root(real))) add_file(st.st_ino);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define OPEN(name, params, at, path)                                                                                     \
    int name params {                                                                                                    \
        mode_t mode = 0;                                                                                                 \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); }       \
        return open_it(at, path, flags, mode);                                                                           \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD, path)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD, path)
OPEN(openat, (int at, const char *path, int flags, ...), at, path)
OPEN(openat64, (int at, const char *path, int flags, ...), at, path)

static ssize_t write_it(int fd, const void *data, size_t len, off_t at, int positioned) {
    int id = id_of_fd(fd);
    if (id < 0) return positioned ? syscall(SYS_pwrite64, fd, data, len, at) : syscall(SYS_write, fd, data, len);
    pthread_mutex_lock(&lock);
    event();
    ssize_t n = -1;
    int error = 0;
    if (++writes == fail_write) error = EIO;
    else if (space && written + (long)len > space) error = ENOSPC;
    else {
        if (!positioned) at = lseek(fd, 0, SEEK_CUR);
        n = syscall(SYS_pwrite64, fd, data, len, at);
        error = errno;
        if (n > 0) {
            written += n;
            change(id, 0, data, n, at);
            if (!positioned) lseek(fd, n, SEEK_CUR);
        }
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return n;
}
ssize_t write(int fd, const void *data, size_t len) { return write_it(fd, data, len, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return write_it(fd, data, len, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return write_it(fd, data, len, at, 1); }

int ftruncate64(int fd, off64_t len) {
    int id = id_of_fd(fd);
    pthread_mutex_lock(&lock);
    if (id >= 0) event();
    int r = syscall(SYS_ftruncate, fd, len), error = errno;
    if (id >= 0 && !r) change(id, 1, NULL, 0, len);
    pthread_mutex_unlock(&lock);
    errno = error;
    return r;
}
int ftruncate(int fd, off_t len) { return ftruncate64(fd, len); }

static int sync_it(int fd, int number) {
    int id = id_of_fd(fd), error = 0, r = 0;
    char link[64], real[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof real - 1);
    if (n < 0) n = 0;
    real[n] = 0;
    if (!below_root(real)) return syscall(number, fd);
    pthread_mutex_lock(&lock);
    event();
    if (number == SYS_fdatasync && deaf) {
    } else if (++syncs == fail_sync) {
        if (id >= 0) settle(id, 0);
        r = -1, error = EIO;
    } else {
        r = syscall(number, fd), error = errno;
        if (!r && id >= 0) settle(id, 100);
        else if (!r) keep_names("listing", real);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return r;
}
int fsync(int fd) { return sync_it(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_it(fd, SYS_fdatasync); }
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) { return 0; } /* keeps nothing, promises nothing */
